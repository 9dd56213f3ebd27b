"""What docs/hosted.md shows runs as it stands there, but for the address of the server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.core.loopback import ChatServer
from tests.core.memory.hosted.test_model import real_text

PAGE = Path(__file__).parents[4] / "docs" / "hosted.md"


def test_the_page_runs_from_top_to_bottom(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert snippets
    names: dict[str, object] = {"text": real_text(8000)}
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), names)
    said = capsys.readouterr().out.splitlines()
    usage = server.usage()
    assert said[-2].split()[:4] == [
        str(count) for count in (usage.requests, usage.input_tokens, usage.cached_tokens, usage.output_tokens)
    ]
