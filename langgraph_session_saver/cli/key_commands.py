"""The command that encrypts stored values: `rotate-key`."""

from __future__ import annotations

import os
from dataclasses import asdict

import typer
from langgraph.checkpoint.serde.base import CipherProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from langgraph_session_saver.cli.command import Call, command
from langgraph_session_saver.encoding.key_ring import KeyRing
from langgraph_session_saver.errors import DriverNotInstalledError, InvalidConfigError
from langgraph_session_saver.inspection.text import quantity

app = typer.Typer()

NEW, OLD = "LANGGRAPH_AES_KEY", "LANGGRAPH_AES_KEY_OLD"
"""The environment's variables of the keys, which a command line would show to other users."""


@command(app, "rotate-key", "rotate-key --url app.db")
def rotate_key(call: Call) -> None:
    """Encrypt all values with LANGGRAPH_AES_KEY: those in clear, and those of another key.

    The other key is LANGGRAPH_AES_KEY_OLD. Graphs may run meanwhile, if their savers have the same
    keys. If it is interrupted, run it again.
    """
    older = [_cipher(OLD)] if os.environ.get(OLD) else []
    serde = EncryptedSerializer(KeyRing(_cipher(NEW), *older))
    with (
        call.target.writing(serde=serde) as database,
        call.progress("re-encrypting") as progress,
    ):
        done = database.reencrypt(progress)
    call.answer(
        asdict(done),
        f"{quantity(done.changed, 'value')} re-encrypted, {done.encrypted:,} in clear encrypted, "
        f"{done.kept:,} had the key already",
    )


def _cipher(variable: str) -> CipherProtocol:
    key = os.environ.get(variable, "").encode()
    if len(key) not in {16, 24, 32}:
        raise InvalidConfigError(f"{variable} has {len(key)} bytes: set it to 16, 24 or 32 bytes")
    try:
        return EncryptedSerializer.from_pycryptodome_aes(key=key).cipher
    except ImportError as exc:
        raise DriverNotInstalledError("rotate-key needs pip install pycryptodome") from exc
