"""What docs/langchain.md shows runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from langchain_core.language_models import FakeListChatModel

from memorag_core.models import bundled_path

PAGE = Path(__file__).parents[2] / "docs" / "langchain.md"


@pytest.mark.skipif(not any(bundled_path().glob("*.safetensors")), reason="the bundled model is not built")
def test_the_page_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert snippets
    names: dict[str, object] = {"llm": FakeListChatModel(responses=["Anna Holt."])}
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), names)
