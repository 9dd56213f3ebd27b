from __future__ import annotations

import json
from pathlib import Path

import torch

from memorag_evaluation.metrics import Estimate
from memorag_evaluation.record import circumstances, processor, table, write_record


def test_a_table_aligns_numbers_right_and_words_left() -> None:
    found = table(["kind", "mean"], [["trade", 0.5], ["a", Estimate(0.25, 0.0, 1.0, 3, 2)], ["b", None]])
    assert found.splitlines() == [
        "kind                   mean",
        "-----  --------------------",
        "trade                 0.500",
        "a      0.250 [0.000, 1.000]",
        "b                         -",
    ]
    assert table(["n"], [[5], [12]]).splitlines() == [" n", "--", " 5", "12"]


def test_a_record_says_how_it_was_made_and_replaces_the_old_one(tmp_path: Path) -> None:
    about = circumstances(["python", "-m", "x", "--seed", "3"], device="cpu", seed=3)
    assert about["command"] == "python -m x --seed 3"
    assert (about["device"], about["threads"], about["seed"]) == ("cpu", torch.get_num_threads(), 3)
    assert about["processor"] == processor() != ""
    assert about["versions"]["torch"]
    path = tmp_path / "deep" / "record.json"
    write_record(path, {"old": True})
    write_record(path, {"about": about, "mean": Estimate(0.5, 0.0, 1.0, 4, 2), "path": tmp_path})
    read = json.loads(path.read_text(encoding="utf-8"))
    assert read["mean"] == {"mean": 0.5, "low": 0.0, "high": 1.0, "values": 4, "clusters": 2}
    assert read["about"] == about
    assert [file.name for file in path.parent.iterdir()] == ["record.json"]
