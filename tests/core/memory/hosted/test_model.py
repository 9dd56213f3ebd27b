"""The hosted model as a memory model: reading, asking, caching, counting, against a server."""

from __future__ import annotations

import json
import pydoc_data.topics
import re
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.errors import InputError
from memorag_core.memory.hosted import HostedMemory, HostedModel
from memorag_core.prompts import PromptSet, load_prompts
from memorag_core.types import ClueKind, Document
from tests.core.doubles import asks
from tests.core.loopback import MODEL, ChatServer, LoopbackLLM, chat, shared

ISLAND = (
    "Anna Holt repairs every clock in the valley. She was born in May.\n\n"
    "The ferry to the mainland leaves at seven and carries the mail.\n\n"
    "The tower at Skerry Point was raised from green granite in 1871."
)


def real_text(size: int) -> str:
    """The head of what CPython's help() says about the language."""
    return "\n\n".join(map(str, pydoc_data.topics.topics.values()))[:size]


def offline(**settings: Any) -> HostedModel:
    """A model that is never asked."""
    return HostedModel(str.upper, **settings)


# Reading


def test_a_short_text_is_one_part_and_stands_in_the_prompt_as_it_is() -> None:
    memory = offline().memorize(f"\n{ISLAND} \n")
    assert memory.parts == 1
    assert memory.text(0) == ISLAND
    assert memory.nbytes == len(ISLAND) + 3
    assert len(ISLAND) / 4 <= memory.tokens <= len(ISLAND) / 4 + 6  # each sentence is rounded up


def test_parts_of_a_long_text_hold_what_the_capacity_says_and_all_of_the_text() -> None:
    text = real_text(40_000)
    model = offline(capacity=1000)
    memory = model.memorize(text)
    assert memory.parts >= 10
    place = 0
    for part in range(memory.parts):
        stands = memory.text(part)
        assert 800 <= len(stands.encode()) / 4 <= 1000 or part == memory.parts - 1
        at = text.index(stands[:200], max(0, place - 4 * model.overlap - 100))
        assert not text[place:at].strip()  # no gap
        assert text[at : at + len(stands)] == stands
        place = at + len(stands)
    assert not text[place:].strip()


SENTENCES = st.lists(
    st.sampled_from(
        ["A short one. ", "And a sentence of several words, with a comma in it.\n", "中文的句子。", "x" * 300]
    ),
    min_size=1,
    max_size=12,
).map("".join)


@given(
    texts=st.lists(SENTENCES, min_size=1, max_size=6),
    cuts=st.sets(st.integers(1, 5)),
    capacity=st.integers(64, 200),
)
def test_appending_documents_equals_reading_them_at_once(
    texts: list[str], cuts: set[int], capacity: int
) -> None:
    model = offline(capacity=capacity, overlap=capacity // 3)
    at_once = model.memorize([Document(text, id=str(number)) for number, text in enumerate(texts)])
    memory: HostedMemory | None = None
    borders = [0, *sorted(cut for cut in cuts if cut < len(texts)), len(texts)]
    for start, end in pairwise(borders):
        before = memory
        kept = (before.spans, before.tokens) if before else None
        memory = model.memorize([Document(text) for text in texts[start:end]], memory)
        assert before is None or (before.spans, before.tokens) == kept  # what was read stays as it is
    assert memory == at_once
    joined = "\n\n".join(texts)
    assert "".join(piece.text for piece in at_once.pieces) == joined


def test_the_users_own_count_of_tokens_decides_about_parts() -> None:
    words = offline(capacity=64, overlap=0, count_tokens=lambda text: len(text.split()))
    memory = words.memorize("five words are in this. " * 40)
    assert memory.tokens == 200
    assert [memory.text(part).count("five") for part in range(memory.parts)] == [12, 12, 12, 4]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"capacity": 63}, "capacity is 63"),
        ({"capacity": "auto"}, "capacity is 'auto'"),
        ({"capacity": 100, "overlap": 51}, "overlap is 51; expected 0 to 50"),
        ({"overlap": -1}, "overlap is -1"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"name": ""}, "name"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        offline(**settings)


def test_memories_of_other_models_and_settings_are_refused() -> None:
    memory = offline(capacity=100).memorize(ISLAND)
    uses: list[Callable[[HostedModel, Any], Any]] = [
        lambda model, given: model.memorize("more", given),
        lambda model, given: model.recollect(asks(["Who?"], "span"), given),
        lambda model, given: model.pack(given),
    ]
    for use in uses:
        with pytest.raises(InputError, match="parts of 100 tokens"):
            use(offline(capacity=200), memory)
        with pytest.raises(InputError, match="The memory is a str"):
            use(offline(), "memory")


# Asking


def test_each_part_answers_each_question_and_places_are_kept(server: ChatServer) -> None:
    model = HostedModel(chat(server), capacity=64, overlap=0)
    memory = model.memorize(
        f"{ISLAND}\n\nA mill stands by the brook. The miller sells flour to the bakery in the village."
    )
    questions = ["Who repairs the clock?", "When does the ferry leave?", "What does the miller sell?"]
    said = model.recollect(asks(questions, "span"), memory, language="en")
    assert memory.parts == 2
    assert [[one.part for one in each] for each in said] == [[0, 1]] * 3
    assert said[0][0].text.startswith("Anna Holt repairs every clock")
    assert said[1][0].text.startswith("The ferry to the mainland")
    assert said[2][1].text.startswith("The miller sells flour")
    assert {one.score for each in said for one in each} == {0.0}
    assert all(one.finished and one.tokens == len(one.text.split(" ")) for each in said for one in each)
    assert server.asked == 6


def test_no_question_is_no_request(server: ChatServer) -> None:
    model = HostedModel(chat(server))
    assert model.recollect(asks([], "span"), model.memorize(ISLAND)) == ()
    assert server.asked == 0


def test_the_longest_reply_is_passed_on_and_a_cut_reply_says_so(server: ChatServer) -> None:
    model = HostedModel(chat(server))
    ((said,),) = model.recollect(
        asks(["Who repairs the clock?"], "span"), model.memorize(ISLAND), max_new_tokens=3
    )
    assert (said.text, said.tokens, said.finished) == ("Anna Holt repairs", 3, False)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"questions": ["Who?", " "]}, "The question is ' '"),
        ({"questions": [7]}, "The question is 7"),
        ({"kind": "poem"}, "kind of clue is 'poem'"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"language": 7}, "language is 7"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_sent(
    server: ChatServer, how: dict[str, Any], message: str
) -> None:
    model = HostedModel(chat(server))
    memory = model.memorize(ISLAND)
    asked: dict[str, Any] = {"questions": ["Who?"], "memory": memory, "kind": "span", **how}
    with pytest.raises(InputError, match=message):
        model.recollect(asks(asked.pop("questions"), asked.pop("kind")), asked.pop("memory"), **asked)
    assert server.asked == 0


def test_key_points_need_no_question(server: ChatServer) -> None:
    model = HostedModel(chat(server))
    model.recollect(asks([""], "key_point"), model.memorize(ISLAND), language="en")
    assert "Summarize the whole text." in server.prompts()[0]


# What stands in a prompt


def test_a_conversation_is_the_context_turn_the_reply_and_the_request(server: ChatServer) -> None:
    model = HostedModel(chat(server))
    memory = model.memorize(ISLAND)
    for language in ("en", "zh", None):
        model.recollect(asks(["Who?"], "query"), memory, language=language)
        prompts = load_prompts(language)
        assert [(turn["role"], turn["content"]) for turn in server.bodies[-1]["messages"]] == [
            ("user", prompts.context_parts(ISLAND).text),
            ("assistant", prompts.reply),
            ("user", prompts.render("query", "Who?")),
        ]


@pytest.mark.parametrize(("chatting", "between"), [(True, "\n\n"), (False, "")])
def test_a_prompt_set_without_turns_of_its_own_is_one_turn(
    server: ChatServer, chatting: bool, between: str
) -> None:
    prompts = PromptSet.from_mapping(
        {"chat": chatting, "context": "<{context}>", "tasks": {"span": "{question}!"}}
    )
    model = HostedModel(chat(server), prompts=prompts)
    model.recollect(asks(["Who?"], "span"), model.memorize(ISLAND))
    assert server.bodies[0]["messages"] == [{"role": "user", "content": f"<{ISLAND}>{between}Who?!"}]
    with pytest.raises(InputError, match="no request for clues of kind 'answer'"):
        model.recollect(asks(["Who?"], "answer"), model.memorize(ISLAND))


@pytest.mark.parametrize("client", ["langchain", "llama_index"])
def test_all_prompts_for_a_part_are_the_same_up_to_the_request(server: ChatServer, client: str) -> None:
    llm = chat(server) if client == "langchain" else LoopbackLLM(url=server.url)
    model = HostedModel(llm, capacity=400)
    memory = model.memorize(real_text(4000))
    questions = ["What is a lambda?", "Which statement asserts?", "How does a loop end?"]
    kinds: tuple[ClueKind, ...] = ("span", "query", "answer")
    for kind in kinds:
        model.recollect(asks(questions, kind), memory, language="en")
    assert memory.parts > 2
    prompts = server.prompts()
    for part in range(memory.parts):
        stands = load_prompts("en").context_parts(memory.text(part)).text
        own = [prompt for prompt in prompts if stands in prompt]
        assert len(own) == 9
        beginning = own[0][: own[0].index(stands) + len(stands)]
        assert all(prompt.startswith(beginning) for prompt in own)


def test_with_one_request_at_a_time_those_that_begin_alike_follow_each_other(server: ChatServer) -> None:
    model = HostedModel(chat(server), capacity=400, concurrency=1)
    memory = model.memorize(real_text(4000))
    model.recollect(asks(["One?", "Two?", "Three?"], "span"), memory, language="en")
    order = [
        next(part for part in range(memory.parts) if memory.text(part) in prompt)
        for prompt in server.prompts()
    ]
    assert order == sorted(order)


# The provider's cache


def test_every_request_but_the_first_of_a_part_finds_the_part_in_the_cache(server: ChatServer) -> None:
    server.seconds = 0.01
    model = HostedModel(chat(server), capacity=1200, concurrency=4)
    memory = model.memorize(real_text(16_000))
    assert memory.parts >= 3
    questions = [f"What about number {number}?" for number in range(5)]
    model.recollect(asks(questions, "span"), memory, language="en")
    repeated = sum(len(memory.text(part).encode()) // 4 for part in range(memory.parts)) * 4
    assert model.usage.cached_tokens >= repeated
    before = model.usage
    model.recollect(asks(questions, "answer"), memory, language="en")
    assert model.usage.cached_tokens - before.cached_tokens >= repeated / 4 * 5  # now the first ones as well


def test_a_text_below_what_providers_cache_waits_for_no_first_request(server: ChatServer) -> None:
    server.seconds = 0.5
    model = HostedModel(chat(server), concurrency=4)
    model.recollect(asks(["A?", "B?", "C?", "D?"], "span"), model.memorize(ISLAND))
    assert server.most_at_once == 4


def test_a_memory_that_grows_keeps_the_beginning_of_its_prompts(server: ChatServer) -> None:
    model = HostedModel(chat(server))
    memory = model.memorize(ISLAND)
    model.recollect(asks(["Who?"], "span"), memory)
    model.recollect(asks(["Who?"], "span"), model.memorize("A new bridge was built.", memory))
    first, second = server.prompts()
    assert shared(first, second) >= first.index(ISLAND) + len(ISLAND)


# Usage


def test_the_usage_is_what_the_server_billed_with_many_threads_at_once(server: ChatServer) -> None:
    model = HostedModel(chat(server), capacity=200, concurrency=4)
    memory = model.memorize(real_text(2000))
    kinds: tuple[ClueKind, ...] = ("span", "answer")
    expected = [model.recollect(asks(["What is it?", "How?"], kind), memory) for kind in kinds]
    found: dict[int, Any] = {}

    def ask(thread: int) -> None:
        found[thread] = model.recollect(asks(["What is it?", "How?"], kinds[thread % 2]), memory)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert all(said == expected[thread % 2] for thread, said in found.items())
    assert server.most_at_once <= 4
    assert model.usage == server.usage()
    assert model.usage.requests == memory.parts * 2 * 8


def test_a_function_that_reports_nothing_has_an_estimated_usage() -> None:
    model = HostedModel(lambda prompt: "Anna repairs it.", name="mine")
    model.recollect(asks(["Who?"], "span"), model.memorize(ISLAND), language="en")
    assert model.usage.estimated
    assert model.usage.output_tokens == 4
    assert model.usage.input_tokens >= len(ISLAND) / 4


# Identity


def test_the_fingerprint_tells_what_a_memory_depends_on(server: ChatServer) -> None:
    prompts = PromptSet.from_mapping({"context": "{context}", "tasks": {"span": "{question}"}})
    models = [
        HostedModel(chat(server)),
        HostedModel(chat(server), name="other"),
        HostedModel(chat(server), capacity=5000),
        HostedModel(chat(server), overlap=7),
        HostedModel(chat(server), prompts=prompts),
    ]
    prints = [json.dumps(model.fingerprint, sort_keys=True) for model in models]
    assert len(set(prints)) == len(prints)
    assert models[0].fingerprint == HostedModel(chat(server, max_retries=9), concurrency=1).fingerprint
    assert models[0].fingerprint["model"] == models[0].name == MODEL
    assert HostedModel(LoopbackLLM(url=server.url)).name == MODEL
    assert re.fullmatch("[0-9a-f]{64}", models[-1].fingerprint["prompts"])
