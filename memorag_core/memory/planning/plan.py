"""The plan itself: what a text will take by ratio, what fits, and the refusal when it does not.

In: what a model takes, a number of tokens, a budget. Out: a frozen ``MemoryPlan``, or a
``MemoryBudgetError`` that says what was needed, what there is, and what can be done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from memorag_core.errors import InputError
from memorag_core.memory.footprint import Footprint, Sized
from memorag_core.memory.planning.budget import MemoryBudgetError, available_memory, format_size, parse_size
from memorag_core.protocols import Memory
from memorag_core.types import Document

RATIOS = (2, 4, 8, 16, 32)
"""Ratios that are planned unless others are asked for: those of the released memory models."""

MOST_TOKENS = 1 << 40
"""Where the search for the longest text that fits ends."""

_HEADS = ("ratio", "slots", "parts", "memory", "reading", "asking", "needs", "most tokens", "fits")


@dataclass(frozen=True, slots=True)
class RatioPlan:
    """What a text takes at one ratio; all sizes in bytes.

    Attributes:
        ratio: raw tokens for one slot; 1 where every token is kept.
        trained: whether the model was made for it.
        slot_bytes: of one slot, 2 L H D numbers: keys and values of all layers.
        slots: over all parts.
        parts: that the text is read into.
        memory: of the memory: slots, and the window that is not full.
        reading: at most while reading, the memory included, weights left out.
        asking: at most while asking, the memory included, weights left out.
        needs: at most with the weights, whether reading or asking.
        most_tokens: the longest text that fits; 0 if not even one token does.
        fits: whether this text does.
    """

    ratio: int
    trained: bool
    slot_bytes: int
    slots: int
    parts: int
    memory: int
    reading: int
    asking: int
    needs: int
    most_tokens: int
    fits: bool


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What a text takes in memory, made before anything is read.

    Attributes:
        model: its name.
        kind: what it is a memory by.
        tokens: of the text, with what stands before it.
        questions: that are asked together.
        device: where the model computes.
        dtype: in what.
        quantize: how projections are held; None for in ``dtype``.
        weights: bytes of the weights.
        available: bytes that there are for weights and memory together.
        rows: a plan for each ratio, the lowest first.
    """

    model: str
    kind: Literal["beacon", "long-context"]
    tokens: int
    questions: int
    device: str
    dtype: str
    quantize: Literal["int8", "int4"] | None
    weights: int
    available: int
    rows: tuple[RatioPlan, ...]

    @property
    def fits(self) -> bool:
        """Whether the text fits at any of the ratios."""
        return self.best is not None

    @property
    def best(self) -> RatioPlan | None:
        """The lowest ratio that fits, which keeps most of the text; None if none does."""
        return next((row for row in self.rows if row.fits), None)

    def report(self) -> str:
        """A table to print, and below it what is best, or what can be done."""
        held = self.quantize or self.dtype
        lines = [
            f"{self.model} ({self.kind}, {held} on {self.device}): {self.tokens:,} tokens",
            f"weights {format_size(self.weights)}, available {format_size(self.available)}, "
            f"{format_size(self.rows[0].slot_bytes)} for a slot",
            "",
            *_table(self.rows),
            "",
        ]
        best = self.best
        fits = f"Fits at ratio {best.ratio} with {format_size(best.needs)}." if best else "Does not fit."
        return "\n".join([*lines, fits])

    def require(self, ratio: int | None = None) -> None:
        """Refuse what does not fit.

        Args:
            ratio: the one that is wanted; None for any.

        Raises:
            MemoryBudgetError: it does not fit; says what was found and what can be done.
        """
        rows = [row for row in self.rows if ratio in (None, row.ratio)]
        if not rows:
            raise InputError(
                f"The plan has no ratio {ratio!r}; expected one of its own. Plan with ratios=[...]."
            )
        if not any(row.fits for row in rows):
            raise _refusal(self, rows[-1])

    def remedies(self, ratio: int | None = None) -> tuple[str, ...]:
        """What can be done where the text does not fit, the least loss first.

        Args:
            ratio: the one that was wanted; None for any.
        """
        found = []
        wanted = next((row for row in self.rows if row.ratio == ratio), self.rows[-1])
        higher = next((row for row in self.rows if row.fits and row.ratio > wanted.ratio), None)
        if higher is not None:
            found.append(f"a higher ratio (ratio={higher.ratio} needs {format_size(higher.needs)})")
        lighter = {None: "quantize='int8' or 'int4'", "int8": "quantize='int4'"}.get(self.quantize)
        if lighter and self.kind == "beacon" and self.weights > self.available // 8:
            precise = ", or dtype='bfloat16'" if self.dtype == "float32" else ""
            found.append(f"quantized weights ({lighter}{precise}; they take {format_size(self.weights)})")
        if 0 < wanted.most_tokens < self.tokens:
            parts = -(-self.tokens // wanted.most_tokens)
            found.append(
                f"several memories ({parts} of up to {wanted.most_tokens:,} tokens, one on the device at a "
                "time, the others in RAM or on disk)"
            )
        found.append("a gist memory, which keeps what a small model condenses the text to")
        if self.device != "cpu":
            found.append("offloading memories that are not being asked to RAM")
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON-able values."""
        return {**asdict(self), "fits": self.fits}


def plan_of(
    model: Footprint,
    tokens: int,
    *,
    ratios: Sequence[int] | None = None,
    budget: int | str | None = None,
    questions: int = 1,
) -> MemoryPlan:
    """What a text will take with a model of this footprint; the arguments are those of ``plan_memory``.

    Raises:
        InputError: no tokens, or a ratio, budget or number of questions that cannot be.
    """
    _check_count("tokens", tokens)
    _check_count("questions", questions)
    available = _available(model, budget)
    return MemoryPlan(
        model=model.name,
        kind=model.kind,
        tokens=tokens,
        questions=questions,
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        quantize=model.quantize,
        weights=model.weights,
        available=available,
        rows=tuple(_row(model, ratio, tokens, questions, available) for ratio in _ratios(model, ratios)),
    )


def check_plan(
    model: Sized,
    tokens: int,
    memory: Memory | None = None,
    *,
    budget: int | str | None = None,
    questions: int = 1,
) -> None:
    """Refuse a text that will not fit, before anything of it is read.

    Args:
        model: a loaded model.
        tokens: to be read, what stands before the text included.
        memory: what they will continue; it is held already.
        budget: bytes for weights and memory together, or a size such as "16GB"; None for what is free.
        questions: that will be asked together.

    Raises:
        MemoryBudgetError: reading or asking will take more than there is; says what can be done.
        InputError: no tokens, or a number or budget that cannot be.
    """
    _check_count("tokens", tokens)
    _check_count("questions", questions)
    source = model.footprint()
    ratio = _ratio_of(model, tokens, memory)
    before = memory.tokens if memory is not None else 0
    held = memory.nbytes if memory is not None and budget is None else 0
    available = _available(source, budget) + held
    total = before + tokens
    reading = source.costs.appending(tokens, ratio, before=before)
    asking = source.costs.asking(total, ratio, questions=questions)
    needed = source.weights + max(reading, asking)
    if needed <= available:
        return
    plan = plan_of(source, total, budget=available, questions=questions, ratios=_from(source, ratio))
    raise _refusal(plan, replace(plan.rows[0], needs=needed))


def check_documents(model: Sized, documents: Sequence[Document], memory: Any = None) -> None:
    """Refuse documents that will not fit, before anything of them is read.

    Their tokens are counted only where that could matter: a tokenizer makes no more tokens than bytes, but
    for what fills windows.

    Args:
        model: a loaded model with a tokenizer.
        documents: to be read.
        memory: what they will continue.

    Raises:
        MemoryBudgetError: as ``check_plan``.
    """
    window = getattr(model, "window", 1)  # of beacon models
    most = sum(len(document.text.encode("utf-8", "surrogatepass")) + 8 + window for document in documents)
    try:
        check_plan(model, most, memory)
    except MemoryBudgetError:
        check_plan(model, model.tokens_of(documents, memory), memory)


def _refusal(plan: MemoryPlan, wanted: RatioPlan) -> MemoryBudgetError:
    return MemoryBudgetError(
        f"{plan.tokens:,} tokens at ratio {wanted.ratio} need {format_size(wanted.needs)} on {plan.device} "
        f"(weights {format_size(plan.weights)}, memory {format_size(wanted.memory)}); "
        f"{format_size(plan.available)} are available. Nothing was read. What can be done: "
        f"{'; '.join(plan.remedies(wanted.ratio))}.",
        needed=wanted.needs,
        available=plan.available,
    )


def _ratio_of(model: Sized, tokens: int, memory: Memory | None) -> int:
    """The ratio that tokens will be read at; a memory keeps its own."""
    if memory is not None:
        return int(getattr(memory, "ratio", 1))
    choose = getattr(model, "ratio_for", None)
    return int(choose(tokens)) if choose is not None else 1


def _available(source: Footprint, budget: int | str | None) -> int:
    if budget is not None:
        _check_count("budget", size := parse_size(budget))
        return size
    return available_memory(source.device) + (source.weights if source.loaded else 0)


def _from(source: Footprint, ratio: int) -> tuple[int, ...]:
    """A ratio and the higher ones, to name one that fits."""
    return (ratio, *(more for more in RATIOS if ratio < more <= source.costs.longest_ratio))


def _ratios(source: Footprint, ratios: Sequence[int] | None) -> tuple[int, ...]:
    longest = source.costs.longest_ratio
    if longest == 1:
        if ratios is not None and tuple(ratios) != (1,):
            raise InputError(
                f"The ratios are {list(ratios)}; a long-context model keeps every token. Leave them out."
            )
        return (1,)
    if ratios is None:
        return tuple(ratio for ratio in RATIOS if ratio <= longest)
    chosen = tuple(sorted(set(ratios)))
    wrong = [ratio for ratio in chosen if not _whole(ratio) or not 2 <= ratio <= longest]
    if wrong or not chosen:
        raise InputError(f"The ratios are {list(ratios)}; expected whole numbers from 2 to {longest}.")
    return chosen


def _row(source: Footprint, ratio: int, tokens: int, questions: int, available: int) -> RatioPlan:
    costs = source.costs

    def needs(count: int) -> int:
        most = max(costs.reading(count, ratio), costs.asking(count, ratio, questions=questions))
        return source.weights + most

    return RatioPlan(
        ratio=ratio,
        trained=ratio in costs.ratios,
        slot_bytes=costs.entry,
        slots=costs.slots(tokens, ratio),
        parts=costs.parts(tokens, ratio),
        memory=costs.memory(tokens, ratio),
        reading=costs.reading(tokens, ratio),
        asking=costs.asking(tokens, ratio, questions=questions),
        needs=needs(tokens),
        most_tokens=_most(needs, available),
        fits=needs(tokens) <= available,
    )


def _most(needs: Callable[[int], int], available: int) -> int:
    """The largest number of tokens that needs no more than there is, by halving."""
    fits, over = 0, MOST_TOKENS
    while over - fits > 1:
        middle = (fits + over) // 2
        if needs(middle) <= available:
            fits = middle
        else:
            over = middle
    return fits


def _table(rows: Sequence[RatioPlan]) -> list[str]:
    cells = [list(_HEADS)] + [
        [
            f"{row.ratio}" + ("" if row.trained else "*"),
            f"{row.slots:,}",
            f"{row.parts:,}",
            *(format_size(size) for size in (row.memory, row.reading, row.asking, row.needs)),
            f"{row.most_tokens:,}",
            "yes" if row.fits else "no",
        ]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
    if not all(row.trained for row in rows):
        lines.append("* not among the ratios that the model was trained with")
    return lines


def _check_count(name: str, count: object) -> None:
    if not _whole(count) or count < 1:  # type: ignore[operator]
        raise InputError(f"{name} is {count!r}; expected a whole number, 1 or more.")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
