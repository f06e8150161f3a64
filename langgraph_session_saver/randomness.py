"""Random bits that no other process has, without asking the system for each.

`secrets` asks it every time, which takes as long as storing a small value. The generator here is of
this package alone, so an application that seeds Python's own does not make two processes alike,
and a forked process seeds it anew.
"""

from __future__ import annotations

import os
from random import Random

_random = Random()  # noqa: S311 - it has to be unlike others, not secret
bits = _random.getrandbits
"""A whole number of so many random bits."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)
