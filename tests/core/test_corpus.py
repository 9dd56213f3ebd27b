"""A corpus that lives: after any edits it is what reading the resulting documents afresh would give."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memorag_core import (
    BeaconModel,
    ChunkSettings,
    ClueSettings,
    Document,
    InputError,
    LongContextModel,
    MemoRAG,
    NothingMemorizedError,
    Reading,
)
from memorag_core.prompts import PromptSet
from tests.core.doubles import SentenceModel, WordEmbedder, asks
from tests.core.memory.beacon import conftest as beacon
from tests.core.memory.beacon.conftest import text_model as beacon_text_model
from tests.core.memory.longcontext import conftest as longcontext

WORDS = (
    "harbour lamp ledger storm wick stair captain whistle kettle reef keeper village oil bed schooner".split()
)
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=25).map(" ".join)
SETTINGS = ChunkSettings(size=40)

Model = BeaconModel | LongContextModel

SHORT = PromptSet.from_mapping({"chat": False, "context": ">{context}", "tasks": {"span": "?{question}"}})
MODELS: dict[str, Model] = {
    "beacon": beacon_text_model(capacity=None),
    "beacon in parts": beacon_text_model(capacity=48, overlap=16),
    "beacon, filled windows": beacon_text_model(pad_windows=True, capacity=48, overlap=8),
    "long context": longcontext.text_model("llama", prompts=SHORT),
    "long context in parts": longcontext.text_model(
        "llama", positions=256, capacity=100, overlap=20, prompts=SHORT
    ),
    "long context with windows": longcontext.text_model("gemma2", prompts=SHORT),
}


def assert_same(found: MemoRAG, expected: MemoRAG) -> None:
    assert found.documents == expected.documents
    assert found.chunks == expected.chunks
    same: Any = beacon if isinstance(found.model, BeaconModel) else longcontext
    same.assert_same_memory(found.memory, expected.memory)
    spans = [model.token_spans(rag.memory) for rag in (found, expected) if (model := rag.model)]  # type: ignore[attr-defined]
    assert spans[0] == spans[1]
    for question in ("harbour lamp", "the keeper of the reef"):
        one, other = (rag.retrieve(question, k=1, clues=[]) for rag in (found, expected))
        assert one == other


@contextmanager
def tokens_run(model: Model) -> Iterator[list[int]]:
    """Counts the raw tokens that pass the model's embedding."""
    counted: list[int] = []

    def count(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        counted.append(arguments[0].numel())

    hook = model.model.get_input_embeddings().register_forward_pre_hook(count)
    try:
        yield counted
    finally:
        hook.remove()


@pytest.mark.parametrize("kind", MODELS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_after_any_edits_it_is_what_a_fresh_reading_of_the_documents_gives(
    kind: str, data: st.DataObject
) -> None:
    model = MODELS[kind]
    order: Literal["given", "changing_last"] = data.draw(st.sampled_from(["given", "changing_last"]))
    rag = MemoRAG(model, chunks=SETTINGS, order=order, progress=False)
    rag.memorize([Document(data.draw(texts), id=name) for name in "abcd"])
    for step in range(data.draw(st.integers(1, 4))):
        ids = [document.id for document in rag.documents]
        edit = data.draw(st.sampled_from(["add", "update", "upsert", "delete"]))
        if edit == "add":
            rag.memorize(Document(data.draw(texts), id=f"new {step}"))
        elif edit == "upsert":
            some = data.draw(st.lists(st.sampled_from([*ids, "put", "put too"]), min_size=1, unique=True))
            rag.upsert([Document(data.draw(texts), id=name) for name in some])
            assert {*ids, *some} == {document.id for document in rag.documents}
        elif edit == "update":
            changed = [
                Document(data.draw(texts), id=name)
                for name in data.draw(st.lists(st.sampled_from(ids), min_size=1, max_size=2, unique=True))
            ]
            expected = rag.tokens_to_update(changed)
            with tokens_run(model) as counted:
                rag.update(changed)
            assert_read_as_said(counted, expected, rag)
        elif len(ids) > 1:
            gone = data.draw(st.sampled_from(ids))
            expected = rag.tokens_to_delete(gone)
            with tokens_run(model) as counted:
                rag.delete(gone)
            assert_read_as_said(counted, expected, rag)
    assert_same(rag, MemoRAG(model, chunks=SETTINGS, progress=False).memorize(rag.documents))


def assert_read_as_said(counted: list[int], expected: Reading, rag: MemoRAG) -> None:
    """What stands before the text of a part comes with it; beacons are embedded elsewhere."""
    opening = len(rag.model._opening) * rag.memory.parts  # type: ignore[attr-defined]
    assert expected.tokens <= sum(counted) <= expected.tokens + opening
    assert 0 <= expected.again <= expected.tokens


TWO = [Document("lamp", id="a"), Document("oil", id="b")]


def lines(count: int, word: str = "lamp") -> str:
    return f"{word} " * count


def test_an_edit_reads_from_its_window_on_and_no_more() -> None:
    model = MODELS["beacon"]
    rag = MemoRAG(model, progress=False).memorize([Document(lines(8, name), id=name) for name in "abc"])
    (_, (start, _), (_, end)) = rag.model.token_spans(rag.memory)  # type: ignore[attr-defined]
    reading = rag.tokens_to_delete("c")
    assert reading.tokens == reading.again < model.window  # type: ignore[union-attr]
    assert rag.tokens_to_update(Document(lines(8, "z"), id="c")).tokens < end - start
    assert rag.tokens_to_update(Document(lines(8, "z"), id="a")).tokens >= end - model.window  # type: ignore[union-attr]


def test_what_changes_often_comes_to_stand_last_and_is_cheap_to_change_again() -> None:
    model = MODELS["beacon"]
    rag = MemoRAG(model, order="changing_last", progress=False)
    rag.memorize([Document(lines(20, name), id=name) for name in "abcde"])
    first = rag.tokens_to_update(Document(lines(20, "v"), id="b"))
    rag.update(Document(lines(20, "v"), id="b"))
    again = rag.tokens_to_update(Document(lines(20, "w"), id="b"))
    assert [document.id for document in rag.documents] == ["a", "c", "d", "e", "b"]
    assert [row.changes for row in rag.table()] == [0, 0, 0, 0, 1]
    assert again.tokens < first.tokens / 2
    rag.update(Document(lines(20, "w"), id="b")).update(Document(lines(20, "x"), id="c"))
    assert [document.id for document in rag.documents] == ["a", "d", "e", "c", "b"]


def test_an_update_without_a_change_and_one_of_metadata_alone_read_nothing() -> None:
    model = MODELS["beacon in parts"]
    rag = MemoRAG(model, progress=False).memorize([Document(lines(9, name), id=name) for name in "abc"])
    with tokens_run(model) as counted:
        rag.update(rag.documents[0])
        rag.update(Document(rag.documents[1].text, "b", {"year": 2026}))
    assert counted == []
    assert rag.documents[1].metadata == {"year": 2026}
    assert {chunk.document_id: chunk.metadata for chunk in rag.chunks}["b"] == {"year": 2026}


def test_an_upsert_is_one_reading_and_all_or_nothing() -> None:
    model = MODELS["beacon in parts"]
    rag = MemoRAG(model, progress=False)
    rag.upsert([Document(lines(9, name), id=name) for name in "ab"])  # into nothing
    changed, new = Document(lines(9, "c"), id="b"), Document(lines(9, "d"), id="d")
    other = MemoRAG(model, progress=False).memorize(rag.documents)
    with tokens_run(model) as counted:
        rag.upsert([new, changed])
    assert [document.id for document in rag.documents] == ["a", "b", "d"]
    with tokens_run(model) as in_two:
        other.update(changed).memorize(new)
    assert_same(rag, other)
    assert sum(counted) <= sum(in_two)
    before = rag.documents
    with pytest.raises(InputError, match="is empty"):
        rag.upsert([Document(lines(9, "e"), id="a"), Document(" ", id="e")])
    assert rag.documents == before


def test_texts_that_have_vectors_are_not_encoded_again() -> None:
    embedder = WordEmbedder()
    rag = MemoRAG(SentenceModel(), embedder=embedder, chunks=SETTINGS, progress=False)
    rag.memorize([Document(f"{name} keeps the lamp of {name}.", id=name) for name in ("Ada", "Bo", "Cy")])
    encoded = len(embedder.encoded)
    rag.update(Document("Bo sold the lamp to Dee.", id="Bo")).delete("Ada")
    assert embedder.encoded[encoded:] == ["Bo sold the lamp to Dee."]
    fresh = MemoRAG(rag.model, embedder=WordEmbedder(), chunks=SETTINGS, progress=False)
    fresh.memorize(rag.documents)
    assert rag.retrieve("Who sold it?", k=2) == fresh.retrieve("Who sold it?", k=2)


def test_a_model_that_cannot_be_cut_back_reads_the_corpus_again_and_says_that_it_cannot_tell() -> None:
    rag = MemoRAG(SentenceModel(), progress=False)
    rag.memorize([Document(f"{name} mends clocks.", id=name) for name in ("Ada", "Bo")])
    rag.update(Document("Ada heals the sick.", id="Ada")).delete("Bo")
    assert rag.memory == rag.model.memorize([Document("Ada heals the sick.", id="Ada")])
    with pytest.raises(InputError, match="cannot tell"):
        rag.tokens_to_delete("Ada")
    assert [(row.id, row.tokens, row.parts) for row in rag.table()] == [("Ada", None, None)]


def test_when_the_last_document_is_deleted_there_is_nothing_to_ask_and_new_ones_can_come() -> None:
    rag = MemoRAG(MODELS["beacon"], progress=False).memorize(
        [Document("lamp", id="a"), Document("oil", id="b")]
    )
    rag.delete(["a", "b"])
    assert (rag.documents, rag.chunks, rag.memory, rag.table()) == ((), (), None, ())
    for ask in (
        lambda: rag.retrieve("lamp?"),
        lambda: rag.delete("a"),
        lambda: rag.update(Document("x", "a")),
    ):
        with pytest.raises(NothingMemorizedError):
            ask()
    assert rag.memorize("reef").documents[0].text == "reef"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rag: rag.update(Document("new", id="z")), "no document with the id 'z'"),
        (lambda rag: rag.update([Document("new", id="a"), Document("new", id="a")]), "'a'"),
        (lambda rag: rag.update(Document(" ", id="a")), "expected"),
        (lambda rag: rag.update([]), "no documents"),
        (lambda rag: rag.delete("z"), "the corpus has 'a', 'b'"),
        (lambda rag: rag.delete([]), "none was given"),
        (lambda rag: rag.delete(["a", "z"]), "'z'"),
        (lambda rag: rag.tokens_to_delete("z"), "'z'"),
        (lambda rag: rag.tokens_to_update(Document("new", id="z")), "'z'"),
    ],
    ids=["unknown", "twice", "blank", "none", "deleted", "no id", "one of two", "to delete", "to update"],
)
def test_a_change_that_cannot_be_is_refused_and_nothing_has_changed(change: Any, said: str) -> None:
    rag = MemoRAG(MODELS["beacon"], progress=False).memorize(
        [Document("lamp", id="a"), Document("oil", id="b")]
    )
    before = (rag.documents, rag.chunks, rag.memory)
    with pytest.raises(InputError, match=said):
        change(rag)
    assert (rag.documents, rag.chunks, rag.memory) == before


def test_a_change_that_fails_half_way_leaves_documents_chunks_and_memory_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = beacon_text_model(capacity=48, overlap=16)
    rag = MemoRAG(model, progress=False).memorize([Document(lines(9, name), id=name) for name in "abc"])
    before, kept = (rag.documents, rag.chunks, rag.memory), beacon.snapshot(rag.memory)

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    hook = model.model.get_input_embeddings().register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        rag.update(Document("x", id="a"))
    with pytest.raises(RuntimeError, match="out of memory"):
        rag.delete("a")
    with pytest.raises(RuntimeError, match="out of memory"):
        rag.memorize("y")
    hook.remove()
    assert (rag.documents, rag.chunks, rag.memory) == before
    beacon.assert_close(beacon.state(rag.memory), kept, exactly=True)
    rag.update(Document(lines(5, "new"), id="b"))
    assert_same(rag, MemoRAG(model, progress=False).memorize(rag.documents))


def test_threads_and_tasks_that_ask_while_it_changes_see_one_state_or_the_other() -> None:
    clues = ClueSettings(kinds=("span",), max_new_tokens=4)
    rag = MemoRAG(MODELS["beacon in parts"], clues=clues, progress=False)

    def version(number: int) -> list[Document]:
        return [Document(f"{name} lamp {number}", id=name) for name in ("harbour", "reef")]

    rag.memorize(version(0))
    done = threading.Event()

    def ask() -> int:
        asked = 0
        while not done.is_set() or not asked:
            found = {piece.chunk.text.split()[-1] for piece in rag.retrieve("lamp", k=2)}
            assert len(found) == 1, found
            asked += 1
        return asked

    def change() -> None:
        try:
            for number in range(1, 8):
                rag.update(version(number))
        finally:
            done.set()

    async def tasks() -> list[int]:
        asking = [asyncio.to_thread(ask) for _ in range(4)]
        *asked, _ = await asyncio.gather(*asking, asyncio.to_thread(change))
        return [count for count in asked if count is not None]

    with ThreadPoolExecutor(2) as pool:
        threads = [pool.submit(ask) for _ in range(2)]
        assert min(asyncio.run(tasks())) > 0
        assert all(thread.result() > 0 for thread in threads)
    assert {document.text.split()[-1] for document in rag.documents} == {"7"}


@pytest.mark.parametrize("kind", MODELS)
def test_the_table_says_where_documents_lie(kind: str) -> None:
    rag = MemoRAG(MODELS[kind], chunks=SETTINGS, progress=False)
    rag.memorize([Document(lines(30, name), id=name, metadata={"n": name}) for name in ("lamp", "oil")])
    rows = rag.table()
    assert [(row.id, row.metadata["n"], row.characters) for row in rows] == [
        ("lamp", "lamp", 150),
        ("oil", "oil", 120),
    ]
    assert sum(row.chunks for row in rows) == len(rag.chunks)
    first, second = (row.tokens for row in rows)
    assert first is not None
    assert second is not None
    assert 0 == first[0] < first[1] <= second[0] < second[1] <= rag.memory.tokens
    assert rows[0].parts is not None
    assert rows[1].parts is not None
    for row in rows:
        assert row.slots is not None
        assert row.tokens is not None
        assert row.parts is not None
        ratio = getattr(rag.memory, "ratio", 1)
        if row.parts[1] - row.parts[0] == 1:  # wholly in one part
            assert abs((row.slots[1] - row.slots[0]) * ratio - (row.tokens[1] - row.tokens[0])) < 2 * ratio
        assert 0 <= row.slots[0] < row.slots[1]
    assert rows[0].slots is not None
    assert rows[0].slots[0] == len(rag.model._opening) // getattr(rag.memory, "ratio", 1)  # type: ignore[attr-defined]
    assert (rows[0].parts[0], rows[1].parts[1]) == (0, rag.memory.parts)


@pytest.mark.parametrize("kind", ["beacon in parts", "long context in parts"])
def test_questions_that_are_put_to_some_parts_get_what_those_said(kind: str) -> None:
    model: Any = MODELS[kind]
    rag = MemoRAG(model, progress=False).memorize([Document(lines(7, name), id=name) for name in WORDS[:3]])
    assert 2 <= rag.memory.parts <= 8  # of more parts, only those speak that know most
    questions = ["Where is the lamp?", "Where is the reef?", "Who keeps the harbour?"]
    everything = model.recollect(asks(questions, "span"), rag.memory, max_new_tokens=6)
    wanted = [[1, 0], None, {rag.memory.parts - 1}]
    found = model.recollect(asks(questions, "span", parts=wanted), rag.memory, max_new_tokens=6)
    for said, whole, parts in zip(found, everything, wanted, strict=True):
        expected = [one for one in whole if parts is None or one.part in parts]
        assert sorted((one.part, one.text) for one in said) == sorted(
            (one.part, one.text) for one in expected
        )
    with pytest.raises(InputError, match="memory has 0 to"):
        model.recollect(asks(questions[:1], "span", parts=[[99]]), rag.memory)


def test_a_question_that_names_a_document_is_put_to_the_parts_that_hold_it() -> None:
    model: Any = MODELS["beacon in parts"]
    rag = MemoRAG(model, chunks=SETTINGS, clues=ClueSettings(kinds=("span",), max_parts=2), progress=False)
    rag.memorize([Document(lines(30, name), id=name) for name in WORDS[:6]])
    for number, word in enumerate(WORDS[:6]):
        held = model.parts_of(rag.memory, number, 0, 30 * len(word))
        assert {clue.part for clue in rag.clues(f"the {word}?")} <= {*held}
    # One that finds nothing is put to all parts.
    everywhere = MemoRAG(model, chunks=SETTINGS, clues=ClueSettings(kinds=("span",)), progress=False)
    everywhere.memorize(rag.documents)
    assert rag.clues("zebra?") == everywhere.clues("zebra?")


def test_a_model_that_cannot_be_asked_in_part_is_not() -> None:
    rag = MemoRAG(SentenceModel(capacity=1), clues=ClueSettings(max_parts=1), progress=False)
    rag.memorize(["Ada mends clocks.", "Bo heals the sick."])
    with pytest.raises(InputError, match="max_parts"):
        rag.clues("Who mends clocks?")
