"""Serving an application from a command."""

from socket import socket

import uvicorn
from fastapi import FastAPI


def serve(application: FastAPI, listening: socket) -> None:
    """Serve until a signal; whoever connects before the application is ready waits.

    The application's `state.ends()` says when: streams end then, for which the server would wait.
    """
    server = uvicorn.Server(uvicorn.Config(application, log_level="warning"))
    application.state.ends = lambda: server.should_exit
    with listening:
        server.run(sockets=[listening])
