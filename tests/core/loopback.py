"""A server on this machine that speaks OpenAI's chat protocol, fails as told, and bills what it answers.

It answers from the prompt alone: the sentences of the text that share most words with the question. Its cache
works like a provider's: the beginning of a prompt is cheaper once a prompt with that beginning was answered.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, TypeAlias

import pytest
from langchain_openai import ChatOpenAI
from llama_index.core.llms import CompletionResponse, CompletionResponseGen, CustomLLM, LLMMetadata
from llama_index.core.llms.callbacks import llm_completion_callback
from openai import OpenAI
from pydantic import SecretStr

from memorag_core.memory.llm import Usage

Trouble: TypeAlias = Literal["ok", "busy", "broken", "slow", "cut", "garbled", "refused"]
"""What becomes of a request: 429 with Retry-After, 500, an answer after the client's patience, a connection
closed half-way, a body that is no JSON, 400."""

SLOW_SECONDS = 1.0
PATIENCE = 0.6  # the timeout of the clients here, below the above

MODEL = "loopback-1"


class Loopback:
    """Answers on a port of this machine, on threads, until it is closed."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{self.origin}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class ChatServer(Loopback):
    """Counts and bills; ``troubles`` befall the next requests, one each, then all goes well."""

    def __init__(self) -> None:
        self.troubles: list[Trouble] = []
        self.always: Trouble = "ok"
        self.seconds = 0.0  # what an answer takes
        self.bodies: list[dict[str, Any]] = []  # all that was asked, in the order of arrival
        self.replies: list[str] = []
        self.billed = {"requests": 0, "input": 0, "cached": 0, "output": 0}
        self.most_at_once = 0
        self._at_once = 0
        self._cached: list[str] = []
        self._lock = threading.Lock()
        super().__init__(self._handler())

    @property
    def asked(self) -> int:
        return len(self.bodies)

    def usage(self) -> Usage:
        """What was billed so far."""
        billed = self.billed
        return Usage(billed["requests"], billed["input"], billed["cached"], billed["output"])

    def prompts(self) -> list[str]:
        """What was asked, each as one text, in the order of arrival."""
        return [flat(body["messages"]) for body in self.bodies]

    def arrived(self, body: dict[str, Any]) -> tuple[Trouble, int]:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            prompt = flat(body["messages"])
            cached = max((shared(prompt, other) for other in self._cached), default=0)
            self.bodies.append(body)
            trouble = self.troubles.pop(0) if self.troubles else self.always
            return trouble, tokens(prompt[:cached])

    def answer(self, body: Mapping[str, Any], cached: int) -> dict[str, Any]:
        prompt = flat(body["messages"])
        words = recalled(prompt).split(" ")
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or len(words)
        text = " ".join(words[:limit])
        written = min(limit, len(words))
        with self._lock:
            self._cached.append(prompt)
            self.replies.append(text)
            for name, count in (
                ("requests", 1),
                ("input", tokens(prompt)),
                ("cached", cached),
                ("output", written),
            ):
                self.billed[name] += count
        return {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": MODEL,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "length" if written < len(words) else "stop",
                }
            ],
            "usage": {
                "prompt_tokens": tokens(prompt),
                "completion_tokens": written,
                "total_tokens": tokens(prompt) + written,
                "prompt_tokens_details": {"cached_tokens": cached},
            },
        }

    def left(self) -> None:
        with self._lock:
            self._at_once -= 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                trouble, cached = owner.arrived(body)
                try:
                    time.sleep(SLOW_SECONDS if trouble == "slow" else owner.seconds)
                    if trouble == "busy":
                        self.send(429, b'{"error": {"message": "slow down"}}', {"Retry-After": "0.02"})
                    elif trouble == "broken":
                        self.send(500, b'{"error": {"message": "our fault"}}', {"retry-after-ms": "20"})
                    elif trouble == "refused":
                        self.send(400, b'{"error": {"message": "maximum context length is 8192"}}', {})
                    elif trouble == "garbled":
                        self.send(200, b'{"choices": [{"index": 0, "mess', {})
                    elif trouble == "cut":
                        self.send(200, b'{"choices": ', {"Content-Length": "4096"})
                        self.close_connection = True
                        self.connection.shutdown(socket.SHUT_RDWR)
                    elif trouble == "ok":
                        self.send(200, json.dumps(owner.answer(body, cached)).encode(), {})
                except OSError:
                    self.close_connection = True  # the client has left
                finally:
                    owner.left()

            def send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        return Handler


@pytest.fixture
def server() -> Iterator[ChatServer]:
    made = ChatServer()
    yield made
    made.close()


def chat(server: ChatServer, *, max_retries: int = 2, timeout: float = 30.0) -> ChatOpenAI:
    """The real client of LangChain."""
    return ChatOpenAI(
        model=MODEL,
        base_url=server.url,
        api_key=SecretStr("x"),
        max_retries=max_retries,
        timeout=timeout,
    )


class LoopbackLLM(CustomLLM):
    """A real LLM of LlamaIndex, over the client of OpenAI."""

    url: str
    max_retries: int = 2

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name=MODEL)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        client = OpenAI(base_url=self.url, api_key="x", max_retries=self.max_retries)
        raw = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": prompt}])
        return CompletionResponse(text=raw.choices[0].message.content or "", raw=raw)

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        raise NotImplementedError


def flat(messages: list[dict[str, Any]]) -> str:
    return "".join(f"<{message['role']}>{message['content']}" for message in messages)


def tokens(text: str) -> int:
    return -(-len(text.encode()) // 4)


def shared(one: str, other: str) -> int:
    """Characters that two prompts begin with alike."""
    most = min(len(one), len(other))
    return next((place for place in range(most) if one[place] != other[place]), most)


def recalled(prompt: str) -> str:
    """The two sentences of the text with most words of the question, best first, a line each."""
    text, _, request = prompt.partition("=== End of the text ===")
    text = text.partition("=== Beginning of the text ===")[2]
    wanted = words(request.rpartition("Question: ")[2])
    sentences = [sentence.strip() for sentence in re.split(r"(?<=[.!?])\s+|\n\n", text) if sentence.strip()]
    best = sorted(sentences, key=lambda sentence: -len(wanted & words(sentence)))[:2]
    return "\n".join(best)


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{4,}", text.casefold()))
