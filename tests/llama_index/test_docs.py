"""What docs/llama-index.md shows runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.llms import MockLLM

from memorag_core.models import bundled_path
from tests.llama_index.conftest import DOCUMENTS, QUESTION

PAGE = Path(__file__).parents[2] / "docs" / "llama-index.md"


@pytest.mark.skipif(not any(bundled_path().glob("*.safetensors")), reason="the bundled model is not built")
async def test_the_page_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert snippets
    documents = [Document(text=document.text) for document in DOCUMENTS]
    index = VectorStoreIndex.from_documents(documents, embed_model=MockEmbedding(embed_dim=8))
    names: dict[str, Any] = {"llm": MockLLM(), "index": index}
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), names)
    assert QUESTION in str(await names["answer"](QUESTION))
