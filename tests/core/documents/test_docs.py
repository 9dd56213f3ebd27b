"""What docs/documents.md shows runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "documents.md"


def test_the_page_runs_from_top_to_bottom(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(snippets) == 4
    names: dict[str, object] = {
        "handbook": "The lamp is trimmed at dusk.",
        "rota": "Mara Venn keeps the lamp this week.",
        "next_rota": "Ole Brandt keeps the lamp this week.",
    }
    with caplog.at_level("INFO"):
        for snippet in snippets:
            exec(compile(snippet, str(PAGE), "exec"), names)
    said = capsys.readouterr().out
    assert "('0', 'rota') ('handbook',)" in said
    assert re.search(r"memorizing: (\d+) of \1\b", caplog.text)
