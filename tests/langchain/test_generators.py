"""Generators: a memory as a chat model, and chat models behind OpenAI's protocol against a real server."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
from threading import Event
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests
from openai import APIStatusError, APITimeoutError
from pydantic import SecretStr, ValidationError

from langchain_memorag.endpoints import NO_KEY, chat_openai
from langchain_memorag.generators import MemoryChatModel
from memorag_core import InputError, MemoRAG, NothingMemorizedError
from tests.core.doubles import SentenceModel
from tests.langchain.completions import PATIENCE, REPLY, CompletionsServer, Trouble, running
from tests.langchain.conftest import QUESTION, remembering

server = pytest.fixture(running)

SENTENCE = "Anna Holt repairs every clock in the valley."
KEY = "sk-this-is-never-shown-5c1f"
VARIABLES = (
    "OPENAI_API_KEY",
    "OPENAI_ORG_ID",
    "OPENAI_PROJECT_ID",
    "OPENAI_API_VERSION",
    "OPENAI_API_BASE",
    "OPENAI_BASE_URL",
    "AZURE_OPENAI_API_KEY",
    "AZURE_OPENAI_ENDPOINT",
    "AZURE_OPENAI_AD_TOKEN",
    "DEEPSEEK_API_KEY",
)


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


# The memory as a chat model


class _Memory:
    """What LangChain's suites are told of it."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return MemoryChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"memorag": remembering(SentenceModel())}

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False

    @property
    def returns_usage_metadata(self) -> bool:
        return False  # nobody counts the tokens of a question put to a memory

    @property
    def supports_model_override(self) -> bool:
        return False


class TestMemoryUnit(_Memory, ChatModelUnitTests):
    pass


class TestMemory(_Memory, ChatModelIntegrationTests):
    pass


async def test_a_memory_answers_the_last_message_in_every_way_of_calling(memorag: MemoRAG) -> None:
    llm = MemoryChatModel(memorag=memorag)
    messages = [SystemMessage("Be kind."), HumanMessage("Hello"), AIMessage("Yes?"), HumanMessage(QUESTION)]
    assert llm.invoke(messages).content == llm.invoke(QUESTION).content == SENTENCE
    assert (await llm.ainvoke(QUESTION)).content == SENTENCE
    assert "".join(str(chunk.content) for chunk in llm.stream(QUESTION)) == SENTENCE
    assert "".join([str(chunk.content) async for chunk in llm.astream(QUESTION)]) == SENTENCE
    assert memorag.answer(QUESTION).text == SENTENCE


def test_what_a_memory_says_is_marked_as_recalled(memorag: MemoRAG) -> None:
    metadata = MemoryChatModel(memorag=memorag).invoke(QUESTION).response_metadata
    assert metadata["source"] == "memory"
    assert {"score", "part", "tokens", "seconds"} <= metadata.keys()


def test_a_memory_that_remembers_nothing_says_nothing() -> None:
    class Silent(SentenceModel):
        def recollect(self, asks: Any, memory: Any, **how: Any) -> Any:
            return tuple(() for _ in asks)

    said = MemoryChatModel(memorag=remembering(Silent())).invoke(QUESTION)
    assert said.content == ""
    assert "score" not in said.response_metadata


async def test_the_event_loop_is_free_while_a_memory_answers(gated: tuple[MemoRAG, Event]) -> None:
    memorag, gate = gated
    waiting = asyncio.create_task(MemoryChatModel(memorag=memorag).ainvoke(QUESTION))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    gate.set()
    assert (await waiting).content == SENTENCE


def test_the_cache_of_langchain_never_answers_for_another_memory(memorag: MemoRAG) -> None:
    set_llm_cache(InMemoryCache())
    try:
        assert MemoryChatModel(memorag=memorag).invoke(QUESTION).content == SENTENCE
        other = MemoRAG(SentenceModel(), progress=False).memorize("Ivo Tarn repairs the timepieces.")
        assert MemoryChatModel(memorag=other).invoke(QUESTION).content == "Ivo Tarn repairs the timepieces."
    finally:
        set_llm_cache(None)


def test_neither_repr_nor_a_serialized_form_of_a_memory_shows_it(memorag: MemoRAG) -> None:
    llm = MemoryChatModel(memorag=memorag)
    for shown in (repr(llm), str(llm), dumps(llm), str(llm.model_dump())):
        assert "Anna" not in shown
        assert "MemoRAG object" not in shown
    with pytest.raises(TypeError):
        pickle.dumps(llm)


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        ([AIMessage("Hm.")], "one of type 'ai'"),
        ([HumanMessage(" ")], "one of type 'human' with the text ' '"),
        ([SystemMessage("Be kind.")], "one of type 'system'"),
    ],
)
def test_a_memory_is_asked_by_the_user_alone(messages: Any, found: str, memorag: MemoRAG) -> None:
    with pytest.raises(InputError, match=f"last message is {found}.*expected the user's question"):
        MemoryChatModel(memorag=memorag).invoke(messages)


def test_a_memory_says_what_it_cannot_take(memorag: MemoRAG) -> None:
    with pytest.raises(InputError, match="was given max_tokens; expected messages"):
        MemoryChatModel(memorag=memorag).invoke(QUESTION, max_tokens=3)
    with pytest.raises(ValidationError, match=r"expected a memorag_core\.MemoRAG"):
        MemoryChatModel(memorag="book.txt")  # type: ignore[arg-type]
    with pytest.raises(NothingMemorizedError):
        MemoryChatModel(memorag=MemoRAG(SentenceModel())).invoke(QUESTION)


# OpenAI's protocol: where requests go, and what goes with them


async def test_openai_gets_its_key_as_bearer(
    server: CompletionsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    llm = chat_openai("openai", "gpt-x", endpoint=server.url, max_tokens=9, temperature=0.5)
    assert isinstance(llm, ChatOpenAI)
    assert llm.invoke("Hi").content == (await llm.ainvoke("Hi")).content == REPLY
    for asked in server.asked:
        assert asked.path == "/v1/chat/completions"
        assert asked.headers["authorization"] == f"Bearer {KEY}"
        assert (asked.body["model"], asked.body["max_completion_tokens"], asked.body["temperature"]) == (
            "gpt-x",
            9,
            0.5,
        )


@pytest.mark.parametrize("from_environment", [True, False])
async def test_azure_gets_deployment_version_and_api_key(
    from_environment: bool, server: CompletionsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-mine")
    if from_environment:
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.origin + "/")
        monkeypatch.setenv("OPENAI_API_VERSION", "2024-10-21")
        llm = chat_openai("azure", "my-gpt")
    else:
        llm = chat_openai(
            "azure", "my-gpt", endpoint=server.origin, api_key=SecretStr(KEY), api_version="2024-10-21"
        )
    assert isinstance(llm, AzureChatOpenAI)
    assert llm.invoke("Hi").content == (await llm.ainvoke("Hi")).content == REPLY
    assert "".join(str(chunk.content) for chunk in llm.stream("Hi")) == REPLY
    for asked in server.asked:
        assert asked.path == "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21"
        assert asked.headers["api-key"] == KEY
        assert "authorization" not in asked.headers
        assert not any("of-another" in value or "of-mine" in value for value in asked.headers.values())


async def test_deepseek_gets_chat_completions_with_its_own_key(
    server: CompletionsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPSEEK_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-mine")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-mine")
    llm = chat_openai("deepseek", "deepseek-chat", endpoint=server.url, max_tokens=9)
    assert llm.invoke("Hi").content == (await llm.ainvoke("Hi")).content == REPLY
    chunks = [chunk async for chunk in llm.astream("Hi")]
    assert "".join(str(chunk.content) for chunk in chunks) == REPLY
    assert next(chunk.usage_metadata for chunk in chunks if chunk.usage_metadata)["output_tokens"] == 5
    for asked in server.asked:
        assert asked.path == "/v1/chat/completions"
        assert asked.headers["authorization"] == f"Bearer {KEY}"
        assert not any("of-another" in value or "of-mine" in value for value in asked.headers.values())
        assert asked.body["max_tokens"] == 9
        assert "max_completion_tokens" not in asked.body


def test_the_usual_addresses_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_API_KEY", KEY)
    addresses = {
        "deepseek": "https://api.deepseek.com/v1",
        "ollama": "http://localhost:11434/v1",
        "vllm": "http://localhost:8000/v1",
        "lmstudio": "http://localhost:1234/v1",
        "https://llm.example/v1": "https://llm.example/v1",
    }
    assert {name: chat_openai(name, "m").openai_api_base for name in addresses} == addresses


@pytest.mark.parametrize("provider", ["ollama", "vllm", "lmstudio", "an address"])
def test_other_servers_need_no_key_and_never_get_that_of_openai(
    provider: str, server: CompletionsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    by_name = provider != "an address"
    name, endpoint = (provider, server.url) if by_name else (server.url, None)
    assert chat_openai(name, "m", endpoint=endpoint).invoke("Hi").content == REPLY
    assert server.asked[-1].headers["authorization"] == f"Bearer {NO_KEY}"
    assert chat_openai(name, "m", endpoint=endpoint, api_key="mine").invoke("Hi").content == REPLY
    assert server.asked[-1].headers["authorization"] == "Bearer mine"
    assert not any(KEY in value for asked in server.asked for value in asked.headers.values())


# Troubles


async def test_after_a_rate_limit_or_an_error_of_the_server_it_is_tried_again(
    server: CompletionsServer,
) -> None:
    llm = chat_openai(server.url, "m", max_retries=2)
    server.troubles = ["busy", "broken"]
    assert llm.invoke("Hi").content == REPLY
    server.troubles = ["broken", "busy"]
    assert "".join([str(chunk.content) async for chunk in llm.astream("Hi")]) == REPLY
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    ("trouble", "status", "message", "requests"),
    [
        ("refused", 400, "maximum context length", 1),
        ("unauthorized", 401, "not known here", 1),
        ("busy", 429, "slow down", 2),
        ("broken", 500, "our fault", 2),
    ],
)
def test_an_error_of_the_server_is_told_with_its_status_and_words_and_without_the_key(
    trouble: Trouble, status: int, message: str, requests: int, server: CompletionsServer
) -> None:
    server.troubles = [trouble] * 2
    with pytest.raises(APIStatusError, match=message) as error:
        chat_openai(server.url, "m", api_key=KEY, max_retries=1).invoke("Hi")
    assert error.value.status_code == status
    assert len(server.asked) == requests
    assert KEY not in f"{error.value!r} {error.value} {vars(error.value)}"


async def test_a_server_that_is_too_slow_ends_in_a_timeout_and_may_be_tried_again(
    server: CompletionsServer,
) -> None:
    server.troubles = ["slow", "slow"]
    with pytest.raises(APITimeoutError):
        chat_openai(server.url, "m", timeout=PATIENCE, max_retries=0).invoke("Hi")
    assert (await chat_openai(server.url, "m", timeout=PATIENCE).ainvoke("Hi")).content == REPLY


# What is missing or wrong


@pytest.mark.parametrize(
    ("provider", "more", "message"),
    [
        ("openai", {}, "no key for OpenAI: .* variable OPENAI_API_KEY"),
        ("deepseek", {}, "no key for deepseek: .* variable DEEPSEEK_API_KEY"),
        ("azure", {}, r"missing: api_key \(AZURE.*, endpoint \(AZURE.*, api_version \(OPENAI_API_VERSION\)"),
        ("azure", {"api_key": KEY, "api_version": "1"}, r"missing: endpoint \(AZURE_OPENAI_ENDPOINT\)\. "),
        (
            "azure",
            {"api_key": KEY, "api_version": "1", "endpoint": "https://a.example/openai/v1"},
            "path '/openai/v1'; expected the resource alone",
        ),
        ("openia", {}, "provider is 'openia'; expected an address .* Providers are 'openai', 'azure'"),
        ("", {}, "provider is ''; expected text"),
        (None, {}, "provider is None; expected text"),
        ("ftp://llm.example", {}, "provider is no usable one; expected an address with http"),
        ("ollama", {"endpoint": "localhost:1"}, "endpoint is no usable one; expected an address with http"),
        (f"https://me:{KEY}@llm.example/v1", {}, "at llm.example holds more than an address"),
        (f"https://llm.example/v1?key={KEY}", {}, "at llm.example holds more than an address"),
        ("https://llm.example", {"endpoint": "https://llm.example"}, "there is an endpoint too"),
        ("ollama", {"api_version": "1"}, "api_version for 'ollama'; expected one for 'azure' only"),
        ("ollama", {"api_key": "  "}, "api_key is blank"),
        ("ollama", {"api_key": 7}, "api_key is a int; expected a str"),
    ],
)
def test_what_is_missing_or_wrong_is_said_without_a_key(
    provider: Any, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        chat_openai(provider, "m", **more)
    assert KEY not in str(error.value)


def test_a_model_must_be_named() -> None:
    with pytest.raises(InputError, match="The model is ' '; expected text"):
        chat_openai("ollama", " ")


@pytest.mark.parametrize("provider", ["openai", "azure", "deepseek", "http://127.0.0.1:9/v1"])
def test_neither_repr_nor_a_serialized_form_shows_a_key(provider: str) -> None:
    azure: dict[str, Any] = {"endpoint": "https://a.example", "api_version": "1"}
    llm = chat_openai(provider, "m", api_key=KEY, **(azure if provider == "azure" else {}))
    for shown in (repr(llm), str(llm), dumps(llm), str(llm.model_dump())):
        assert KEY not in shown


def test_without_langchain_openai_the_error_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['langchain_openai'] = None\n"
        "from langchain_memorag.endpoints import chat_openai; chat_openai('ollama', 'm')"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "pip install 'memorag-adapters[openai]'" in run.stderr
