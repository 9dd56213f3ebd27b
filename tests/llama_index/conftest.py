"""The same small corpus and memory model as in the tests of the other adapter."""

from __future__ import annotations

from tests.langchain.conftest import DOCUMENTS, QUESTION, gated, memorag, model, remembering

__all__ = ["DOCUMENTS", "QUESTION", "gated", "memorag", "model", "remembering"]
