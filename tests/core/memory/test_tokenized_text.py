"""What a memory was made of: documents stand where the table says, characters are found among tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memorag_core import BeaconModel
from memorag_core.errors import StoreError
from memorag_core.memory.bundled import bundled_path
from memorag_core.memory.partitions import Cut
from memorag_core.memory.tokenized_text import MARKED, DocumentSpan, ReadText
from memorag_core.memory.tokenizer import Tokens

TEXTS = st.lists(st.text("ab é中\n.,", min_size=1, max_size=900).filter(str.strip), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    found = BeaconModel.from_pretrained(bundled_path(), device="cpu").tokens
    assert found is not None
    return found


@given(texts=TEXTS, fill=st.sampled_from([None, 16]), opening=st.integers(0, 3))
def test_every_document_stands_where_its_span_says(
    tokens: Tokens, texts: list[str], fill: int | None, opening: int
) -> None:
    ids, spans = tokens.encode_documents(texts, before=opening, opening=opening, fill=fill)
    assert spans[-1].end == len(ids)
    for text, span in zip(texts, spans, strict=True):
        own = tokens.encode_text(text)
        assert ids[span.start : span.start + len(own)].tolist() == own.tolist()
        assert len(span.marks) == -(-len(own) // MARKED)
        assert span.end == span.start + len(own) if fill is None else (span.end + opening) % fill == 0


@given(text=st.text("abc dé中\n", min_size=1, max_size=3000).filter(str.strip), data=st.data())
def test_the_tokens_of_some_characters_hold_them(tokens: Tokens, text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    ids, (span,) = tokens.encode_documents([text], before=0, opening=0, fill=None)
    first, last = span.tokens(start, end)
    assert 0 <= first <= last <= len(ids)
    # A few characters more on either side: where normalization folds white space, a border may lie beside it.
    held = tokens.decode(ids[max(first - 2, 0) : last + 2].tolist())
    words = text[start:end].split()
    assert all(word in held for word in words[1:-1])


def test_marks_of_a_long_text_are_those_of_the_text_as_a_whole(tokens: Tokens) -> None:
    text = " ".join(f"word{number}" for number in range(40_000))  # tokenized in several pieces
    ids, (span,) = tokens.encode_documents([text], before=0, opening=0, fill=None)
    for place in range(0, len(span.marks), 50):
        said = tokens.decode(ids[place * MARKED : place * MARKED + 9].tolist())
        assert text[span.marks[place] :].lstrip().startswith(said)


def packed(*ends: int) -> ReadText:
    starts = [0, *ends]
    spans = tuple(DocumentSpan(a, b, (0,)) for a, b in zip(starts, ends, strict=False))
    return ReadText(torch.arange(ends[-1], dtype=torch.int32), spans)


def test_packed_and_unpacked_it_is_the_same() -> None:
    text = ReadText(
        torch.arange(600, dtype=torch.int32), (DocumentSpan(0, 300, (0, 700)), DocumentSpan(302, 600, (0, 9)))
    )
    tensors, header = text.pack()
    again = ReadText.unpack(tensors, header, [400, 300], Cut(400, 100))
    assert torch.equal(again.ids, text.ids)
    assert again.documents == text.documents
    assert ReadText.unpack(tensors, header, [600], None).documents == text.documents


@pytest.mark.parametrize(
    ("tensors", "header"),
    [
        ({"ids": None}, {}),
        ({"ids": torch.arange(20)}, {}),
        ({"marks": torch.zeros(3, dtype=torch.int32)}, {}),
        ({"marks": torch.ones(2, dtype=torch.int32)}, {}),
        ({}, {"documents": None}),
        ({}, {"documents": []}),
        ({}, {"documents": [[0, 9, 1]]}),
        ({}, {"documents": [[0, 9, 1], [9, 21, 1]]}),
        ({}, {"documents": [[0, 9, 1], [8, 20, 1]]}),
        ({}, {"documents": [[0, 9, 1], [9, 20, -1]]}),
        ({}, {"documents": [[0, 9], [9, 20]]}),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tensors: dict[str, Any], header: dict[str, Any]) -> None:
    kept, table = packed(9, 20).pack()
    assert len(ReadText.unpack(kept, table, [20], None)) == 20
    with pytest.raises(StoreError, match="Memorize the text again"):
        ReadText.unpack({**kept, **tensors}, {**table, **header}, [20], None)


@pytest.mark.parametrize(("rows", "cut"), [([10, 10], None), ([20], Cut(10, 0)), ([10, 9], Cut(10, 0))])
def test_parts_that_are_not_those_of_the_text_are_refused(rows: list[int], cut: Cut | None) -> None:
    with pytest.raises(StoreError, match="parts"):
        ReadText.unpack(*packed(9, 20).pack(), rows, cut)


def test_the_first_documents_are_those_that_were_read_first() -> None:
    text = packed(9, 20, 31)
    assert (len(text.first(2)), text.first(2).documents) == (20, text.documents[:2])
    assert len(text.first(0)) == 0
