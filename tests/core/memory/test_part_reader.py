"""Reading by parts, whatever reads the rows: at once equals appended, and taken back equals never read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memorag_core.errors import InputError
from memorag_core.memory.beacon import BeaconModel
from memorag_core.memory.beacon import partitions as beacon
from memorag_core.memory.beacon.partitions import BeaconParts
from memorag_core.memory.beacon.schedule import Stream
from memorag_core.memory.longcontext import LongContextModel
from memorag_core.memory.longcontext import partitions as longcontext
from memorag_core.memory.longcontext.partitions import LongContextParts
from memorag_core.memory.part_reader import PartReader
from memorag_core.memory.partitions import Cut
from memorag_core.memory.tokenized_text import DocumentSpan
from tests.core.memory.beacon.conftest import beacon_model
from tests.core.memory.longcontext.conftest import causal_model, random_ids
from tests.core.memory.packed import assert_same, packed
from tests.rules import examples

WINDOW = 8


@dataclass(frozen=True)
class Kind:
    """A kind of memory: its model and its reader of parts, for a ratio or a chunk; what may be read again."""

    model: Callable[[int], Any]
    reader: Callable[..., PartReader[Any, Any]]
    rereads: Callable[[int, int], bool]  # (tokens, of a full part)


@cache
def _beacon(ratio: int) -> BeaconModel:
    return beacon_model(window=WINDOW, ratio=ratio)


@cache
def _longcontext(family: str) -> LongContextModel:
    return LongContextModel(causal_model(family), chunk=16)


def _beacon_parts(model: BeaconModel, ratio: int, **rest: Any) -> BeaconParts:
    return BeaconParts(model._host, Stream(WINDOW, ratio), **rest)


def _longcontext_parts(model: LongContextModel, chunk: int, **rest: Any) -> LongContextParts:
    return LongContextParts(model._host, chunk=chunk, **rest)


KINDS = {
    "beacon": Kind(_beacon, _beacon_parts, lambda tokens, _: tokens < WINDOW),
    "llama": Kind(lambda _: _longcontext("llama"), _longcontext_parts, lambda tokens, _: tokens == 0),
    # Some of its layers have windows: what they have dropped is read again with all of its part.
    "gemma2": Kind(lambda _: _longcontext("gemma2"), _longcontext_parts, lambda tokens, full: tokens <= full),
}

kinds = st.sampled_from([*KINDS])
heads = st.integers(0, 3)


def draw_cut(data: st.DataObject, kind: str, head: int) -> Cut | None:
    """A beacon part ends with a window; there may be no parts at all."""
    if kind == "beacon":
        windows = data.draw(st.none() | st.integers(1, 3), label="windows")
        if windows is None:
            return None
        capacity = windows * WINDOW - head
    else:
        capacity = data.draw(st.integers(2, 24) | st.integers(25, 400), label="capacity")
    return Cut(capacity, min(data.draw(st.integers(0, 23), label="overlap"), capacity - 1))


def draw_step(data: st.DataObject, kind: str) -> int:
    """Raw tokens to a slot, or the tokens of a chunk."""
    return data.draw(st.sampled_from([3, 4]) if kind == "beacon" else st.integers(1, 70), label="step")


@torch.inference_mode()
def read(
    reader: PartReader[Any, Any], pieces: list[torch.Tensor], memory: Any = None, *, head: int = 0
) -> Any:
    """Read pieces as a document each."""
    before = memory.tokens - head if memory is not None else 0
    ends = [before, *(before + end for end in accumulate(map(len, pieces)))]
    spans = [DocumentSpan(start, end, (0,)) for start, end in pairwise(ends)]
    return reader.read(memory, torch.cat(pieces), spans)


def small_blocks(patched: pytest.MonkeyPatch, rows: int) -> None:
    """Blocks of few rows, and few tokens at once, so that short texts fill many."""
    patched.setattr(beacon, "BLOCK_ROWS", rows)
    patched.setattr(beacon, "READ_TOKENS_CPU", 2 * WINDOW)
    patched.setattr(longcontext, "BLOCK_ROWS", rows)


@settings(max_examples=examples(50))
@given(
    kind=kinds,
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    head=heads,
    rows=st.integers(1, 4),
    data=st.data(),
)
def test_reading_at_once_equals_appending_and_every_part_is_read_as_alone(
    kind: str, lengths: list[int], head: int, rows: int, data: st.DataObject
) -> None:
    cut, step = draw_cut(data, kind, head), draw_step(data, kind)
    model, opening = KINDS[kind].model(step), tuple(range(head))
    ids = random_ids(1, sum(lengths), seed=sum(lengths))[0]
    told: list[int] = []
    reader = KINDS[kind].reader(model, step, cut=cut, head=opening, progress=told.append)
    whole = cut or Cut(len(ids) + 1, 0)
    with pytest.MonkeyPatch.context() as patched:
        small_blocks(patched, rows)
        once = read(reader, [ids], head=head)
        assert sum(told) - whole.parts(len(ids)) * head == whole.to_read(0, len(ids))
        memory, at = None, 0
        for length in lengths:
            told.clear()
            before = packed(model, memory) if memory is not None else None
            longer = read(reader, [ids[at : at + length]], memory, head=head)
            if before is not None:
                assert_same(packed(model, memory), before, exactly=True)
                fresh = whole.parts(at + length) - whole.parts(at)
                assert sum(told) - fresh * head == whole.to_read(at, at + length)
            memory, at = longer, at + length
    assert memory is not None
    assert (memory.tokens, memory.parts, memory.nbytes) == (once.tokens, once.parts, once.nbytes)
    assert (once.tokens, once.parts) == (head + len(ids), whole.parts(len(ids)))
    for row, (start, end) in enumerate(whole.spans(len(ids))):
        part = torch.cat((torch.tensor(opening, dtype=torch.long), ids[start:end]))
        alone = packed(model, model.feed(part).memory)
        for one in (memory, once):
            assert_same(packed(model, one.row(row)), alone)


@settings(max_examples=examples(80))
@given(
    kind=kinds,
    lengths=st.lists(st.integers(1, 60), min_size=2, max_size=6),
    kept=st.integers(1, 5),
    head=heads,
    rows=st.integers(1, 4),
    data=st.data(),
)
def test_cut_back_and_read_on_it_is_what_reading_the_result_afresh_gives(
    kind: str, lengths: list[int], kept: int, head: int, rows: int, data: st.DataObject
) -> None:
    kept = min(kept, len(lengths) - 1)
    cut, step = draw_cut(data, kind, head), draw_step(data, kind)
    model = KINDS[kind].model(step)
    ids, other = random_ids(1, sum(lengths))[0], random_ids(1, 25, seed=5)[0]
    stay = list(ids[: sum(lengths[:kept])].split(lengths[:kept]))
    told: list[int] = []

    def reader(**rest: Any) -> PartReader[Any, Any]:
        return KINDS[kind].reader(model, step, cut=cut, head=tuple(range(head)), **rest)

    with pytest.MonkeyPatch.context() as patched:
        small_blocks(patched, rows)
        memory = read(reader(), list(ids.split(lengths)), head=head)
        before = packed(model, memory)
        with torch.inference_mode():
            cut_short = reader(progress=told.append).cut_back(memory, kept)
        again = reader().to_reread(memory, kept)
        assert sum(told) == again
        assert KINDS[kind].rereads(again, head + (cut.capacity if cut is not None else len(ids)))
        assert_same(packed(model, cut_short), packed(model, read(reader(), stay, head=head)))
        assert_same(
            packed(model, read(reader(), [other], cut_short, head=head)),
            packed(model, read(reader(), [*stay, other], head=head)),
        )
        assert_same(packed(model, memory), before, exactly=True)
        assert cut_short.text is not None
        assert len(cut_short.text.documents) == kept


@pytest.mark.parametrize("kind", KINDS)
def test_a_memory_that_feed_made_is_not_cut_into_parts(kind: str) -> None:
    model = KINDS[kind].model(4)
    reader = KINDS[kind].reader(model, 4, cut=Cut(16, 0))
    with pytest.raises(InputError, match=r"feed\(\)"):
        read(reader, [random_ids(1, 5)[0]], model.feed(random_ids(1, 5)).memory)
