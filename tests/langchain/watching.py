"""Handlers that write down what LangChain tells them, as a trace would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers import BaseTracer
from langchain_core.tracers.schemas import Run


class Traces(BaseTracer):
    """Keeps every run that has ended with all that is in it; a trace of LangSmith is made of the same."""

    def __init__(self) -> None:
        super().__init__()
        self.roots: list[Run] = []

    def _persist_run(self, run: Run) -> None:
        self.roots.append(run)

    @property
    def root(self) -> Run:
        (root,) = self.roots
        return root


class CustomEvents(BaseCallbackHandler):
    """Keeps the custom events of a name, with the runs that they belong to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.runs: list[UUID] = []
        self.data: list[dict[str, Any]] = []

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **_: Any) -> None:
        if name == self.name:
            self.runs.append(run_id)
            self.data.append(data)


def names(runs: Sequence[Run]) -> list[str]:
    return [run.name for run in runs]


def all_runs(run: Run) -> list[Run]:
    return [run, *(inner for child in run.child_runs for inner in all_runs(child))]
