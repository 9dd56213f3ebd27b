"""What docs/langchain.md shows runs as it stands there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel

from memorag_core.memory.bundled import bundled_path

PAGE = Path(__file__).parents[2] / "docs" / "langchain.md"


class Answering(FakeListChatModel):
    """Stands for the reader's chat model: it takes tools, and answers without them."""

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> Any:
        return self


@pytest.mark.skipif(not any(bundled_path().glob("*.safetensors")), reason="the bundled model is not built")
def test_the_page_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("langchain.agents")
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert snippets
    names: dict[str, object] = {"llm": Answering(responses=["Tamsin Oakley."])}
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), names)
    shown = capsys.readouterr().out
    first = shown.splitlines()[0]
    assert "Tamsin Oakley" in first
    assert "'covers houses with slate.', 'Who covers houses with slate?'" in first
    assert "recalled: covers houses with slate." in shown
