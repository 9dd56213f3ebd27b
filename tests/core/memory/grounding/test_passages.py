"""The index over a corpus: what it finds, what it keeps when documents change, what it takes from a store."""

from __future__ import annotations

import json
import random
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core import Document, InputError, StoreError
from memorag_core.memory.grounding import Passages, passages
from memorag_core.types import Place
from tests.core.memory.grounding.corpora import corpora, evened, in_text, spans, texts

TALE = Document("The fox ran home.\nThe fox\n\nran far; the king's men saw the  fox ran home.", "tale")


def content(index: Passages) -> list[tuple[Any, ...]]:
    """All that an index holds, to be compared."""
    return [
        (
            [(document.id, document.text) for document in block.documents],
            block.data,
            block.starts.tolist(),
            block.ends,
            block.bases.tolist(),
            block.known.tolist(),
            block.characters.tolist(),
        )
        for block in index.blocks
    ]


def test_a_text_is_found_wherever_it_stands_in_reading_order() -> None:
    index = Passages.build([TALE, Document("A fox ran home.", "other")])
    places = index.places("fox ran home")
    assert [place.document_id for place in places] == ["tale", "tale", "other"]
    assert index.find("fox ran home") == places[0]
    assert index.places("fox ran home", limit=2) == places[:2]


def test_white_space_is_white_space_and_all_else_is_exact() -> None:
    index = Passages.build([TALE])
    place = index.find("  fox ran\tfar;\n")
    assert place is not None
    assert TALE.text[place.start : place.end] == "fox\n\nran far;"
    for absent in ("Fox ran", "fox ran, far", "ox ran", "fox r", "king", "s men", "home. The dog", "", " "):
        assert index.find(absent) is None, absent


@given(corpora)
def test_every_line_is_found_at_its_first_place_and_nothing_else_is(documents: list[Document]) -> None:
    index = Passages.build(documents)
    first: dict[str, list[Place]] = {}
    for document in documents:
        for start, end, line in spans(document.text):
            end_at = in_text(document.text, end - 1) + 1
            first.setdefault(line, []).append(Place(document.id, in_text(document.text, start), end_at))
    for line, places in first.items():
        assert index.places(line, limit=1000) == tuple(places)
    for document in documents:
        text = evened(document.text)
        for start in range(len(text)):
            for end in range(start + 1, min(len(text), start + 6) + 1):
                if evened(text[start:end]) not in first:
                    assert index.find(text[start:end]) is None


@given(corpora, st.data())
def test_a_part_of_the_corpus_has_the_lines_that_stand_in_it_from_end_to_end(
    documents: list[Document], data: st.DataObject
) -> None:
    ranges = []
    for number, document in enumerate(documents):
        for _ in range(data.draw(st.integers(0, 2))):
            start = data.draw(st.integers(0, len(document.text)))
            ranges.append((number, start, data.draw(st.integers(start, len(document.text)))))
    part = Passages.build(documents).within(ranges)
    expected: dict[str, list[Place]] = {}
    lines: set[str] = set()
    for number, document in enumerate(documents):
        for start, end, line in spans(document.text):
            lines.add(line)
            place = Place(document.id, in_text(document.text, start), in_text(document.text, end - 1) + 1)
            if any(
                number == inside and first <= place.start and place.end <= last
                for inside, first, last in ranges
            ):
                expected.setdefault(line, []).append(place)
    for line in lines:
        assert part.places(line, limit=1000) == tuple(expected.get(line, ()))


@given(st.lists(texts, min_size=1, max_size=5))
def test_a_part_that_is_cut_at_white_space_is_the_index_of_the_slice(words: list[str]) -> None:
    # One blank between slices: each of them begins and ends as a text of its own does.
    document = Document(" | ".join(words))
    ranges, start = [], 0
    for word in words:
        ranges.append((0, start, start + len(word)))
        start += len(word) + 3
    part = Passages.build([document]).within(ranges)
    slices = Passages.build([Document(word, str(number)) for number, word in enumerate(words)])
    assert [block.data for block in part.blocks] == [block.data for block in slices.blocks]
    if len(words) > 1:
        for ours, theirs in zip(part.blocks, slices.blocks, strict=True):
            assert ours.starts.tolist() == theirs.starts.tolist()
            assert ours.ends == theirs.ends


def test_the_whole_of_all_documents_is_the_index_itself() -> None:
    index = Passages.build([TALE])
    assert index.within([(0, 0, len(TALE.text))]) is index


def test_a_part_of_nothing_finds_nothing() -> None:
    assert Passages.build([TALE]).within([]).find("fox") is None
    assert Passages.build([TALE]).within([(0, 3, 3)]).find("fox") is None
    assert Passages.build([]).find("fox") is None


def many(count: int, seed: int = 0) -> list[Document]:
    draw = random.Random(seed)
    return [
        Document(
            " ".join(draw.choice("one two three four".split()) for _ in range(draw.randint(0, 9))), f"d{n}"
        )
        for n in range(count)
    ]


@given(
    st.integers(0, 40),
    st.lists(st.tuples(st.sampled_from(["change", "drop", "add", "swap"]), st.integers(0, 39)), max_size=5),
)
def test_what_changed_is_what_is_built_anew(count: int, edits: list[tuple[str, int]]) -> None:
    with patch.multiple(passages, SMALLEST=40, LARGEST=120, _USUAL=40):
        documents = many(count)
        before = Passages.build(documents)
        for verb, at in edits:
            if verb == "add":
                documents.insert(at, Document(f"new text {at}", f"new {len(documents)} {at}"))
            elif at < len(documents) and verb == "drop":
                del documents[at]
            elif at < len(documents) and verb == "change":
                documents[at] = Document(f"another {at} text", documents[at].id)
            elif at < len(documents):
                documents.append(documents.pop(at))
        after = before.changed(documents)
        assert content(after) == content(Passages.build(documents))


def test_blocks_of_unchanged_documents_are_kept() -> None:
    with patch.multiple(passages, SMALLEST=400, LARGEST=1200, _USUAL=400):
        documents = many(300)
        before = Passages.build(documents)
        assert len(before.blocks) > 6
        appended = before.changed([*documents, Document("one more", "more")])
        kept = [ours is theirs for ours, theirs in zip(before.blocks, appended.blocks, strict=False)]
        assert all(kept[:-1])
        documents[150] = Document("one changed text", documents[150].id)
        changed = before.changed(documents)
        old = {id(block) for block in before.blocks}
        assert sum(id(block) not in old for block in changed.blocks) <= 2


def test_blocks_are_neither_small_nor_large() -> None:
    with patch.multiple(passages, SMALLEST=400, LARGEST=1200, _USUAL=400):
        index = Passages.build([*many(200), Document("word " * 400, "long"), *many(1, seed=1)])
        sizes = [sum(len(document.text) for document in block.documents) for block in index.blocks]
        alone = [len(block.documents) == 1 for block in index.blocks]
        assert all(size <= 1200 or one for size, one in zip(sizes, alone, strict=True))


@given(corpora)
def test_what_is_packed_comes_back_the_same(documents: list[Document]) -> None:
    index = Passages.build(documents)
    arrays, header = index.pack()
    again = Passages.unpack(arrays, json.loads(json.dumps(header)), documents)
    assert content(again) == content(index)


def test_documents_behind_the_others_leave_most_arrays_as_they_are() -> None:
    with patch.multiple(passages, SMALLEST=400, LARGEST=1200, _USUAL=400):
        documents = many(300)
        before, header = Passages.build(documents).pack()
        after, _ = Passages.build([*documents, Document("one more", "more")]).pack()
        same = [name for name in before if np.array_equal(before[name], after[name])]
        assert len(before) == len(header["blocks"])
        assert len(same) >= len(before) - 1


def damages() -> dict[str, Any]:
    def cut(arrays: Any, header: Any) -> None:
        arrays["passages.00000"] = arrays["passages.00000"][:-1]

    def flip(arrays: Any, header: Any) -> None:
        arrays["passages.00000"] = arrays["passages.00000"][::-1].copy()

    def floats(arrays: Any, header: Any) -> None:
        arrays["passages.00000"] = arrays["passages.00000"].astype(np.float32)

    def lose(arrays: Any, header: Any) -> None:
        del arrays["passages.00000"]

    def old(arrays: Any, header: Any) -> None:
        header["format"] = 0

    def blocks(arrays: Any, header: Any) -> None:
        header["blocks"] *= 2

    def none(arrays: Any, header: Any) -> None:
        header["blocks"] = None

    def about(arrays: Any, header: Any) -> None:
        header["blocks"][0] = 7

    def place(number: int) -> Any:
        def forge(arrays: Any, header: Any) -> None:
            starts = arrays["passages.00000"].copy()
            starts[0] = number
            arrays["passages.00000"] = starts
            header["blocks"][0]["starts"] = passages._hash_array(starts)

        return forge

    found = (cut, flip, floats, lose, old, blocks, none, about)
    return {damage.__name__: damage for damage in found} | {f"place {at}": place(at) for at in (-1, 1, 10**6)}


@pytest.mark.parametrize("damage", damages().values(), ids=damages())
def test_damaged_arrays_are_refused(damage: Any) -> None:
    arrays, header = Passages.build([TALE]).pack()
    damage(arrays, header)
    with pytest.raises(StoreError, match=r"index of passages .*Passages\.build"):
        Passages.unpack(arrays, header, [TALE])


@pytest.mark.parametrize("other", [Document(TALE.text[:-1], "tale"), Document(TALE.text, "other")])
def test_arrays_of_other_documents_are_refused(other: Document) -> None:
    arrays, header = Passages.build([TALE]).pack()
    with pytest.raises(StoreError, match="other documents"):
        Passages.unpack(arrays, header, [other])


def test_a_header_that_is_none_is_refused() -> None:
    arrays, _ = Passages.build([TALE]).pack()
    with pytest.raises(StoreError, match="format None"):
        Passages.unpack(arrays, None, [TALE])  # type: ignore[arg-type]


def test_unpacking_leaves_the_arrays_as_they_are() -> None:
    arrays, header = Passages.build([TALE]).pack()
    mine = {name: array.copy() for name, array in arrays.items()}
    Passages.unpack(mine, header, [TALE])
    assert all(array.flags.writeable for array in mine.values())


@pytest.mark.parametrize("span", [(1, 0, 1), (-1, 0, 1), (0, -1, 1), (0, 2, 1), (0, 0, 10_000)])
def test_a_range_outside_of_the_documents_is_refused(span: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match=r"document number .*1 documents"):
        Passages.build([TALE]).within([span])


def test_a_part_has_no_parts_and_is_not_stored() -> None:
    part = Passages.build([TALE]).within([(0, 0, 9)])
    for asked in (lambda: part.within([]), lambda: part.changed([]), part.pack):
        with pytest.raises(InputError, match="parts of documents"):
            asked()


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="limit is 0"):
        Passages.build([TALE]).places("fox", limit=0)
