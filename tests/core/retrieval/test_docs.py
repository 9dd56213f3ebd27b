"""What docs/retrieval.md shows runs as it stands there; the names of models are folders of tiny ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.core.retrieval.encoders.tiny_encoders import write_encoder, write_reranker

PAGE = Path(__file__).parents[3] / "docs" / "retrieval.md"

TEXT = (
    "The captain of Orrin is Ines Albarrow. She drinks tea on the mountain. "
    "Tobias Reed sells clocks at the harbour. A letter comes daily to the harbour. "
    "Whoever breaks a lantern takes it to Ines Albarrow, who mends it. "
) * 8


def test_the_page_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("FlagEmbedding")
    monkeypatch.chdir(tmp_path)
    write_encoder(tmp_path / "BAAI" / "bge-m3")
    write_reranker(tmp_path / "BAAI" / "bge-reranker-v2-m3")
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert snippets
    names: dict[str, object] = {"text": TEXT}
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), names)
    said = capsys.readouterr().out.splitlines()
    assert "reranker" in "".join(said)
    assert "graph" in "".join(said)
    assert said[-3:] == [
        "The lantern of the harbour is mended by Mara Venn.",
        "Mara Venn mends lanterns. ('Mara Venn mends lanterns',)",
        "2",
    ]
