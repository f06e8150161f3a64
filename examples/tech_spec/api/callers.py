"""What the routes ask for: the roles of the caller, and the application's resources."""

from typing import Annotated

from fastapi import Depends, Request

from examples.tech_spec.resources import Resources
from examples.web.tokens import Identity, one_of

EDITOR, VIEWER = "editor", "viewer"

Editor = Annotated[Identity, Depends(one_of(EDITOR))]
"""The type of a parameter of a route that starts or decides something."""

Viewer = Annotated[Identity, Depends(one_of(VIEWER, EDITOR))]
"""The type of a parameter of a route that reads."""


def _resources(request: Request) -> Resources:
    found: Resources = request.app.state.resources
    return found


Shared = Annotated[Resources, Depends(_resources)]
"""The type of a route's parameter that has the resources."""
