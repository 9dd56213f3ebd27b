"""What holds for every kind of memory model, however a memory was read, saved, shared or taken back.

Laws of text hold for all kinds; laws of token ids for those that compute here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as rules
from hypothesis import strategies as st
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file as save_tensors

from memorag_core.errors import InputError, NothingMemorizedError, StoreError
from memorag_core.memory import local_model as local
from memorag_core.memory.hosted import HostedModel
from memorag_core.memory.longcontext import LongContextModel
from memorag_core.prompts import PromptSet
from memorag_core.protocols import Memory, MemoryModel, keeps_documents
from memorag_core.types import Document
from tests.core.doubles import asks
from tests.core.memory.beacon import conftest as beacon
from tests.core.memory.gist.conftest import gist_model
from tests.core.memory.longcontext import conftest as longcontext
from tests.core.memory.packed import Packed, assert_alike, assert_same, packed

THREADS = 16

ASKED = PromptSet.from_mapping(
    {
        "chat": False,
        "context": ">{context}",
        "tasks": dict.fromkeys(("span", "answer", "key_point"), "?{question}"),
        "summary_request": "all",
    }
)


def hosted(**settings: Any) -> HostedModel:
    """An LLM that says the end of what it was given to read."""
    return HostedModel(lambda prompt: prompt[-200:], name="echo", **settings)


GIST = {"block_tokens": 64, "gist_tokens": 16}

MODELS: dict[str, Callable[..., Any]] = {
    "beacon": lambda **other: beacon.text_model(stop=frozenset(range(5, 30)), **{"seed": 0, **other}),
    "beacon in parts": lambda **other: beacon.text_model(
        stop=frozenset(range(5, 30)), **{"capacity": 16, "overlap": 4, **other}
    ),
    "beacon in parts of filled windows": lambda **other: beacon.text_model(
        pad_windows=True, **{"capacity": 64, "overlap": 4, **other}
    ),
    "beacon of filled windows": lambda **other: beacon.text_model(pad_windows=True, **{"seed": 0, **other}),
    "long-context": lambda **other: longcontext.text_model("gemma3", bos=True, chunk=33, **other),
    "long-context in parts": lambda **other: longcontext.text_model(
        "gemma2", prompts=ASKED, positions=96, chunk=50, **{"capacity": 40, "overlap": 9, **other}
    ),
    "hosted": lambda **other: hosted(**{"capacity": 64, "overlap": 20, **other}),
    "gist over long-context": lambda **other: gist_model(**{**GIST, **other}),
    "gist over hosted": lambda **other: gist_model(inner=hosted(), **{**GIST, **other}),
}
"""Each kind of memory model, and its ways to read; called twice, two models that are the same."""

OTHERS: dict[str, dict[str, Any]] = {
    "beacon": {"layers": 1},
    "beacon in parts": {"capacity": 32},
    "beacon in parts of filled windows": {"window": 16},
    "beacon of filled windows": {"window": 16},
    "long-context": {"capacity": 1000},
    "long-context in parts": {"overlap": 10},
    "hosted": {"capacity": 65},
    "gist over long-context": {"block_tokens": 128},
    "gist over hosted": {"gist_tokens": 32},
}
"""For each kind settings under which its memories would be other ones."""


@cache
def model_of(kind: str) -> Any:
    """A model holds nothing of what it reads, so one serves all tests."""
    return MODELS[kind]()


DOCUMENT_KINDS = [kind for kind in MODELS if "gist" not in kind]

QUESTIONS = ["Who mends clocks?", "Where?", "Who lives by the river in Orrin?"]
TEXTS = [
    "The keeper of the tower mends clocks.",
    "Rain came.",
    "Mara Venn lives in Orrin, by the river. " * 7,
    "木曜日の朝、<|end|> Käse.",
]

every_kind = pytest.mark.parametrize("kind", MODELS)
document_kinds = pytest.mark.parametrize("kind", DOCUMENT_KINDS)
texts = st.lists(st.sampled_from(TEXTS), min_size=1, max_size=4)


def documents_of(given_texts: list[str], start: int = 0) -> list[Document]:
    return [Document(text, id=str(number)) for number, text in enumerate(given_texts, start)]


def through_disk(model: Any, memory: Any, folder: Path, reader: Any = None) -> Any:
    """The memory as a store would bring it back, by its own model or another one that is the same."""
    tensors, header = model.pack(memory)
    file, loaded = folder / "memory.safetensors", dict[str, Any]()
    if all(isinstance(tensor, np.ndarray) for tensor in tensors.values()):
        save_arrays({name: np.array(array) for name, array in tensors.items()}, file)
        loaded |= load_arrays(file)
    else:
        save_tensors({name: tensor.clone() for name, tensor in tensors.items()}, file)
        loaded |= load_tensors(file)
    return (reader or model).unpack(loaded, json.loads(json.dumps(header)))


def said(model: Any, questions: list[str], memory: Any) -> list[dict[int, tuple[str, float]]]:
    """For each question what each part says, and how surely."""
    replies = model.recollect(asks(questions, "span"), memory, language="en", max_new_tokens=8)
    return [{reply.part: (reply.text, reply.score) for reply in each} for each in replies]


def assert_same_said(found: list[dict[int, tuple[str, float]]], expected: list[Any]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for part, (text, score) in one.items():
            assert text == other[part][0]
            assert score == pytest.approx(other[part][1], abs=1e-3)


# What it is


@every_kind
def test_it_is_a_memory_model_and_its_memory_a_memory(kind: str) -> None:
    model: MemoryModel = model_of(kind)
    memory = model.memorize(TEXTS[0])
    assert isinstance(model, MemoryModel)
    assert isinstance(memory, Memory)
    assert keeps_documents(model) == (kind in DOCUMENT_KINDS)
    assert memory.tokens >= 1
    assert memory.parts >= 1
    assert memory.nbytes >= 1


@every_kind
def test_the_fingerprint_is_json_and_the_same_for_the_same_model_only(kind: str) -> None:
    first = model_of(kind).fingerprint
    assert first == MODELS[kind]().fingerprint == json.loads(json.dumps(first))


# Reading


@every_kind
@rules(max_examples=10)
@given(given_texts=texts, borders=st.sets(st.integers(1, 3)))
def test_documents_at_once_or_in_pieces_give_the_same_memory(
    kind: str, given_texts: list[str], borders: set[int]
) -> None:
    model = model_of(kind)
    documents = documents_of(given_texts)
    memory = None
    for start, end in pairwise([0, *sorted(b for b in borders if b < len(documents)), len(documents)]):
        before = packed(model, memory) if memory is not None else None
        longer = model.memorize(documents[start:end], memory)
        if before is not None:
            assert_same(packed(model, memory), before, exactly=True)
        memory = longer
    assert memory is not None
    once = model.memorize(documents)
    assert_alike(model, memory, once)
    assert (memory.tokens, memory.parts, memory.nbytes) == (once.tokens, once.parts, once.nbytes)


@every_kind
def test_one_memory_is_continued_in_two_ways_that_do_not_meet(kind: str) -> None:
    model = model_of(kind)
    start, left, right = documents_of(TEXTS[:3])
    memory = model.memorize([start])
    before = packed(model, memory)
    one = model.memorize([left], memory)
    held = packed(model, one)
    other = model.memorize([right], memory)
    assert_same(packed(model, memory), before, exactly=True)
    assert_same(packed(model, one), held, exactly=True)
    assert_alike(model, one, model.memorize([start, left]))
    assert_alike(model, other, model.memorize([start, right]))


@every_kind
@pytest.mark.parametrize("text", ["", "   \n", [], [""], ["words", " "], [Document("")], [3], 3, None])
def test_nothing_to_read_is_refused(kind: str, text: Any) -> None:
    with pytest.raises(InputError, match=r"expected (words|one or more|a text)"):
        model_of(kind).memorize(text)


@every_kind
def test_half_of_a_surrogate_pair_is_refused(kind: str) -> None:
    with pytest.raises(InputError, match=r"Document 1 is no Unicode text.*right encoding"):
        model_of(kind).memorize(["Words.", "Half of one: \ud800"])


# Saving


@every_kind
@pytest.mark.parametrize("given_texts", [TEXTS, TEXTS[:1], TEXTS[3:] * 3])
def test_saved_and_loaded_is_the_same_and_can_be_asked_and_continued(
    kind: str, given_texts: list[str], tmp_path: Path
) -> None:
    model = model_of(kind)
    memory = model.memorize(documents_of(given_texts))
    loaded = through_disk(model, memory, tmp_path, MODELS[kind]())
    assert_same(packed(model, loaded), packed(model, memory), exactly=True)
    assert (loaded.tokens, loaded.parts, loaded.nbytes) == (memory.tokens, memory.parts, memory.nbytes)
    assert said(model, QUESTIONS, loaded) == said(model, QUESTIONS, memory)
    more = documents_of(["And more of it, for another part or two, as it comes."], len(given_texts))
    assert_same(
        packed(model, model.memorize(more, loaded)), packed(model, model.memorize(more, memory)), exactly=True
    )


@every_kind
def test_a_memory_of_another_model_or_release_is_refused(kind: str) -> None:
    model = model_of(kind)
    tensors, header = model.pack(model.memorize(TEXTS[2]))
    other = MODELS[kind](**OTHERS[kind])
    with pytest.raises(StoreError):
        other.unpack(tensors, header)
    for format_ in (2, None):
        with pytest.raises(StoreError, match=rf"format {format_}"):
            model.unpack(tensors, {**header, "format": format_})


@every_kind
def test_a_memory_that_lacks_a_value_or_a_tensor_is_refused(kind: str) -> None:
    model = model_of(kind)
    tensors, header = model.pack(model.memorize(documents_of(TEXTS)))
    unread = {
        "grows",
        "kv",
        *(["overlap"] if header.get("overlap") is None else []),
    }  # for the store, or none
    for name in header.keys() - unread:
        with pytest.raises(StoreError):
            model.unpack(tensors, {key: value for key, value in header.items() if key != name})
    for name in tensors:
        with pytest.raises(StoreError, match=name.rsplit(".", 1)[-1]):
            model.unpack({key: value for key, value in tensors.items() if key != name}, header)


# Asking


@every_kind
def test_questions_asked_together_are_answered_as_alone(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(kind)
    memory = model.memorize(documents_of(TEXTS))
    together = said(model, QUESTIONS, memory)
    assert [sorted(each) for each in together] == [[*range(memory.parts)]] * len(QUESTIONS)
    assert_same_said(together, [said(model, [question], memory)[0] for question in QUESTIONS])
    monkeypatch.setattr(local, "ASKED_ROWS", 1)
    assert_same_said(said(model, QUESTIONS, memory), together)
    assert model.recollect(asks([], "span"), memory) == ()


@every_kind
def test_replies_come_best_first_and_say_whether_they_are_whole(kind: str) -> None:
    model = model_of(kind)
    memory = model.memorize(documents_of(TEXTS))
    for replies in model.recollect(asks(QUESTIONS, "span"), memory, max_new_tokens=8):
        assert [reply.score for reply in replies] == sorted((one.score for one in replies), reverse=True)
        assert all(reply.score <= 0 and reply.tokens >= 0 for reply in replies)


@every_kind
def test_asking_from_many_threads_is_asking_from_one_and_changes_nothing(kind: str) -> None:
    model = model_of(kind)
    memory = model.memorize(documents_of(TEXTS))
    before = packed(model, memory)
    expected = [said(model, [question], memory) for question in QUESTIONS]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda question: said(model, [question], memory), QUESTIONS * 4))
    for one, other in zip(found, expected * 4, strict=True):
        assert_same_said(one, other)
    assert_same(packed(model, memory), before, exactly=True)


@every_kind
def test_what_cannot_be_asked_is_refused(kind: str) -> None:
    model = model_of(kind)
    memory = model.memorize(TEXTS[0])
    with pytest.raises(NothingMemorizedError, match="memorize"):
        model.recollect(asks(["Who?"], "span"), None)
    with pytest.raises(InputError, match="kind of clue"):
        model.recollect(asks(["Who?"], "poem"), memory)
    with pytest.raises(InputError, match="list of requests"):
        model.recollect("Who?", memory)
    for question in (" ", 7):
        with pytest.raises(InputError, match="question is"):
            model.recollect(asks([question], "span"), memory)  # type: ignore[list-item]
    for count in (0, -1, True, 1.5):
        with pytest.raises(InputError, match="max_new_tokens"):
            model.recollect(asks(["Who?"], "span"), memory, max_new_tokens=count)
    if "beacon" not in kind:  # those have requests of their own
        assert model.recollect(asks([""], "key_point"), memory, max_new_tokens=2)  # needs no question


# Documents


@document_kinds
@rules(max_examples=10)
@given(given_texts=texts, kept=st.integers(1, 4), new=st.sampled_from(TEXTS))
def test_taken_back_is_as_if_it_had_never_been_read(
    kind: str, given_texts: list[str], kept: int, new: str
) -> None:
    model = model_of(kind)
    kept = min(kept, len(given_texts))
    memory = model.memorize(given_texts)
    before = packed(model, memory)
    shorter = model.rewind(memory, kept)
    assert_alike(model, shorter, model.memorize(given_texts[:kept]))
    afresh = model.memorize([*given_texts[:kept], new])
    assert_alike(model, model.memorize(new, shorter), afresh)
    assert_same(packed(model, memory), before, exactly=True)
    assert 0 <= model.to_reread(memory, kept) <= shorter.tokens
    assert model.to_reread(memory, len(given_texts)) == 0
    assert model.rewind(memory, 0) is None
    more = model.token_spans(afresh)[-1][1] - model.token_spans(shorter)[-1][1]
    shared = model.count_tokens([new], memory, documents_kept=kept) - more
    overlap = getattr(model, "overlap", 4)  # of a beacon model in parts
    assert shared == 0 if kind == "hosted" else shared == overlap * (afresh.parts - shorter.parts)


@document_kinds
@pytest.mark.parametrize("documents", [-1, 4, True, 1.5, None])
def test_a_number_of_documents_that_were_not_read_cannot_stay(kind: str, documents: Any) -> None:
    model = model_of(kind)
    memory = model.memorize(TEXTS[:3])
    uses: list[Callable[[], Any]] = [
        lambda: model.rewind(memory, documents),
        lambda: model.to_reread(memory, documents),
        lambda: model.count_tokens("More.", memory, documents_kept=documents),
    ]
    for use in uses:
        with pytest.raises(InputError, match="expected 0 to 3"):
            use()


@document_kinds
@rules(max_examples=10)
@given(given_texts=texts)
def test_documents_and_parts_cover_the_text(kind: str, given_texts: list[str]) -> None:
    model = model_of(kind)
    memory = model.memorize(given_texts)
    spans = model.token_spans(memory)
    assert len(spans) == len(given_texts)
    assert spans[0][0] == 0
    between = 0 if kind == "hosted" or "filled" in kind else len("\n\n")  # in tokens, which are bytes
    assert all(other[0] - one[1] == between for one, other in pairwise(spans))
    held = [model.parts_of(memory, number, 0, len(text)) for number, text in enumerate(given_texts)]
    assert sorted({part for parts in held for part in parts}) == [*range(memory.parts)]
    for number, text in enumerate(given_texts):
        for start, end in ((0, 1), (len(text) // 2, len(text) // 2 + 1), (0, len(text))):
            assert {*model.parts_of(memory, number, start, end)} <= {*held[number]}


@document_kinds
def test_a_question_for_some_parts_is_put_to_those_alone(kind: str) -> None:
    model = model_of(kind)
    memory = model.memorize(TEXTS)
    last = memory.parts - 1
    everywhere = said(model, QUESTIONS[:2], memory)
    replies = model.recollect(
        asks(QUESTIONS[:2], "span", [(last,), None]), memory, language="en", max_new_tokens=8
    )
    found = [{reply.part: (reply.text, reply.score) for reply in each} for each in replies]
    assert_same_said(found, [{last: everywhere[0][last]}, everywhere[1]])
    with pytest.raises(InputError):
        model.recollect(asks(["Who?"], "span", [(memory.parts,)]), memory)


# Token ids, in models that compute here

TOKEN_MODELS: dict[str, Callable[[], Any]] = {
    "beacon": lambda: beacon.beacon_model(window=8, ratio=4),
    "llama": lambda: LongContextModel(longcontext.causal_model("llama"), chunk=16),
    "gemma2": lambda: LongContextModel(longcontext.causal_model("gemma2"), chunk=16),
    "gemma3": lambda: LongContextModel(longcontext.causal_model("gemma3"), chunk=16),
    "mistral with a sliding window": lambda: LongContextModel(
        longcontext.causal_model("mistral with a sliding window")
    ),
}

token_kinds = pytest.mark.parametrize("kind", TOKEN_MODELS)
random_ids = longcontext.random_ids


@cache
def token_model_of(kind: str) -> Any:
    return TOKEN_MODELS[kind]()


@token_kinds
@pytest.mark.parametrize(("rows", "tokens"), [(1, 1), (1, 3), (1, 16), (2, 45), (3, 4)])
def test_rows_saved_and_loaded_are_the_same_bits_and_can_be_continued(
    kind: str, rows: int, tokens: int, tmp_path: Path
) -> None:
    model = token_model_of(kind)
    memory = model.feed(random_ids(rows, tokens)).memory
    loaded = through_disk(model, memory, tmp_path)
    assert_same(packed(model, loaded), packed(model, memory), exactly=True)
    ids = random_ids(rows, 21, seed=1)
    assert_same(packed(model, model.feed(ids, loaded).memory), packed(model, model.feed(ids, memory).memory))
    assert torch.equal(
        model.greedy(ids, loaded, max_new_tokens=9), model.greedy(ids, memory, max_new_tokens=9)
    )


@token_kinds
def test_no_continuation_ever_changes_a_memory(kind: str) -> None:
    model = token_model_of(kind)
    short, long = model.feed(random_ids(2, 5)).memory, model.feed(random_ids(2, 400)).memory
    memories = [short, long, model.feed(random_ids(2, 20), long).memory]  # the last one has room to grow
    kept = [packed(model, memory) for memory in memories]
    for number in range(60):
        origin = memories[number * 7 % len(memories)]
        ids = random_ids(2, (1, 3, 9, 20)[number % 4], seed=number)
        memories.append(model.feed(ids, origin).memory)
        kept.append(packed(model, memories[-1]))
        model.greedy(ids, origin, max_new_tokens=3)
        for memory, before in zip(memories, kept, strict=True):
            assert_same(packed(model, memory), before, exactly=True)


@token_kinds
def test_two_continuations_of_one_memory_are_both_right(kind: str) -> None:
    model = token_model_of(kind)
    start, left, right = random_ids(1, 40), random_ids(1, 20, seed=1), random_ids(1, 30, seed=2)
    memory = model.feed(start).memory
    one = model.feed(left, memory).memory
    held = packed(model, one)
    other = model.feed(right, memory).memory
    assert_same(packed(model, one), held, exactly=True)
    assert_same(held, packed(model, model.feed(torch.cat((start, left), 1)).memory))
    assert_same(packed(model, other), packed(model, model.feed(torch.cat((start, right), 1)).memory))


@token_kinds
def test_many_threads_ask_and_continue_one_memory_as_one_does(kind: str) -> None:
    model = token_model_of(kind)
    memory = model.feed(random_ids(1, 3), model.feed(random_ids(1, 200)).memory).memory  # has room to grow
    before = packed(model, memory)
    prompts = [random_ids(1, (1, 2, 5, 13, 40)[seed % 5], seed=seed) for seed in range(2 * THREADS)]

    def work(prompt: torch.Tensor) -> tuple[torch.Tensor, Packed]:
        longer = model.feed(prompt, memory).memory
        return model.greedy(prompt, memory, max_new_tokens=12), packed(model, longer)

    expected = [work(prompt) for prompt in prompts]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(work, prompts))
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one[0], other[0])
        assert_same(one[1], other[1])
    assert_same(packed(model, memory), before, exactly=True)


@token_kinds
def test_rows_do_not_see_each_other_and_can_be_taken_apart(kind: str) -> None:
    model = token_model_of(kind)
    ids, prompt = random_ids(3, 30), random_ids(3, 4, seed=1)
    memory = model.feed(ids).memory
    assert memory.parts == 3
    together = model.greedy(prompt, memory, max_new_tokens=6)
    for row in range(3):
        assert_same(packed(model, memory.row(row)), packed(model, model.feed(ids[row]).memory))
        assert torch.equal(model.greedy(prompt[row], memory.row(row), max_new_tokens=6)[0], together[row])
    for index in (-1, 3):
        with pytest.raises(InputError, match=rf"Row {index} .*expected 0 to 2"):
            memory.row(index)
    with pytest.raises(InputError, match="one or more"):
        type(memory)((), 0)


@token_kinds
@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "shape"),
        ([[]], "shape"),
        ([[[1]]], "shape"),
        ([[1, 61]], "expected 0 to 60"),
        ([61], "expected 0 to 60"),
        ([[-1]], "expected 0 to 60"),
        ([[0.5]], "whole numbers"),
        ([True], "whole numbers"),
        ([[1, 2], [3]], "table"),
        ("text", "table"),
        (["a"], "table"),
        (None, "table"),
    ],
)
def test_ids_that_cannot_be_fed_are_refused(kind: str, ids: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        token_model_of(kind).feed(ids)


@token_kinds
def test_lists_and_single_rows_of_ids_are_taken_too(kind: str) -> None:
    model = token_model_of(kind)
    ids = random_ids(1, 12)
    expected = packed(model, model.feed(ids).memory)
    for given_ids in (ids.tolist(), ids[0], ids[0].tolist()):
        assert_same(packed(model, model.feed(given_ids).memory), expected, exactly=True)


@token_kinds
def test_rows_that_do_not_fit_the_memory_and_counts_that_cannot_be_are_refused(kind: str) -> None:
    model = token_model_of(kind)
    memory = model.feed(random_ids(2, 10)).memory
    with pytest.raises(InputError, match="3 rows and the memory 2"):
        model.feed(random_ids(3, 1), memory)
    with pytest.raises(InputError, match="1 rows and the memory 2"):
        model.greedy(random_ids(1, 1), memory, max_new_tokens=2)
    for count in (0, -1, 1.5, True):
        with pytest.raises(InputError, match="max_new_tokens"):
            model.greedy(random_ids(1, 3), max_new_tokens=count)


@token_kinds
def test_without_a_tokenizer_there_are_token_ids_only(kind: str) -> None:
    model = token_model_of(kind)
    memory = model.feed([1, 2, 3]).memory
    with pytest.raises(InputError, match=r"without a tokenizer.*feed\(\) and greedy\(\)"):
        model.memorize("text")
    with pytest.raises(InputError, match="without a tokenizer"):
        model.recollect(asks(["Who?"], "span"), memory)


@pytest.mark.parametrize("kind", ["beacon", "beacon in parts", "long-context", "long-context in parts"])
def test_text_does_not_continue_what_feed_made(kind: str) -> None:
    model = model_of(kind)
    for ids in ([1, 2, 3], [[1, 2], [3, 4]]):
        memory = model.feed(ids).memory
        uses: list[Callable[[Any], Any]] = [
            lambda memory: model.memorize("text", memory),
            lambda memory: model.token_spans(memory),
            lambda memory: model.rewind(memory, 0),
        ]
        for use in uses:
            with pytest.raises(InputError, match=r"feed\(\)"):
                use(memory)
