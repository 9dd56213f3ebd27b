"""What docs/gist.md shows runs as it stands there, but for the address of the server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from memorag_core.memory.bundled import bundled_path
from tests.core.loopback import ChatServer
from tests.core.memory.gist.conftest import real_text
from tests.core.memory.hosted.test_model import ISLAND

PAGE = Path(__file__).parents[4] / "docs" / "gist.md"


@pytest.mark.skipif(
    not (bundled_path() / "model.safetensors").exists(), reason="the bundled model is not built"
)
def test_the_page_runs_from_top_to_bottom(
    server: ChatServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(snippets) == 2
    names: dict[str, object] = {"text": f"{ISLAND}\n\n{real_text(50_000)}", "folder": bundled_path()}
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), names)
    said = capsys.readouterr().out
    assert re.match(r"4 blocks, 12\d{3} tokens, as gists \d{2,3}\n1 ", said)
    lines = (tmp_path / "gists.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 4  # the last block is short enough to be read as it stands
