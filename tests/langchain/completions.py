"""A server on this machine that speaks OpenAI's chat completions, whole or streamed, and fails as told.

It answers every request with the same text, in pieces of a few characters when it streams. It takes any path,
so that Azure's and DeepSeek's reach it, and keeps paths, headers and bodies for tests to look at.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any, Literal, TypeAlias

from tests.core.loopback import Loopback

Trouble: TypeAlias = Literal["busy", "broken", "refused", "unauthorized", "slow", "cut", "hushed"]
"""What becomes of a request: 429 with Retry-After, 500, 400, 401, an answer after the client's patience, a
connection closed half-way, a stream that just ends before the model has said that it is done."""

SLOW_SECONDS = 1.0
PATIENCE = 0.4  # the timeout of clients that are not to wait for it
REPLY = "Anna Holt mends them [1], in the valley【1】. The ferry [2, 9] does not."
PIECE = 3  # characters

_ERRORS: Mapping[str | None, tuple[int, str, Mapping[str, str]]] = {
    "busy": (429, "slow down", {"Retry-After": "0.05"}),
    "broken": (500, "our fault", {"retry-after-ms": "20"}),
    "refused": (400, "maximum context length is 8192", {}),
    "unauthorized": (401, "that key is not known here", {}),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it arrived; names of headers are in small letters."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    @property
    def prompt(self) -> str:
        """The last message."""
        return str(self.body["messages"][-1]["content"])


class CompletionsServer(Loopback):
    """``troubles`` befall the next requests, one each, then all goes well."""

    def __init__(self) -> None:
        self.reply = REPLY
        self.troubles: list[Trouble] = []
        self.asked: list[Asked] = []
        self.pause = 0.0  # seconds between pieces of a stream
        self.left = threading.Event()  # a client went away before its stream was over
        super().__init__(self._handler())

    def pieces(self) -> list[str]:
        return [self.reply[start : start + PIECE] for start in range(0, len(self.reply), PIECE)]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                owner.asked.append(Asked(self.path, headers, body))
                trouble = owner.troubles.pop(0) if owner.troubles else None
                try:
                    if trouble in _ERRORS:
                        status, message, more = _ERRORS[trouble]
                        self.send(status, {"error": {"message": message}}, more)
                        return
                    if trouble == "slow":
                        time.sleep(SLOW_SECONDS)
                    if body.get("stream"):
                        self.stream(trouble, usage=bool(body.get("stream_options")))
                    elif trouble == "cut":
                        self.send(200, {"choices": []}, {"Content-Length": "4096"})
                        self.hang_up()
                    else:
                        self.send(200, _completion(message={"role": "assistant", "content": owner.reply}), {})
                except OSError:
                    owner.left.set()
                    self.close_connection = True

            def stream(self, trouble: Trouble | None, *, usage: bool) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                pieces = owner.pieces()
                for piece in pieces[: len(pieces) // 2] if trouble in ("cut", "hushed") else pieces:
                    self.event(_completion(delta={"role": "assistant", "content": piece}))
                    time.sleep(owner.pause)
                if trouble == "cut":
                    self.hang_up()
                    return
                if trouble is None:
                    self.event(_completion(delta={}, finish="stop"))
                    if usage:
                        self.event({**_completion(), "choices": [], "usage": _USAGE})
                    self.chunk(b"data: [DONE]\n\n")
                self.chunk(b"")

            def event(self, data: Mapping[str, Any]) -> None:
                self.chunk(b"data: " + json.dumps(data).encode() + b"\n\n")

            def chunk(self, content: bytes) -> None:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
                self.wfile.flush()

            def hang_up(self) -> None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

            def send(self, status: int, data: Mapping[str, Any], headers: Mapping[str, str]) -> None:
                content = json.dumps(data).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        return Handler


_USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


def _completion(
    *,
    message: Mapping[str, Any] | None = None,
    delta: Mapping[str, Any] | None = None,
    finish: str | None = None,
) -> dict[str, Any]:
    """A whole completion, or, with a delta, a piece of one."""
    common = {"id": "1", "created": 0, "model": "loopback-1"}
    if message is None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {**common, "object": "chat.completion.chunk", "choices": [choice]}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {**common, "object": "chat.completion", "choices": [choice], "usage": _USAGE}


def running() -> Iterator[CompletionsServer]:
    """A server for the time of a test, as a fixture yields it."""
    made = CompletionsServer()
    yield made
    made.close()
