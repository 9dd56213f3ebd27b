"""The server on this machine, for every test here."""

from __future__ import annotations

from tests.core.loopback import server

__all__ = ["server"]
