"""LLMs by their shape: real clients of LangChain and LlamaIndex against a server on this machine."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_openai import ChatOpenAI
from llama_index.core.llms import MockLLM
from openai import BadRequestError

from memorag_core.errors import InputError, MemoRAGError
from memorag_core.memory.llm import LLM, Request, Said, Turn, Usage, as_text, estimate_tokens
from tests.core.interrupts import interrupted_at
from tests.core.loopback import MODEL, ChatServer, LoopbackLLM, chat, tokens

TEXT = (
    "=== Beginning of the text ===\n\nAnna repairs clocks. The ferry leaves early.\n\n=== End of the text ==="
)
TURNS = (Turn("user", TEXT), Turn("assistant", "Read."), Turn("user", "Question: Who repairs the clocks?"))
AFTER = "Nothing was changed."


@pytest.fixture
def server() -> Iterator[ChatServer]:
    made = ChatServer()
    yield made
    made.close()


def plain(number: int | str) -> Request:
    return Request((Turn("user", str(number)),), f"request {number}")


def ask_one(llm: LLM, request: Request | None = None, **how: Any) -> Said:
    ((said,),) = llm.ask([[request or Request(TURNS, "it")]], after_failure=AFTER, **how)
    return said


# What an LLM is


def test_a_langchain_chat_model_gets_turns_and_its_counts_are_taken(server: ChatServer) -> None:
    llm = LLM(chat(server))
    first, again = ask_one(llm), ask_one(llm)
    assert llm.name == MODEL
    assert first.text.startswith("Anna repairs clocks.")
    assert [message["role"] for message in server.bodies[0]["messages"]] == ["user", "assistant", "user"]
    assert [message["content"] for message in server.bodies[0]["messages"]] == [turn.text for turn in TURNS]
    assert (first.cached_tokens, again.cached_tokens) == (0, again.input_tokens)
    assert type(first.text) is str
    assert llm.usage == server.usage()


def test_a_llama_index_llm_gets_one_text_and_its_counts_are_taken(server: ChatServer) -> None:
    llm = LLM(LoopbackLLM(url=server.url))
    first, again = ask_one(llm), ask_one(llm)
    assert llm.name == MODEL
    assert first.text.startswith("Anna repairs clocks.")
    assert server.bodies[0]["messages"] == [{"role": "user", "content": as_text(TURNS)}]
    assert not first.estimated
    assert (first.cached_tokens, again.cached_tokens) == (0, again.input_tokens)
    assert llm.usage == server.usage()


def test_an_llm_of_llama_index_that_reports_nothing_is_estimated() -> None:
    said = ask_one(LLM(MockLLM(max_tokens=3)))
    assert said.estimated
    assert said.input_tokens == estimate_tokens(as_text(TURNS))


def test_a_function_gets_one_text_without_what_the_assistant_is_taken_to_have_said() -> None:
    prompts: list[str] = []

    def speak(prompt: str) -> str:
        prompts.append(prompt)
        return "  well\n"

    llm = LLM(speak, count_tokens=len)
    said = ask_one(llm)
    assert prompts == [f"{TEXT}\n\nQuestion: Who repairs the clocks?"]
    assert said == Said("well", len(prompts[0]), len("  well\n"), estimated=True)
    assert llm.usage.estimated
    assert llm.name.endswith("speak")


def test_a_chain_that_ends_in_a_text_and_bound_models_work_and_keep_their_name(server: ChatServer) -> None:
    chain = LLM(chat(server) | StrOutputParser(), name="chain")
    assert ask_one(chain).text.startswith("Anna repairs clocks.")
    assert ask_one(chain).estimated
    assert chain.name == "chain"
    for wrapped in (
        chat(server).bind(temperature=0.5),
        chat(server).with_retry(stop_after_attempt=2),
        chat(server).with_fallbacks([chat(server)]),
    ):
        llm = LLM(wrapped)
        assert llm.name == MODEL
        assert not ask_one(llm).estimated


def test_the_text_of_a_message_is_read_where_it_is_a_method_and_where_it_is_in_blocks() -> None:
    class Old:
        """A message as releases of langchain-core before 1.0 have it."""

        content = "said"
        usage_metadata = None
        response_metadata: dict[str, Any] = {"stop_reason": "max_tokens"}  # noqa: RUF012

        def text(self) -> str:
            return self.content

    class Client:
        def __init__(self, reply: Any) -> None:
            self.reply = reply

        def invoke(self, messages: Any) -> Any:
            return self.reply

        def batch(self, inputs: Any) -> Any:
            raise NotImplementedError

    old = ask_one(LLM(Client(Old())))
    assert (old.text, old.finished) == ("said", False)
    blocks = AIMessage([{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "said"}])
    assert ask_one(LLM(Client(blocks))).text == "said"


def test_a_llama_index_reply_of_a_provider_that_counts_cached_tokens_aside_is_counted_whole() -> None:
    class Reply:
        text = "said"
        raw = {  # noqa: RUF012
            "stop_reason": "max_tokens",
            "usage": {
                "input_tokens": 10,
                "cache_read_input_tokens": 90,
                "cache_creation_input_tokens": 5,
                "output_tokens": 2,
            },
        }

    class Client:
        metadata = None

        def complete(self, prompt: str) -> Any:
            return Reply()

    assert ask_one(LLM(Client())) == Said("said", 105, 2, 90, finished=False)


async def _speak_later(prompt: str) -> str:
    return prompt


@pytest.mark.parametrize("wrong", ["gpt-5", ChatOpenAI, 7, None, _speak_later])
def test_what_is_no_llm_is_refused_and_told_what_one_is(wrong: Any) -> None:
    with pytest.raises(
        InputError, match="expected a chat model of LangChain, an LLM of LlamaIndex, or a fun"
    ):
        LLM(wrong)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"concurrency": 0}, "concurrency is 0"),
        ({"concurrency": True}, "concurrency is True"),
        ({"name": " "}, "name of the LLM"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LLM(str, **settings)


def test_replies_and_counts_of_a_wrong_type_are_refused_with_the_remedy() -> None:
    with pytest.raises(MemoRAGError, match="returned int; expected a text"):
        ask_one(LLM(len))
    with pytest.raises(InputError, match=r"count_tokens gave 1\.5"):
        ask_one(LLM(str.upper, count_tokens=lambda text: 1.5))  # type: ignore[arg-type, return-value]


# The longest reply


def test_the_longest_reply_reaches_a_chat_model_and_a_reply_cut_off_says_so(server: ChatServer) -> None:
    llm = LLM(chat(server))
    said = ask_one(llm, max_new_tokens=2)
    assert (said.text, said.output_tokens, said.finished) == ("Anna repairs", 2, False)
    assert ask_one(llm).finished
    assert "max_completion_tokens" not in server.bodies[1]


def test_an_llm_of_llama_index_says_when_a_reply_was_cut_off(server: ChatServer) -> None:
    class Short(LoopbackLLM):
        def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
            reply = super().complete(prompt, formatted)
            reply.raw.choices[0].finish_reason = "length"
            return reply

    assert not ask_one(LLM(Short(url=server.url))).finished


def test_a_longest_reply_that_cannot_be_passed_on_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    llm = LLM(str.upper)
    with caplog.at_level(logging.WARNING):
        assert ask_one(llm, plain("a"), max_new_tokens=1).text == "A"
        ask_one(llm, plain("a"), max_new_tokens=1)
    assert [record.getMessage() for record in caplog.records] == [
        "str.upper cannot be told max_new_tokens; set the longest reply on the LLM"
    ]


# Many requests


@given(sizes=st.lists(st.integers(0, 5), max_size=5), concurrency=st.integers(1, 6), alone=st.booleans())
def test_replies_come_back_in_the_order_of_the_requests(
    sizes: list[int], concurrency: int, alone: bool
) -> None:
    groups = [[plain(f"{group}.{item}") for item in range(size)] for group, size in enumerate(sizes)]
    heard: dict[tuple[int, int], str] = {}

    def replied(group: int, item: int, said: Said) -> None:
        assert (group, item) not in heard
        heard[group, item] = said.text

    said = LLM(lambda prompt: prompt, concurrency=concurrency).ask(
        groups, after_failure=AFTER, first_alone=alone, replied=replied
    )
    expected = [[request.turns[0].text for request in group] for group in groups]
    assert [[reply.text for reply in replies] for replies in said] == expected
    assert heard == {(g, i): text for g, texts in enumerate(expected) for i, text in enumerate(texts)}


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    concurrency=st.integers(1, 4),
)
def test_the_others_of_a_group_wait_for_its_first_and_groups_are_sent_in_order(
    sizes: list[int], concurrency: int
) -> None:
    log: list[tuple[str, str]] = []
    lock = threading.Lock()

    def speak(prompt: str) -> str:
        with lock:
            log.append(("sent", prompt))
        time.sleep(0.0005)
        with lock:
            log.append(("answered", prompt))
        return prompt

    groups = [[plain(f"{group}.{item}") for item in range(size)] for group, size in enumerate(sizes)]
    LLM(speak, concurrency=concurrency).ask(groups, after_failure=AFTER, first_alone=True)
    for group, size in enumerate(sizes):
        first = log.index(("answered", f"{group}.0"))
        assert all(first < log.index(("sent", f"{group}.{item}")) for item in range(1, size))
    if concurrency == 1:
        sent = [prompt for what, prompt in log if what == "sent"]
        assert sent == [f"{group}.{item}" for group, size in enumerate(sizes) for item in range(size)]


def test_no_more_requests_are_in_flight_than_stated_over_all_threads(server: ChatServer) -> None:
    server.seconds = 0.02
    llm = LLM(chat(server), concurrency=3)
    groups = [[Request(TURNS, str(number)) for number in range(8)]]
    threads = [threading.Thread(target=llm.ask, args=(groups,), kwargs={"after_failure": ""}) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.asked == 16
    assert server.most_at_once == 3
    assert llm.usage.requests == 16


def test_what_the_caller_keeps_in_its_context_is_there_when_the_llm_is_asked() -> None:
    trace: ContextVar[str] = ContextVar("trace", default="none")
    trace.set("mine")
    assert ask_one(LLM(lambda prompt: trace.get())).text == "mine"


# Failure


@pytest.mark.parametrize("concurrency", [1, 3])
def test_after_the_first_failure_nothing_more_is_sent_and_the_error_says_what_happened(
    concurrency: int,
) -> None:
    sent: list[str] = []

    def speak(prompt: str) -> str:
        sent.append(prompt)
        if prompt == "2":
            raise TimeoutError("no reply within 3 seconds.")
        return prompt

    llm = LLM(speak, name="some model", concurrency=concurrency)
    with pytest.raises(MemoRAGError) as raised:
        llm.ask([[plain(number) for number in range(50)]], after_failure="All is as it was.")
    assert isinstance(raised.value.__cause__, TimeoutError)
    message = str(raised.value)
    assert "'some model' gave no reply to request 2: TimeoutError: no reply within 3 seconds. " in message
    assert "All is as it was." in message
    assert "max_retries" in message
    assert f"answered: {len(sent) - 1} of 50" in message
    assert len(sent) < 50
    assert llm.usage.requests == len(sent) - 1


def test_those_in_flight_are_waited_for_so_that_nothing_goes_on_behind_an_error() -> None:
    done: list[str] = []

    def speak(prompt: str) -> str:
        if prompt == "0":
            raise ConnectionError("gone")
        time.sleep(0.05)
        done.append(prompt)
        return prompt

    llm = LLM(speak, concurrency=2)
    with pytest.raises(MemoRAGError, match="gone"):
        llm.ask([[plain(0), plain(1)]], after_failure=AFTER)
    count = len(done)
    time.sleep(0.1)
    assert len(done) == count == llm.usage.requests


def test_an_error_of_the_listener_ends_the_call_and_a_new_call_works() -> None:
    def replied(group: int, item: int, said: Said) -> None:
        raise OSError("disk full")

    llm = LLM(str.upper)
    with pytest.raises(OSError, match="disk full"):
        llm.ask([[plain("a")] * 20], after_failure=AFTER, replied=replied)
    assert ask_one(llm, plain("a")).text == "A"


def test_an_interruption_is_not_dressed_up_as_a_failure_of_the_client() -> None:
    def speak(prompt: str) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask_one(LLM(speak))


def test_a_prompt_that_the_server_refuses_is_one_error_with_its_words(server: ChatServer) -> None:
    server.always = "refused"
    with pytest.raises(MemoRAGError, match=r"Error: .*maximum context length is 8192\. ") as raised:
        ask_one(LLM(chat(server)))
    assert isinstance(raised.value.__cause__, BadRequestError)
    assert server.asked == 1  # the client knows that trying again is no use


# Tokens and money


@given(st.text())
def test_the_estimate_is_a_token_for_every_four_bytes(text: str) -> None:
    assert estimate_tokens(text) == tokens(text)


def test_the_cost_follows_from_the_prices_per_million() -> None:
    usage = Usage(requests=2, input_tokens=3_000_000, cached_tokens=2_000_000, output_tokens=500_000)
    assert usage.cost(input_price=2.0, output_price=8.0, cached_price=0.5) == pytest.approx(2 + 1 + 4)
    assert usage.cost(input_price=2.0, output_price=8.0) == pytest.approx(6 + 4)


def test_usage_is_a_value_that_later_requests_do_not_change() -> None:
    llm = LLM(str.upper)
    before = llm.usage
    ask_one(llm)
    assert before == Usage()
    assert llm.usage.requests == 1


# Interrupts


def test_an_interrupt_does_not_wait_for_requests_in_flight() -> None:
    sent, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def say(prompt: str) -> str:
        sent.set()
        may_end.wait(20)
        ended.set()
        return "late"

    def interrupt() -> bool:
        if sent.is_set():
            raise KeyboardInterrupt
        return True

    with pytest.raises(KeyboardInterrupt):
        ask_one(LLM(say), goes_on=interrupt)
    assert not ended.is_set()
    may_end.set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("threads", [False, True])
def test_an_interrupt_at_any_line_takes_no_place_among_requests_in_flight(threads: bool) -> None:
    llm = LLM(lambda prompt: "Anna", concurrency=1)
    number = 0

    def ask() -> None:
        with suppress(MemoRAGError):  # of a thread that was broken off
            ask_one(llm)

    while interrupted_at(number, ask, files=("llm.py", "locking.py"), threads=threads):
        done = threading.Event()
        threading.Thread(target=lambda done=done: (ask_one(llm), done.set()), daemon=True).start()
        assert done.wait(20)
        number += 1
    assert number > 20
