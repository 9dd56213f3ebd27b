from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from memorag_evaluation.__main__ import main
from memorag_evaluation.ways import WAYS, WITHOUT_VECTORS
from memorag_training.worlds import generate_world
from tests.core.retrieval.encoders.tiny_encoders import write_encoder


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sentence_transformers")
    return write_encoder(tmp_path_factory.mktemp("encoder"), heads=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    text = generate_world(random.Random(0), split="train", characters=15000).text
    tales = [{"doc_id": name, "title": name, "text": text} for name in ("one", "two")]
    asked = [
        {
            "qid": f"{name}{place}",
            "question": f"Who is {place}?",
            "doc_id": name,
            "evidence_spans": [[place, place + 60]],
        }
        for name in ("one", "two")
        for place in (0, 900)
    ]
    passages = [
        {"doc_id": f"p{place}", "title": f"Part {place}", "text": text[place * 300 : place * 300 + 290]}
        for place in range(14)
    ]
    hops = [
        {"qid": "h0", "question": "Who?", "doc_id": None, "evidence": ["p1", "p3"], "hops": 2},
        {"qid": "h1", "question": "Where?", "doc_id": None, "evidence": ["p2", "p4", "p5"], "hops": 3},
    ]
    for name, documents, queries in (("tales", tales, asked), ("hops", passages, hops)):
        (folder / name).mkdir()
        for file, rows in (("docs", documents), ("queries", queries)):
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / name / f"{file}.jsonl").write_text(lines, encoding="utf-8")
    return folder


def run(data: Path, out: Path, *arguments: str) -> Any:
    given = ["retrieval", "--data", str(data), "--out", str(out), "--threads", "1", "--device", "cpu"]
    assert main([*given, *arguments]) == 0
    return json.loads(out.read_text(encoding="utf-8"))


def test_all_ways_are_told_for_all_sets_in_one_table_a_record_and_a_picture(
    checkpoint: Path, encoder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "ways.json"
    arguments = ["--sets", "tales", "hops", "--encoder", str(encoder), "--model", str(checkpoint)]
    record = run(data, out, *arguments, "--clue-limit", "1", "--dense-weight", "0.5")
    assert {(row["suite"], row["way"]) for row in record["rows"]} == {
        (name, way) for name in ("tales", "hops") for way in WAYS
    }
    for row in record["rows"]:
        counts = {name: column["mean"]["values"] for name, column in row["columns"].items()}
        if row["kind"] == "all":
            assert counts["clues"] == 1
            assert (
                counts["question"]
                == counts["oracle"]
                == counts["ceiling"]
                == (4 if row["suite"] == "tales" else 2)
            )
    assert record["settings"]["retriever_weights"]["dense"] == 0.5
    assert record["encoder"]["encoder"] == "sentence-transformers"
    assert [len(suite["asked"]) for suite in record["suites"]] == [1, 1]
    assert {one["name"] for one in record["differences"]} >= {"hybrid - better part", "bm25 + graph - bm25"}
    told = capsys.readouterr().out
    assert all(name in told for name in ("hit@5", "all_gold@5", "hybrid + graph", "ceiling - question"))
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert out.with_suffix(".clues.jsonl").exists()

    some = run(data, tmp_path / "some.json", *arguments, "--clue-limit", "0", "tales=2", "--no-plot")
    assert [len(suite["asked"]) for suite in some["suites"]] == [2, 0]

    kept = sorted(out.with_suffix(".vectors").rglob("*.npz"))
    assert kept
    again = run(data, out, *arguments, "--clue-limit", "1", "--dense-weight", "0.5")
    assert (again["rows"], again["differences"]) == (record["rows"], record["differences"])
    assert sorted(out.with_suffix(".vectors").rglob("*.npz")) == kept


def test_without_an_encoder_bm25_is_measured_and_without_clues_no_model_is_loaded(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ways.json"
    arguments = ["--sets", "tales", "--clue-limit", "0", "--limit", "3", "--no-plot", "--model", "nowhere"]
    record = run(data, out, *arguments)
    assert {row["way"] for row in record["rows"]} == set(WITHOUT_VECTORS)
    assert {row["columns"]["question"]["mean"]["values"] for row in record["rows"]} == {3}
    assert all(set(row["columns"]) == {"question", "oracle", "ceiling"} for row in record["rows"])
    assert not out.with_suffix(".png").exists()
    assert record["encoder"] is None
    assert record["suites"][0]["asked"] == []
    record = run(data, out, *arguments, "--ways", "bm25")
    assert {row["way"] for row in record["rows"]} == {"bm25"}
    assert record["differences"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--data FOLDER"),
        (["--data", "nowhere", "--sets", "tales", "--clue-limit", "0"], "There is no file"),
        (["--data", "nowhere", "--ways", "hybrid"], "no encoder was named: give --encoder"),
        (["--data", "nowhere", "--graph-anchors", "0"], "graph_anchors is 0"),
        (["--data", "nowhere", "--sets", "tales", "--clue-limit", "hops=2"], "not among the sets: tales"),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["retrieval", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_what_cannot_be_drawn_is_refused_before_anything_is_measured(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["retrieval", "--data", str(data), "--out", str(tmp_path / "ways.json")]) == 2
    assert "memorag-adapters[plot]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
