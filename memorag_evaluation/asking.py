"""The clues for every question of a suite, asked for once and kept in a file.

In: a memory model, a suite. Out: clues by document and question. Knows nothing of retrieval: any number of
fusions can be tried on the clues of one asking.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeAlias

from tqdm import tqdm

from memorag_core.clues import recall
from memorag_core.errors import InputError
from memorag_core.memory.beacon import BeaconModel
from memorag_core.memory.beacon.usage import Usage
from memorag_core.memory.grounding import Passages
from memorag_core.settings import ClueSettings
from memorag_core.system.disk import taken
from memorag_core.types import Clue, Place
from memorag_evaluation.emptied import MemoryState, emptied_memory
from memorag_evaluation.suites import Suite

BATCH = 32
"""Questions asked, and written to the file of clues, at once."""

_ASKED = ClueSettings()
_ASKING = ("context", "tasks", "reply", "chat")  # of a model's prompts
_CHECKING = ("least_support",)  # settings that come into play after the memory was asked


class ClueFile:
    """Clues that were asked for, a JSON line for each question; a run that was broken off goes on from there.

    A line is found again only by the same model, usage, ratio, parts, text, question and settings of what is
    asked. How clues are parsed is not part of that: delete the file when that code changes.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path = None if path is None else taken(path, "The file of clues")
        self._kept: dict[tuple[str, str], tuple[Clue, ...]] = {}
        if path is not None and path.exists():
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                try:
                    row = json.loads(line)
                    clues = tuple(_clue(clue) for clue in row["clues"])
                    self._kept[row["key"], row["question"]] = clues
                except (ValueError, KeyError, TypeError) as error:
                    raise InputError(
                        f"{path}:{number} is no line of clues ({error!r}). Give another file, or delete "
                        "this one."
                    ) from error

    def get(self, key: str, question: str) -> tuple[Clue, ...] | None:
        """The clues kept for a question, or None."""
        return self._kept.get((key, question))

    def add(self, key: str, found: Mapping[str, tuple[Clue, ...]]) -> None:
        """Keep the clues of some questions."""
        self._kept |= {(key, question): clues for question, clues in found.items()}
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as lines:
                for question, clues in found.items():
                    row = {"key": key, "question": question, "clues": [asdict(clue) for clue in clues]}
                    lines.write(json.dumps(row, ensure_ascii=False) + "\n")


Recalled: TypeAlias = Mapping[tuple[str, str], tuple[Clue, ...]]
"""The clues by (id of the document, question)."""


def recall_clues(
    model: BeaconModel,
    suite: Suite,
    *,
    memory: MemoryState = "full",
    settings: ClueSettings = _ASKED,
    kept: ClueFile | None = None,
) -> Recalled:
    """The clues for every question of a suite: one memory for each document, asked in batches.

    Args:
        model: reads and is asked.
        suite: documents and questions.
        memory: of what was read, or emptied.
        settings: which clues are asked for, how many of each kind are kept, and whether spans are held to the
            text. An emptied memory, the control, is asked free: what holds a span to a text tells of it.
        kept: clues from earlier runs; what is asked now is added.
    """
    kept = kept if kept is not None else ClueFile(None)
    empty = emptied_memory(model) if memory == "emptied" else None
    settings = settings if empty is None else replace(settings, grounded=False)
    recalled: dict[tuple[str, str], tuple[Clue, ...]] = {}
    total = sum(1 for _ in suite.cases)
    name = "emptied" if empty is not None else "grounded" if settings.grounded else "free"
    with tqdm(total=total, desc=f"{suite.name}, {name}", unit=" questions", disable=None) as bar:
        for asked in suite.documents:
            key = _key(model, settings, asked.document.text if empty is None else None)
            questions = list(dict.fromkeys(case.question for case in asked.cases))
            missing = [question for question in questions if kept.get(key, question) is None]
            if missing:
                held = empty or model.memorize(asked.document, progress=False)
                passages = Passages.build([asked.document]) if settings.grounded else None
                for first in range(0, len(missing), BATCH):
                    some = missing[first : first + BATCH]
                    said = recall(some, held, model=model, settings=settings, passages=passages)
                    kept.add(key, {one.question: one.clues for one in said})
                    bar.update(len(some))
            for question in questions:
                recalled[asked.document.id, question] = kept.get(key, question) or ()
            bar.update(len(asked.cases) - len(missing))
    return recalled


def _key(model: BeaconModel, settings: ClueSettings, text: str | None) -> str:
    identity = {
        "model": dict(model.fingerprint),
        "usage": _asking(model.usage),
        "ratio": model.ratio,
        "capacity": model.capacity,
        "clues": {name: value for name, value in asdict(settings).items() if name not in _CHECKING},
        "text": text,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]


def _asking(usage: Usage) -> dict[str, Any]:
    """How a model is read to and asked; not the texts for generators, which change and are not asked here."""
    said = asdict(usage)
    if usage.prompts is not None:
        said["prompts"] = {name: said["prompts"][name] for name in _ASKING}
    return said


def _clue(row: Mapping[str, Any]) -> Clue:
    place = Place(**row["place"]) if row.get("place") else None
    return Clue(**{**row, "place": place})
