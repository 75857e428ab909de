"""Refused: why a value cannot be used, where a list of what is allowed does not say enough."""

from __future__ import annotations

__all__ = ["Refused"]


class Refused(ValueError):
    """A value that is refused; its text follows the value in the message and never holds a secret."""
