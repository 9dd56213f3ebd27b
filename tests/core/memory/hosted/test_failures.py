"""What goes wrong on the way to a server: what the client makes good is never seen, the rest is one error."""

from __future__ import annotations

import threading
from typing import Any, get_args

import openai
import pytest

from memorag_core import MemoRAG
from memorag_core.errors import MemoRAGError
from memorag_core.memory.hosted import HostedModel
from memorag_core.memory.llm import Usage
from tests.core.doubles import asks
from tests.core.loopback import PATIENCE, ChatServer, LoopbackLLM, Trouble, chat
from tests.core.memory.hosted.test_model import ISLAND, real_text

QUESTIONS = ["Who repairs the clock?", "When does the ferry leave?", "Of what is the tower?", "Who was born?"]

PASSING: tuple[Trouble, ...] = ("busy", "broken", "slow", "cut")
"""What a client tries again after."""

COUNTS = ("requests", "input_tokens", "cached_tokens", "output_tokens")

FINAL: dict[Trouble, str] = {
    "busy": "slow down",
    "broken": "our fault",
    "slow": "timed out",
    "cut": "Connection error",
    "garbled": "JSONDecodeError",
    "refused": "maximum context length",
}


def calm(server: ChatServer) -> tuple[Any, Usage]:
    """What is said when nothing goes wrong, and what it takes."""
    model = HostedModel(chat(server))
    return model.recollect(asks(QUESTIONS, "span"), model.memorize(ISLAND), language="en"), model.usage


def patience(trouble: Trouble) -> float:
    """A timeout that a good answer keeps on a busy machine as well, where none is meant to be missed."""
    return PATIENCE if trouble == "slow" else 30.0


def test_every_trouble_is_tried_here() -> None:
    assert {*FINAL, "ok"} == {*get_args(Trouble)}


@pytest.mark.parametrize("trouble", PASSING)
def test_nothing_is_lost_when_the_client_tries_again(server: ChatServer, trouble: Trouble) -> None:
    expected, usage = calm(server)
    before = server.asked
    server.troubles = [trouble, "ok", trouble, trouble]
    model = HostedModel(chat(server, max_retries=5, timeout=patience(trouble)))
    said = model.recollect(asks(QUESTIONS, "span"), model.memorize(ISLAND), language="en")
    assert said == expected
    assert server.asked - before == len(QUESTIONS) + 3
    assert (model.usage.requests, model.usage.output_tokens) == (len(QUESTIONS), usage.output_tokens)


def test_all_troubles_at_once_over_many_parts_lose_nothing_and_keep_the_order(server: ChatServer) -> None:
    calm_model = HostedModel(chat(server), capacity=400)
    memory = calm_model.memorize(real_text(5000))
    expected = calm_model.recollect(asks(QUESTIONS, "query"), memory, language="en")
    before = server.usage()
    server.troubles = ["busy", "ok", "broken", "busy", "ok", "slow", "broken", "cut", "ok", "busy", "broken"]
    model = HostedModel(chat(server, max_retries=8, timeout=PATIENCE), capacity=400)
    assert model.recollect(asks(QUESTIONS, "query"), memory, language="en") == expected
    assert not server.troubles
    after = server.usage()
    assert [getattr(model.usage, name) for name in COUNTS] == [
        getattr(after, name) - getattr(before, name) for name in COUNTS
    ]


def test_an_llm_of_llama_index_is_tried_again_by_its_own_client(server: ChatServer) -> None:
    model = HostedModel(LoopbackLLM(url=server.url))
    memory = model.memorize(ISLAND)
    expected = model.recollect(asks(QUESTIONS, "span"), memory, language="en")
    server.troubles = ["busy", "broken", "busy"]
    assert model.recollect(asks(QUESTIONS, "span"), memory, language="en") == expected
    server.always = "broken"
    with pytest.raises(MemoRAGError, match="our fault"):
        HostedModel(LoopbackLLM(url=server.url, max_retries=0)).recollect(asks(QUESTIONS, "span"), memory)


@pytest.mark.parametrize("trouble", FINAL)
def test_at_the_end_of_patience_there_is_one_clear_error_and_asking_again_works(
    server: ChatServer, trouble: Trouble
) -> None:
    expected, _ = calm(server)
    model = HostedModel(chat(server, max_retries=1, timeout=patience(trouble)), concurrency=2)
    memory = model.memorize(ISLAND)
    before = model.pack(memory)
    server.always = trouble
    with pytest.raises(MemoRAGError, match=FINAL[trouble]) as raised:
        model.recollect(asks(QUESTIONS, "span"), memory, language="en")
    message = str(raised.value)
    assert "the request for 'span', question 'W" in message
    assert "Requests answered: 0 of 4." in message
    assert "The memory is as it was and can be asked again" in message
    assert "max_retries" in message
    assert "timeout" in message
    assert raised.value.__cause__ is not None
    assert not isinstance(raised.value.__cause__, MemoRAGError)
    assert model.usage == Usage()
    after = model.pack(memory)
    assert {name: array.tolist() for name, array in after[0].items()} == {
        name: array.tolist() for name, array in before[0].items()
    }
    server.always = "ok"
    assert model.recollect(asks(QUESTIONS, "span"), memory, language="en") == expected


def test_the_cause_is_the_clients_own_error(server: ChatServer) -> None:
    server.always = "busy"
    model = HostedModel(chat(server, max_retries=0))
    with pytest.raises(MemoRAGError) as raised:
        model.recollect(asks(["Who?"], "span"), model.memorize(ISLAND))
    assert isinstance(raised.value.__cause__, openai.RateLimitError)


def test_a_failure_names_the_part_and_tells_what_was_answered_and_billed(server: ChatServer) -> None:
    model = HostedModel(chat(server, max_retries=0), capacity=400, concurrency=1)
    memory = model.memorize(real_text(5000))
    server.troubles = ["ok", "ok", "broken"]
    with pytest.raises(MemoRAGError) as raised:
        model.recollect(asks(["Why?"], "answer"), memory, language="en")
    assert f"for 'answer' in part 3 of {memory.parts}, question 'Why?'" in str(raised.value)
    assert f"Requests answered: 2 of {memory.parts}." in str(raised.value)
    assert server.asked == 3
    assert model.usage.requests == server.billed["requests"] == 2  # it was billed, so it is counted


def test_a_server_that_is_not_there_is_one_clear_error(server: ChatServer) -> None:
    model = HostedModel(chat(server, max_retries=0))
    server.close()
    with pytest.raises(MemoRAGError, match="Connection error"):
        model.recollect(asks(["Who?"], "span"), model.memorize(ISLAND))


def test_a_failure_reaches_who_asked_and_nobody_else(server: ChatServer) -> None:
    patient = HostedModel(chat(server, max_retries=200))
    memory = patient.memorize(ISLAND)
    expected = patient.recollect(asks(QUESTIONS, "span"), memory, language="en")
    hasty = HostedModel(chat(server, max_retries=0))
    server.seconds = 0.02
    outcomes: dict[str, Any] = {}

    def ask(name: str, model: HostedModel) -> None:
        try:
            outcomes[name] = model.recollect(asks(QUESTIONS, "span"), memory, language="en")
        except MemoRAGError as error:
            outcomes[name] = error

    server.always = "broken"
    threads = [threading.Thread(target=ask, args=one) for one in (("patient", patient), ("hasty", hasty))]
    for thread in threads:
        thread.start()
    threads[1].join()
    server.always = "ok"
    threads[0].join()
    assert isinstance(outcomes["hasty"], MemoRAGError)
    assert outcomes["patient"] == expected


def test_when_the_client_gives_up_the_rest_is_not_sent(server: ChatServer) -> None:
    server.always = "slow"
    model = HostedModel(chat(server, max_retries=0, timeout=PATIENCE), concurrency=2)
    memory = model.memorize(ISLAND)
    with pytest.raises(MemoRAGError, match="timed out"):
        model.recollect(asks(QUESTIONS * 5, "span"), memory)
    assert server.asked <= 4


def test_a_pipeline_keeps_nothing_of_a_question_that_failed(server: ChatServer) -> None:
    rag = MemoRAG(HostedModel(chat(server, max_retries=0)), progress=False).memorize(ISLAND)
    server.troubles = ["ok", "broken"]
    with pytest.raises(MemoRAGError, match="our fault"):
        rag.retrieve("Who repairs the clocks?", k=1)
    found = rag.retrieve("Who repairs the clocks?", k=1)
    assert "Anna Holt" in found[0].chunk.text
    assert found == rag.retrieve("Who repairs the clocks?", k=1)
