"""The examples run, and print what they promise."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from pydoc_data.topics import topics
from types import ModuleType

import pytest

from memorag_core import Document, MemoRAG
from tests.core.doubles import SentenceModel

EXAMPLES = Path(__file__).parents[1] / "examples"
SOME = ["with", "operator-summary", "calls", "private-names"]
ASKED = [
    "Which statement is used to wrap the execution of a block?",
    "How are keyword arguments handed over?",
]


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def quickstart(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)
    return _load("quickstart")


def _documents() -> list[Document]:
    found = [Document(topics[name], id=name) for name in SOME if name in topics]
    assert len(found) >= 2
    return found


def _memorag() -> MemoRAG:
    return MemoRAG(SentenceModel(capacity=40), progress=False)


def test_no_example_is_longer_than_a_reader_has_patience_for() -> None:
    for example in EXAMPLES.glob("*.py"):
        assert len(example.read_text(encoding="utf-8").splitlines()) <= 70, example.name


def test_the_quickstart_shows_clues_evidence_with_its_place_and_a_draft_that_is_called_one(
    quickstart: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    quickstart.main(_memorag(), _documents(), ASKED)
    shown = capsys.readouterr().out
    for question in ASKED:
        assert f"Question: {question}" in shown
    assert shown.count("\n  span: ") >= len(ASKED)
    assert shown.count(", characters ") == 3 * len(ASKED)
    assert "topic 'with', characters " in shown
    assert shown.count("Answer (draft of the memory, not drawn from the evidence)") == len(ASKED)


class _Endpoint(BaseHTTPRequestHandler):
    """An OpenAI-compatible endpoint that answers with the model's name and keeps what it was asked."""

    asked: list[dict[str, object]] = []  # noqa: RUF012 - shared by the handlers of one server

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(request)
        message = {"role": "assistant", "content": f"An answer by {request['model']}."}
        body = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": request["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        }
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Keep quiet."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    _Endpoint.asked.clear()
    server = HTTPServer(("127.0.0.1", 0), _Endpoint)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_quickstart_answers_with_the_users_llm_when_one_is_configured(
    quickstart: ModuleType,
    endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint)
    monkeypatch.setenv("OPENAI_MODEL", "local-model")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    quickstart.main(_memorag(), _documents(), ASKED[:1])
    assert "Answer (local-model)\n  An answer by local-model." in capsys.readouterr().out
    (request,) = _Endpoint.asked
    assert ASKED[0] in json.dumps(request)
    assert "used to wrap the execution of a block" in json.dumps(request)
    assert "clues" not in json.dumps(request)  # passages only: no metadata


def test_the_quickstart_runs_on_the_bundled_model(
    quickstart: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    quickstart.main(MemoRAG(device="cpu", progress=False), _documents(), ASKED)
    shown = capsys.readouterr().out
    assert shown.count(", characters ") == 3 * len(ASKED)
    assert "topic 'with', characters " in shown


def test_the_first_screen_of_the_readme_is_a_program_with_its_real_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _load("first_steps")
    printed = capsys.readouterr().out
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    program = (EXAMPLES / "first_steps.py").read_text(encoding="utf-8").split('"""', 2)[2].strip()
    assert program in readme
    # Clues are decoded greedily in float32; another processor may round a near tie otherwise.
    lines = [line for line in printed.splitlines() if "evidence at" in line or not line.startswith(" ")]
    assert len(lines) == 4
    for line in lines:
        assert line in readme
