"""What docs/llama-index.md shows runs as it stands there."""

from __future__ import annotations

import ast
import re
from inspect import isawaitable
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]  # no __all__
from llama_index.core.llms import MockLLM

from memorag_core.memory.bundled import bundled_path
from tests.llama_index.conftest import DOCUMENTS, QUESTION
from tests.llama_index.doubles import ScriptedLLM, WordEmbedding

PAGE = Path(__file__).parents[2] / "docs" / "llama-index.md"


@pytest.mark.skipif(not any(bundled_path().glob("*.safetensors")), reason="the bundled model is not built")
async def test_the_page_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(get_dispatcher("llama_index_memorag"), "event_handlers", [])
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(snippets) == 10
    documents = [Document(text=document.text) for document in DOCUMENTS]
    index = VectorStoreIndex.from_documents(documents, embed_model=WordEmbedding())
    names: dict[str, Any] = {"llm": MockLLM(), "agent_llm": ScriptedLLM(query=QUESTION), "index": index}
    for snippet in snippets:
        code = compile(snippet, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        said = eval(code, names)
        if isawaitable(said):
            await said
    assert QUESTION in str(await names["answer"](QUESTION))
    assert "Empty Response" not in str(names["summary"].query("What is there on the island?"))
    printed = capsys.readouterr().out
    assert "It says: " in printed
    assert "heard: " in printed
    assert "tokens" in printed
