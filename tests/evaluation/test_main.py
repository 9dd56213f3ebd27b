from __future__ import annotations

import gzip
import json
import random
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from memorag_evaluation.__main__ import main
from memorag_evaluation.evidence import COMPARED, VARIANTS
from memorag_training.bundled import is_held_out
from memorag_training.worlds import generate_world


@pytest.fixture(autouse=True)
def threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "prose").mkdir()
    name = next(name for name in map(str, range(400)) if is_held_out(name))
    text = generate_world(random.Random(0), split="train", characters=9000).text
    with gzip.open(folder / "prose" / "train.jsonl.gz", "wt", encoding="utf-8") as lines:
        lines.write(json.dumps({"id": name, "text": text}) + "\n")
    (folder / "tales").mkdir()
    documents = [{"doc_id": name, "text": text, "title": name} for name in ("one", "two")]
    queries = [
        {
            "qid": f"{place}",
            "question": f"Who is {place}?",
            "doc_id": name,
            "evidence_spans": [[place, place + 40]],
        }
        for name in ("one", "two")
        for place in ((0, 900) if name == "one" else (300,))
    ]
    for file, rows in (("docs", documents), ("queries", queries)):
        (folder / "tales" / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def run(checkpoint: Path, out: Path, *arguments: str) -> Any:
    given = [*arguments, "--model", str(checkpoint), "--out", str(out), "--threads", "1", "--device", "cpu"]
    assert main(given) == 0
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["circumstances"]["command"] == " ".join(["python -m memorag_evaluation", *given])
    assert record["circumstances"]["threads"] == 1
    return record


def test_recall_reports_every_ratio_and_length_with_the_memory_and_without(
    checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = ["--contexts", "64", "128", "--documents", "2", "--rows", "3"]
    record = run(checkpoint, tmp_path / "recall.json", "recall", "--data", str(data), *shape)
    cells = {(row["ratio"], row["context"], row["memory"]) for row in record["rows"]}
    assert cells == set(product((4, 8), (64, 128), ("full", "emptied")))
    assert "token_accuracy" in capsys.readouterr().out


def test_worlds_are_reported_by_kind_of_question_and_reply(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = ["--contexts", "160", "--documents", "2", "--questions", "1", "--ratios", "4"]
    record = run(checkpoint, tmp_path / "worlds.json", "worlds", *shape)
    assert {row["reply"] for row in record["rows"]} == {"span", "answer"}
    assert {"explicit", "all"} <= {row["kind"] for row in record["rows"]}
    assert "exact_match" in capsys.readouterr().out


def test_evidence_is_reported_for_worlds_and_real_texts_by_every_way_to_search(
    checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evidence", "--data", str(data), "--sets", "tales", "--worlds", "1", "--world-tokens", "160"]
    arguments += ["--questions", "1", "--span-weight", "2", "--expansion", "append"]
    arguments += ["--support", "0.5", "--least-support", "0.2"]
    record = run(checkpoint, tmp_path / "evidence.json", *arguments)
    assert {row["suite"] for row in record["rows"]} == {"worlds (test)", "tales"}
    assert all(list(row["means"]) == list(VARIANTS) for row in record["rows"])
    assert all(len(row["differences"]) == len(COMPARED) for row in record["rows"])
    assert record["fusion"]["settings"]["clue_weights"]["span"] == 2
    assert record["fusion"]["settings"]["expansion"] == "append"
    assert record["fusion"]["settings"]["support"] == 0.5
    assert record["clue_settings"]["least_support"] == 0.2
    assert [suite["questions"] for suite in record["suites"]][1] == 3
    assert [one["suite"] for one in record["free_spans"]] == ["worlds (test)", "tales"]
    assert all(0 <= one["invented"] <= one["spans"] for one in record["free_spans"])
    assert (tmp_path / "evidence.clues.jsonl").exists()
    told = capsys.readouterr().out
    assert all(name in told for name in ("checked - free", "not in the text", "support 0.5"))

    arguments += ["--documents", "two", "--limit", "1", "--variants", "question", "checked"]
    record = run(checkpoint, tmp_path / "evidence.json", *arguments)
    assert record["suites"][1]["documents"] == ["two"]
    assert list(record["rows"][0]["means"]) == ["question", "checked"]
    assert list(record["rows"][0]["differences"]) == ["checked - question"]
    assert record["free_spans"] == []


def test_fusions_are_tuned_on_other_texts_than_the_reported_ones(
    checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evidence", "--tune", "--data", str(data), "--worlds", "1", "--world-tokens", "160"]
    arguments += ["--questions", "1", "--sets"]
    record = run(checkpoint, tmp_path / "tune.json", *arguments, "tales")
    assert {suite["name"] for suite in record["suites"]} == {"worlds (dev)", "tales"}
    assert len(record["trials"]) > 100
    capsys.readouterr()

    assert main([*arguments, "tales", "loogle_sample", "--model", str(checkpoint)]) == 2
    assert "nothing is tuned on them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["recall"], "--data FOLDER"),
        (["evidence"], "--data FOLDER"),
        (["evidence", "--sets", "--worlds", "0"], "nothing to measure on"),
        (["evidence", "--data", "nowhere", "--sets", "tales", "--worlds", "0"], "There is no file"),
        (["worlds", "--contexts", "1"], "holds no sentence"),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main([*arguments, "--model", str(checkpoint)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
