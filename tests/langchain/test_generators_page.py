"""What docs/generators.md shows runs as it stands there, against a server on this machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from memorag_core.memory.bundled import bundled_path
from tests.core.memory.longcontext.conftest import save_model
from tests.langchain.completions import CompletionsServer, running

server = pytest.fixture(running)

PAGE = Path(__file__).parents[2] / "docs" / "generators.md"
ADDRESS = "http://localhost:8000/v1"


@pytest.mark.skipif(not any(bundled_path().glob("*.safetensors")), reason="the bundled model is not built")
def test_the_page_runs_from_top_to_bottom(
    server: CompletionsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "DEEPSEEK_API_KEY"):
        monkeypatch.setenv(name, "sk-of-the-reader")
    save_model(tmp_path / "models" / "qwen2.5-7b-instruct", max_position_embeddings=2048)
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(snippets) > 6
    names: dict[str, object] = {}
    for snippet in snippets:
        exec(compile(snippet.replace(ADDRESS, server.url), str(PAGE), "exec"), names)
    assert len(server.asked) == 4
    assert all(asked.headers["authorization"] == "Bearer none" for asked in server.asked)
