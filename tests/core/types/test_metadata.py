"""Metadata are copied on the way in and frozen; what a save could not keep is refused with the remedy."""

from __future__ import annotations

import copy
import datetime
import json
import pickle
from collections import OrderedDict, deque, namedtuple
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core import Document, InputError, MemoRAG, Recall, Turn, thawed
from memorag_core.conversation import Conversation
from memorag_core.prompts import load_prompts
from memorag_core.types.metadata import DEEPEST, LARGEST, FrozenDict, FrozenList, frozen, json_frozen, same
from tests.core.doubles import SentenceModel

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
METADATA = st.dictionaries(st.text(max_size=3), VALUES, max_size=4)


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Kind(Enum):
    ONE = 1


Point = namedtuple("Point", "x y")


@given(metadata=METADATA)
def test_what_json_can_hold_stays_as_it_is_and_is_shared_with_nobody(metadata: dict[str, Any]) -> None:
    before = json.dumps(metadata)
    kept = json_frozen(metadata, "document 'a'")
    assert kept == metadata
    assert json.dumps(kept) == before
    for plain in (
        thawed(kept),
        copy.deepcopy(kept),
        copy.copy(kept),
        kept.copy(),
        pickle.loads(pickle.dumps(kept)),
    ):
        assert plain == kept
        assert not frozen_parts(plain)
        spoil(plain)
    spoil(metadata)
    assert json.dumps(kept) == before


def frozen_parts(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = [value] if isinstance(value, FrozenDict | FrozenList) else []
    return own + [part for one in inner for part in frozen_parts(one)]


def spoil(value: Any) -> None:
    """Change all that can be changed."""
    for inner in [*(value.values() if isinstance(value, dict) else value)]:
        if isinstance(inner, dict | list):
            spoil(inner)
    if isinstance(value, dict):
        value["spoilt"] = True
    else:
        value.append("spoilt")


CHANGES: list[Any] = [
    lambda kept: kept.update(x=1),
    lambda kept: kept.pop("tags"),
    lambda kept: kept.popitem(),
    lambda kept: kept.clear(),
    lambda kept: kept.setdefault("x", 1),
    lambda kept: kept.__setitem__("x", 1),
    lambda kept: kept.__delitem__("tags"),
    lambda kept: kept.__ior__({"x": 1}),
    lambda kept: kept["tags"].append(1),
    lambda kept: kept["tags"].extend([1]),
    lambda kept: kept["tags"].insert(0, 1),
    lambda kept: kept["tags"].pop(),
    lambda kept: kept["tags"].remove("a"),
    lambda kept: kept["tags"].clear(),
    lambda kept: kept["tags"].sort(),
    lambda kept: kept["tags"].reverse(),
    lambda kept: kept["tags"].__setitem__(0, 1),
    lambda kept: kept["tags"].__delitem__(0),
    lambda kept: kept["tags"].__iadd__([1]),
    lambda kept: kept["tags"].__imul__(2),
    lambda kept: kept["deep"][0].update(x=1),
]


@pytest.mark.parametrize("number", range(len(CHANGES)))
def test_no_change_is_possible_and_the_error_says_what_to_do(number: int) -> None:
    kept = json_frozen({"tags": ["b", "a"], "deep": [{"x": 0}]}, "document 'a'")
    before = json.dumps(kept)
    with pytest.raises(TypeError, match=r"copy\.deepcopy\(metadata\)"):
        CHANGES[number](kept)
    assert json.dumps(kept) == before


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ((1, (2, 3)), [1, [2, 3]]),
        (Point(1, 2), [1, 2]),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (np.float64(1.5), 1.5),
        (np.str_("a"), "a"),
        (True, True),
        (OrderedDict(b=1), {"b": 1}),
        (MappingProxyType({"b": [1]}), {"b": [1]}),
        ("\ud800", "\ud800"),
        (LARGEST - 1, LARGEST - 1),
    ],
    ids=map(str, range(11)),
)
def test_values_are_before_a_save_what_they_are_after_it(value: Any, kept: Any, tmp_path: Path) -> None:
    rag = MemoRAG(SentenceModel(), progress=False).memorize(Document("Text.", "a", {"value": value}))
    rag.save(tmp_path / "store")
    again = MemoRAG.load(tmp_path / "store", SentenceModel())
    for one in (rag, again):
        found = one.documents[0].metadata["value"]
        assert found == kept
        assert json.dumps(found) == json.dumps(kept)
        assert type(found) in (type(kept), FrozenList, FrozenDict)


LOOP: list[Any] = []
LOOP += [LOOP, LOOP]
WIDE: list[Any] = [0]
for _ in range(50):
    WIDE = [WIDE, WIDE]  # one list in 2**50 places


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.array([1, 2]), r"a numpy\.ndarray at 'a\[1\]\.b'; expected .* value\.tolist\(\)"),
        (np.array(1), r"value\.item\(\)"),
        (np.float32(1), r"a numpy\.float32 .* value\.item\(\)"),
        (np.int64(1), r"value\.item\(\)"),
        (np.bool_(True), r"value\.item\(\)"),
        (float("nan"), "the number nan at .* Give None"),
        (float("-inf"), "the number -inf"),
        (np.float64("nan"), "the number nan"),
        (datetime.datetime(2026, 1, 1), r"a datetime\.datetime .* value\.isoformat\(\)"),
        (datetime.date(2026, 1, 1), r"value\.isoformat\(\)"),
        (Path("x"), r"str\(value\)"),
        (UUID(int=1), r"uuid\.UUID .* str\(value\)"),
        (Decimal(1), r"str\(value\)"),
        ({1}, r"a set .* list\(value\)"),
        (frozenset(), r"a frozenset .* list\(value\)"),
        (deque(), r"list\(value\)"),
        (range(3), r"list\(value\)"),
        (b"x", r"hold bytes .*decode"),
        (Kind.ONE, r"value\.value"),
        (object(), "an object"),
        (Document("x"), r"dataclasses\.asdict"),
        (LARGEST, "more than 4,300 digits"),
        ({1: 2}, r"an int for a name at 'a\[1\]\.b'.* str\(name\)"),
        ({LARGEST: 2}, "4,300 digits for a name"),
        ({None: 2}, "None for a name"),
        (LOOP, f"more than {DEEPEST} levels .* or hold themselves"),
    ],
    ids=map(str, range(26)),
)
def test_what_json_cannot_hold_is_refused_before_anything_is_read(value: Any, said: str) -> None:
    class Unread(SentenceModel):
        def memorize(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("it was read")

    rag = MemoRAG(Unread(), progress=False)
    document = Document("Text.", "odd", {"a": [0, {"b": value}]})
    for change in (rag.memorize, rag.upsert):
        with pytest.raises(InputError, match=f"(?s)metadata of document 'odd' .*{said}"):
            change(document)
    conversation = Conversation(rag)
    with pytest.raises(InputError, match=f"(?s)metadata of a turn of the user .*{said}"):
        conversation.extend([Turn("user", "Text.", metadata={"a": [0, {"b": value}]})])


def test_a_list_that_stands_in_more_places_than_json_can_write_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("memorag_core.types.metadata.MOST", 10_000)
    assert json_frozen({"a": [0] * 9_999}, "document 'a'")["a"] == [0] * 9_999
    for value in (WIDE, [0] * 10_000):
        with pytest.raises(InputError, match=r"document 'a' have more than .* 10,000 values"):
            json_frozen({"a": value}, "document 'a'")


@pytest.mark.parametrize("value", [np.array([1, 2]), float("nan"), object()], ids=["array", "nan", "object"])
def test_an_update_to_what_json_cannot_hold_is_refused_as_well(value: Any) -> None:
    rag = MemoRAG(SentenceModel(), progress=False).memorize(Document("Text.", "odd", {"x": 1}))
    before = rag.documents
    for change in (rag.update, rag.upsert, rag.tokens_to_update):
        with pytest.raises(InputError, match="metadata of document 'odd'"):
            change(Document("Text.", "odd", {"x": value}))
    assert rag.documents is before


@pytest.mark.parametrize("value", [None, [], "text", 3])
def test_metadata_that_are_no_mapping_are_refused(value: Any) -> None:
    with pytest.raises(InputError, match="expected a mapping"):
        MemoRAG(SentenceModel(), progress=False).memorize(Document("Text.", "a", value))


def test_a_true_is_no_one_and_an_edit_from_one_to_the_other_is_saved(tmp_path: Path) -> None:
    assert not same(json_frozen({"a": [True]}, "it"), json_frozen({"a": [1]}, "it"))
    assert not same(json_frozen({"a": 1}, "it"), json_frozen({"a": 1.0}, "it"))
    assert same(json_frozen({"a": 1, "b": 2}, "it"), json_frozen({"b": 2, "a": 1}, "it"))
    with MemoRAG.open(tmp_path / "store", SentenceModel()) as rag:
        rag.memorize(Document("Text.", "a", {"done": 1}))
        for change in (rag.update, rag.upsert):
            for value in (True, 1, 1.0):
                change(Document("Text.", "a", {"done": value}))
                (kept,) = MemoRAG.load(tmp_path / "store", SentenceModel()).chunks
                assert type(kept.metadata["done"]) is type(value)


def test_whatever_a_retriever_of_the_users_own_gives_is_taken_and_copied() -> None:
    at, tags = datetime.datetime(2026, 1, 1), ["a"]
    kept = frozen({"at": at, 1: {2}, "tags": tags, "pair": (tags, 1), "loop": LOOP, "wide": WIDE})
    tags.append("b")
    assert (kept["at"], kept[1], kept["tags"], kept["pair"]) == (at, {2}, ["a"], (["a"], 1))
    plain = thawed(kept)
    plain["tags"].append("c")
    plain[1].add(3)  # type: ignore[index]
    assert (kept["tags"], kept[1]) == (["a"], {2})


def test_what_is_found_and_listed_cannot_change_the_memory(tmp_path: Path) -> None:
    rag = MemoRAG(SentenceModel(), progress=False)
    tags = ["clock"]
    rag.memorize(Document("Maren repairs the clock.", "a", {"tags": tags, "deep": {"at": [1]}}))
    rag.save(tmp_path / "store")
    tags.append("mine alone")
    for one in (rag, MemoRAG.load(tmp_path / "store", SentenceModel())):
        places = [
            one.retrieve("Who repairs the clock?", k=1)[0].chunk.metadata,
            one.documents[0].metadata,
            one.chunks[0].metadata,
            one.table()[0].metadata,
        ]
        for place in places:
            assert place == {"tags": ["clock"], "deep": {"at": [1]}}
            for inner in ("tags", "deep"):
                with pytest.raises(TypeError, match="shared by all who ask"):
                    place[inner].clear()


def test_an_edited_document_that_is_added_again_is_saved(tmp_path: Path) -> None:
    tags = ["a"]
    document = Document("Maren repairs the clock.", "a", {"tags": tags})
    with MemoRAG.open(tmp_path / "store", SentenceModel()) as rag:
        rag.memorize(document)
        changes: list[Any] = [rag.update, rag.upsert, lambda one: rag.change(put=one)]
        for number, change in enumerate(changes):
            tags.append(str(number))
            change(document)
            (found,) = MemoRAG.load(tmp_path / "store", SentenceModel()).documents
            assert found.metadata["tags"] == tags == rag.chunks[0].metadata["tags"]


def test_what_is_kept_of_an_asking_and_of_prompts_cannot_be_changed() -> None:
    rag = MemoRAG(SentenceModel(), progress=False).memorize("Maren repairs the clock.")
    (recalled,) = rag.recall_clues(["Who repairs the clock?"])
    with pytest.raises(TypeError, match="cannot be changed"):
        recalled.replies["span"] = ()  # type: ignore[index]
    mine: dict[Any, Any] = {"span": ()}
    kept = Recall("What?", replies=mine)
    mine.clear()
    assert kept.replies == {"span": ()}
    with pytest.raises(TypeError, match="cannot be changed"):
        load_prompts("en").tasks["span"] = "x"  # type: ignore[index]


def test_a_turn_is_shared_with_nobody() -> None:
    conversation = Conversation(MemoRAG(SentenceModel(), progress=False))
    tags = ["a"]
    (added,) = conversation.extend([Turn("user", "Maren repairs the clock.", metadata={"tags": tags})])
    tags.append("b")
    for turn in (added, conversation.turns()[0], conversation.recall("Who repairs the clock?")[0].turn):
        assert turn.metadata == {"tags": ["a"]}
        with pytest.raises(TypeError, match="cannot be changed"):
            turn.metadata["tags"].append("x")
        with pytest.raises(TypeError, match="cannot be changed"):
            turn.metadata["x"] = 1  # type: ignore[index]
