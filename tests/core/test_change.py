"""Changes at once, and changes that put and forget: each is one look, one reading, one save, or nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from memorag_core import Change, ChunkSettings, Document, InputError, MemoRAG, NothingMemorizedError, Turn
from memorag_core.conversation import Conversation
from memorag_core.store import load_store
from tests.core.at_once import THREADS, at_once
from tests.core.doubles import SentenceModel, WordEmbedder

EACH = 5  # changes of a thread


def memory(**choices: Any) -> MemoRAG:
    return MemoRAG(SentenceModel(), progress=False, **choices)


def held(rag: MemoRAG) -> dict[str, str]:
    return {document.id: document.text for document in rag.documents}


def fact(number: object) -> str:
    return f"Fact {number} is true."


ADDING: dict[str, Callable[[MemoRAG, str], object]] = {
    "a text": lambda rag, text: rag.memorize(text),
    "a document": lambda rag, text: rag.memorize(Document(text)),
    "texts": lambda rag, text: rag.memorize([text]),
    "an upsert": lambda rag, text: rag.upsert(Document(text)),
    "a change": lambda rag, text: rag.change(put=[text]),
    "a turn": lambda rag, text: Conversation(rag).add("user", text),
}


@pytest.mark.parametrize("way", ADDING)
def test_what_is_added_at_once_is_all_there_and_each_has_an_id_of_its_own(way: str) -> None:
    rag = memory()
    rag.memorize([Document("Is there.", id="1"), Document("Too.", id="3")])

    def add(thread: int) -> None:
        for number in range(EACH):
            ADDING[way](rag, fact(f"{thread}-{number}"))

    assert at_once([partial(add, thread) for thread in range(THREADS)]) == [None] * THREADS
    assert len(held(rag)) == len(rag.documents) == 2 + THREADS * EACH
    assert {held(rag)["1"], held(rag)["3"]} == {"Is there.", "Too."}
    assert {*held(rag).values()} > {fact(f"{one}-{two}") for one in range(THREADS) for two in range(EACH)}


def test_what_is_added_at_once_to_an_open_store_is_all_in_it(tmp_path: Path) -> None:
    with MemoRAG.open(tmp_path / "store", SentenceModel(), progress=False) as rag:
        given = at_once([partial(rag.change, put=[fact(number)]) for number in range(THREADS)])
        ids = [one.put[0] for one in given]
    stored = load_store(tmp_path / "store", SentenceModel().fingerprint).documents
    assert {one.id: one.text for one in stored} == {name: fact(n) for n, name in enumerate(ids)}
    assert sorted(ids) == [str(number) for number in range(THREADS)]


async def test_tasks_that_add_turns_at_once_lose_none() -> None:
    rag = memory()
    said = await asyncio.gather(*(Conversation(rag).aadd("user", fact(n)) for n in range(THREADS)))
    turns = Conversation(rag).turns()
    assert {turn.id for turn in said} == {turn.id for turn in turns}
    assert {turn.text for turn in turns} == {fact(number) for number in range(THREADS)}
    assert [turn.time for turn in turns] == sorted(turn.time for turn in turns)  # type: ignore[type-var]


def test_a_turn_is_never_given_an_earlier_time_than_one_that_is_there() -> None:
    rag = memory()
    at_once([partial(Conversation(rag).add, "user", fact(n)) for n in range(THREADS)])
    assert [document.metadata["time"] for document in rag.documents] == sorted(
        document.metadata["time"] for document in rag.documents
    )


def test_an_id_of_a_turn_that_is_in_use_is_refused_whoever_has_it() -> None:
    rag = memory().memorize(Document("A page.", id="page"))
    said = at_once([partial(Conversation(rag).add, "user", fact(n), id="one") for n in range(THREADS)])
    refused = [one for one in said if isinstance(one, InputError)]
    assert len(refused) == THREADS - 1
    assert all("'one', which is in use" in str(error) for error in refused)
    with pytest.raises(InputError, match="'page', which is in use"):
        Conversation(rag).add("user", "x", id="page")
    assert len(rag.documents) == 2


def test_a_change_says_the_ids_that_it_gave() -> None:
    rag = memory().memorize([Document("a", id="0"), Document("b", id="x"), Document("c", id="2")])
    change = rag.change(put=["d", Document("B", id="x"), Document("e")], delete=["2"])
    assert change == Change(put=("1", "x", "3"), deleted=("2",))
    assert held(rag) == {"0": "a", "x": "B", "1": "d", "3": "e"}
    assert [*held(rag)] == ["0", "x", "1", "3"]


def test_a_document_without_an_id_replaces_none() -> None:
    rag = memory().memorize(Document("first"))
    rag.upsert(Document("second")).memorize([Document("third"), Document("fourth")])
    assert held(rag) == {"0": "first", "1": "second", "2": "third", "3": "fourth"}
    for given in (Document("x"), [Document("y", id="1"), Document("x")], ["x"]):
        with pytest.raises(InputError, match="text without an id"):
            rag.update(given)  # type: ignore[arg-type]
    rag.update(Document("first, corrected", id="0"))
    assert held(rag)["0"] == "first, corrected"


def test_of_those_who_delete_the_same_one_does_and_the_others_are_told() -> None:
    rag = memory().memorize([fact(number) for number in range(3)])
    done = at_once([lambda: rag.delete("1")] * THREADS)
    assert sum(one is rag for one in done) == 1
    assert sum(isinstance(one, InputError) for one in done) == THREADS - 1
    conversation = Conversation(rag)
    conversation.extend([("user", fact("a")), ("user", fact("b"))])
    first = conversation.turns()[0].id or ""
    done = at_once([lambda: Conversation(rag).forget(first)] * THREADS)
    assert done.count(None) == 1
    assert sum("has no turn with the id" in str(error) for error in done) == THREADS - 1
    assert sorted(at_once([conversation.forget_session] * THREADS)) == [0] * 7 + [1]
    assert [*held(rag)] == ["0", "2"]


def test_deleting_while_others_update_leaves_one_of_the_two_states() -> None:
    rag = memory().memorize([fact(number) for number in range(3)])

    def update() -> object:
        return rag.update(Document("Updated.", id="1"))

    done = at_once([update] * 4 + [lambda: rag.delete("1")] * 4)
    assert sum(one is rag for one in done[4:]) == 1
    assert all(one is rag or isinstance(one, InputError) for one in done)
    assert [*held(rag)] == ["0", "2"]


def test_a_function_is_told_what_is_there_and_nobody_changes_it_meanwhile() -> None:
    rag = memory()
    given: list[Any] = [
        lambda: rag.change(put=lambda there: [f"There were {len(there)}."]) for _ in range(THREADS)
    ]
    at_once(given)
    assert [document.text for document in rag.documents] == [f"There were {n}." for n in range(THREADS)]
    assert rag.change(put=lambda _: None, delete=lambda _: []) == rag.change() == Change()


def test_what_is_put_with_the_id_of_what_goes_takes_its_place() -> None:
    rag = memory().memorize([Document(name, id=name) for name in "abc"])
    assert rag.change(put=Document("A", id="a"), delete=["a", "b"]) == Change(("a",), ("b",))
    assert held(rag) == {"a": "A", "c": "c"}
    assert [row.changes for row in rag.table()] == [1, 0]


def test_all_can_be_forgotten_and_put_anew_in_one_change() -> None:
    rag = memory(embedder=WordEmbedder()).memorize([Document(name, id=name) for name in "abc"])
    assert rag.change(put="new", delete=lambda there: [one.id for one in there]).deleted == ("a", "b", "c")
    assert held(rag) == {"0": "new"}
    rag.change(delete="0")
    assert (rag.documents, rag.memory) == ((), None)


class Refusing(SentenceModel):
    """Reads, until it is told not to."""

    refuse = False

    def memorize(self, *given: Any, **how: Any) -> Any:
        if self.refuse:
            raise RuntimeError("no memory left")
        return super().memorize(*given, **how)


class RefusingEmbedder(WordEmbedder):
    refuse = False

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        if self.refuse:
            raise RuntimeError("no embedder left")
        return super().embed_documents(texts)


WRONG: dict[str, tuple[Any, str]] = {
    "blank": (Document(" ", id="b"), "is empty"),
    "one of two is blank": (["new", ""], "is empty"),
    "metadata": (Document("new", id="b", metadata={"x": {1}}), "hold a set"),
    "an id twice": ([Document("new", id="z"), Document("new", id="z")], "in use"),
    "unknown": (None, "no document with the id 'nobody'"),
    "the model": (Document("new", id="b"), "no memory left"),
    "the embedder": (Document("new", id="b"), "no embedder left"),
    "the function": (lambda _: 1 / 0, "division by zero"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_change_that_fails_leaves_memory_and_store_as_they_were(wrong: str, tmp_path: Path) -> None:
    model, embedder = Refusing(), RefusingEmbedder()
    path = tmp_path / "store"
    with MemoRAG.open(path, model, embedder=embedder, progress=False) as rag:
        rag.memorize([Document(f"About {name}.", id=name) for name in "abc"])
        before = (rag.documents, rag.chunks, rag.memory, rag.table())
        stored = {file.name: file.read_bytes() for file in path.iterdir()}
        model.refuse, embedder.refuse = wrong == "the model", wrong == "the embedder"
        put, said = WRONG[wrong]
        with pytest.raises((InputError, RuntimeError, ZeroDivisionError), match=said):
            rag.change(put=put, delete=["a", "nobody"] if wrong == "unknown" else "a")
        assert (rag.documents, rag.chunks, rag.memory, rag.table()) == before
        assert {file.name: file.read_bytes() for file in path.iterdir()} == stored


@pytest.mark.parametrize("ids", [[["a"]], [1], [None], ["a", {}], 5])
def test_ids_that_are_no_texts_are_refused(ids: Any) -> None:
    rag = memory().memorize(Document("One.", id="a"))
    uses: list[Callable[[], object]] = [
        lambda: rag.delete(ids),
        lambda: rag.change(delete=ids),
        lambda: rag.change(delete=lambda there: ids),
        lambda: rag.tokens_to_delete(ids),
    ]
    for use in uses:
        with pytest.raises(InputError, match="ids"):
            use()
    assert rag.documents


def test_nothing_memorized_is_nothing_to_delete() -> None:
    with pytest.raises(NothingMemorizedError):
        memory().change(put="x", delete="a")
    assert memory().change(delete=lambda there: [one.id for one in there]) == Change()


def test_a_change_is_one_save_and_none_where_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from memorag_core.store import Writer

    saves: list[int] = []
    save = Writer.save

    def counted(self: Writer, *given: Any, **how: Any) -> None:
        saves.append(1)
        save(self, *given, **how)

    with MemoRAG.open(tmp_path / "store", SentenceModel(), progress=False) as rag:
        rag.memorize([Document(f"About {name}.", id=name, metadata={"n": [1]}) for name in "abc"])
        monkeypatch.setattr(Writer, "save", counted)
        rag.change(put=[Document("New.", id="a"), "More."], delete=["b", "c"])
        assert len(saves) == 1
        stored = load_store(tmp_path / "store", SentenceModel().fingerprint)
        assert {document.id: document.text for document in stored.documents} == held(rag)
        rag.change(put=Document("New.", id="a"))
        rag.upsert(rag.documents)
        assert len(saves) == 1
    assert held(rag) == {"a": "New.", "0": "More."}


def test_who_reads_on_meanwhile_finds_the_old_or_the_new_and_never_neither_or_both() -> None:
    rag = memory(chunks=ChunkSettings(size=40), embedder=WordEmbedder())
    rag.memorize([Document("The keeper is Anna.", id="0"), Document("Rain falls.", id="rain")])
    done = Event()
    seen: list[list[str]] = []

    def read() -> None:
        while not done.is_set() or not seen:
            seen.append([one.chunk.text for one in rag.retrieve("Who is the keeper?", k=2, clues=[])])

    reader = Thread(target=read)
    reader.start()
    try:
        for number in range(1, 21):
            rag.change(put=Document(f"The keeper is Anna, {number}.", id=str(number)), delete=str(number - 1))
    finally:
        done.set()
        reader.join(60)
    assert not reader.is_alive()
    assert seen
    for texts in seen:
        assert sum("keeper" in text for text in texts) == 1


def test_what_is_deleted_by_a_generator_is_deleted() -> None:
    rag = memory().memorize([Document(name, id=name) for name in "abc"])
    rag.delete(name for name in ("a", "b"))  # type: ignore[arg-type]
    assert [*held(rag)] == ["c"]
    with pytest.raises(InputError, match="Found a int for ids"):
        rag.delete(3)  # type: ignore[arg-type]


def test_a_turn_keeps_its_own_id() -> None:
    conversation = Conversation(memory())
    (turn,) = conversation.extend([Turn("user", "Hello.", id="0")])
    assert (turn.id, json.dumps(turn.id)) == ("0", '"0"')


def test_who_asks_while_all_is_forgotten_and_said_anew_gets_turns_or_none_and_no_error() -> None:
    rag = memory(embedder=WordEmbedder())
    done = Event()
    wrong: list[BaseException] = []

    def ask() -> None:
        conversation = Conversation(rag)
        while not done.is_set():
            try:
                assert len(conversation.recall("Which fact is true?", [], k=4)) <= 4
                assert len(rag.documents) in (0, 6)
                assert len(rag.table()) in (0, 6)
                assert len(rag.chunks) in (0, 6)
            except BaseException as error:  # whatever it is, it is wrong
                wrong.append(error)
                return

    readers = [Thread(target=ask) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(40):
            Conversation(rag).extend([("user", fact(number)) for number in range(6)])
            assert Conversation(rag).forget_session() == 6
    finally:
        done.set()
        for reader in readers:
            reader.join(60)
    assert wrong == []


class Vanishing(MemoRAG):
    """Somebody forgets all turns but the first ones at the very moment when it is asked."""

    at = ""
    left: int | None = None

    def _forget(self) -> None:
        if self.left is not None:
            self.delete([document.id for document in self.documents[self.left :]])
            self.left = None

    def recall_clues(self, *given: Any, **how: Any) -> Any:
        if self.at == "the memory":
            self._forget()
        return super().recall_clues(*given, **how)

    async def arecall_clues(self, *given: Any, **how: Any) -> Any:
        if self.at == "the memory":
            self._forget()
        return await super().arecall_clues(*given, **how)

    def find_evidence(self, *given: Any, **how: Any) -> Any:
        if self.at == "the index":
            self._forget()
        return super().find_evidence(*given, **how)


@pytest.mark.parametrize("left", [0, 2])
@pytest.mark.parametrize("where", ["the memory", "the index"])
async def test_turns_that_are_forgotten_while_they_are_looked_for_are_no_error(where: str, left: int) -> None:
    for is_async in (False, True):
        rag = Vanishing(SentenceModel(), progress=False)
        conversation = Conversation(rag)
        conversation.extend([("user", fact(number)) for number in range(6)])
        rag.at, rag.left = where, left
        how: Any = {"history": [], "k": 6}
        asked = "Which fact is true?"
        found = await conversation.arecall(asked, **how) if is_async else conversation.recall(asked, **how)
        assert rag.left is None
        assert {one.turn.text for one in found} == {fact(number) for number in range(left)}


def test_a_change_within_a_change_is_refused_and_nothing_hangs() -> None:
    rag = memory().memorize(["One.", "Two."])
    before = rag.documents
    inner: list[Any] = [
        lambda: rag.memorize("x"),
        lambda: rag.update(Document("x", id="0")),
        lambda: rag.upsert("x"),  # type: ignore[arg-type]
        lambda: rag.delete("0"),
        lambda: rag.change(put="x"),
    ]
    for change in inner:
        (said,) = at_once([partial(rag.change, put=lambda _, change=change: change())])
        assert "within another one" in str(said)
        assert rag.documents is before
    rag.memorize("Three.")
    assert len(rag.documents) == 3
