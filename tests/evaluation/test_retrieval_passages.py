from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memorag_core import InputError
from memorag_evaluation.passages import load_passages, names_passages

DOCUMENTS = [
    {"doc_id": "a", "title": "Lantern", "text": "Ines made it."},
    {"doc_id": "b", "title": "", "text": "Ines is from Tarn."},
]
QUERY = {"qid": "q0", "question": "Where from?", "answers": ["Tarn"], "evidence": ["a", "b"], "hops": 2}


def write(folder: Path, queries: list[Any], documents: list[Any] = DOCUMENTS) -> Path:
    folder.mkdir(exist_ok=True)
    for name, found in (("docs", documents), ("queries", queries)):
        text = "".join(json.dumps(row) + "\n" for row in found)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder


def test_the_passages_are_one_document_to_read_and_evidence_is_named_by_id(tmp_path: Path) -> None:
    found = load_passages(write(tmp_path / "set", [QUERY, {**QUERY, "qid": "q1", "question": " "}]))
    (query,) = found.queries
    (document,) = found.documents
    assert document.text == "Lantern\nInes made it.\n\nInes is from Tarn."
    assert [passage.text for passage in found.passages] == ["Lantern\nInes made it.", "Ines is from Tarn."]
    assert [document.text[start:end] for start, end in query.spans] == [one.text for one in found.passages]
    assert (query.passages, query.kind, query.document_id) == (("a", "b"), "2 hops", "set")
    assert (found.name, found.skipped) == ("set", 1)


def test_questions_of_no_document_that_name_evidence_make_a_set_of_passages(tmp_path: Path) -> None:
    assert names_passages(write(tmp_path / "set", [QUERY]))
    assert not names_passages(write(tmp_path / "set", [QUERY, {**QUERY, "doc_id": "a"}]))
    assert not names_passages(write(tmp_path / "set", [{**QUERY, "evidence": []}]))
    assert not names_passages(write(tmp_path / "set", []))
    with pytest.raises(InputError, match="There is no file"):
        names_passages(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("queries", "said"),
    [
        ([{**QUERY, "evidence": ["a", "z"]}], r"queries.jsonl:1: the evidence 'z' is not in docs.jsonl"),
        ([{**QUERY, "evidence": "a"}], r"the evidence is 'a'; expected ids of docs.jsonl"),
        ([{**QUERY, "evidence": [1]}], r"the evidence is \[1\]"),
        ([QUERY, QUERY], r"queries.jsonl:2: the qid 'q0' occurs twice"),
        ([{**QUERY, "question": ""}], "no question with words; 1 were left out"),
        ([{**QUERY, "question": None}], "the field 'question' is None"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(tmp_path: Path, queries: list[Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_passages(write(tmp_path / "set", queries))
