"""What those share that hold a ``MemoRAG``: it is checked, and it is never shown or copied.

In: a MemoRAG. Out: the same one, left out of ``repr``, of dumps and of traces. Knows neither questions nor
documents.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from memorag_core import InputError, MemoRAG


class HoldsMemory(BaseModel):
    """Holds what was memorized.

    A copy, deep or not, holds the same memory. What is in a MemoRAG cannot be pickled, so neither can what
    holds it.

    Attributes:
        memorag: What was memorized. Left out of ``repr`` and of every serialized form.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, hide_input_in_errors=True)

    memorag: MemoRAG = Field(repr=False, exclude=True)

    @field_validator("memorag", mode="before")
    @classmethod
    def _is_memorag(cls, value: object) -> object:
        if isinstance(value, MemoRAG):
            return value
        raise InputError(
            f"'memorag' is a {type(value).__name__}; expected a memorag_core.MemoRAG that has memorized "
            "a text. MemoRAGRetriever.from_texts([...]), .from_documents([...]) and .load(path) make one."
        )

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        # Memories, models and stores are shared; what a copy may change is its own.
        changeable = {"tags", "metadata"} & self.__dict__.keys()
        return self.model_copy(update={name: deepcopy(getattr(self, name), memo) for name in changeable})
