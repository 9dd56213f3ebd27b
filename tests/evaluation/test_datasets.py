from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memorag_core import InputError
from memorag_evaluation.datasets import by_document, load_dataset

DOCUMENT = {"doc_id": "a", "title": "A", "text": "Mara Venn repairs timepieces in Orrin.", "units": {}}
QUERY = {
    "qid": "q0",
    "question": "Who mends clocks?",
    "answers": ["Mara Venn"],
    "doc_id": "a",
    "evidence": ["Mara Venn repairs"],
    "evidence_spans": [[0, 17]],
    "type": "local",
}


def write(folder: Path, documents: list[Any], queries: list[Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, rows in (("docs", documents), ("queries", queries)):
        lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_a_set_is_read_with_its_spans_answers_and_kinds(tmp_path: Path) -> None:
    found = load_dataset(write(tmp_path / "set", [DOCUMENT], [QUERY]), kind="type")
    (query,) = found.queries
    assert (found.name, found.skipped) == ("set", 0)
    assert found.documents[0].text[slice(*query.spans[0])] == "Mara Venn repairs"
    assert (query.answers, query.kind, query.document_id) == (("Mara Venn",), "local", "a")


def test_questions_without_words_or_spans_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [
        QUERY,
        {**QUERY, "qid": "q1", "question": " "},
        {**QUERY, "qid": "q2", "evidence_spans": []},
        {name: value for name, value in QUERY.items() if name != "evidence_spans"} | {"qid": "q3"},
        {"qid": "q4", "question": "Who?", "answers": [], "doc_id": None, "evidence": ["mus_1"]},
    ]
    found = load_dataset(write(tmp_path / "set", [DOCUMENT], rows))
    assert [query.id for query in found.queries] == ["q0"]
    assert found.skipped == 4


def test_chosen_documents_bring_their_own_questions_only(tmp_path: Path) -> None:
    documents = [DOCUMENT, {**DOCUMENT, "doc_id": "b"}]
    queries = [QUERY, {**QUERY, "qid": "q1", "doc_id": "b"}, {**QUERY, "qid": "q2", "question": ""}]
    found = load_dataset(write(tmp_path / "set", documents, queries), documents=["b"])
    assert [document.id for document in found.documents] == ["b"]
    assert [query.id for query in found.queries] == ["q1"]
    assert found.skipped == 0


def test_a_sample_is_drawn_by_its_seed_in_the_order_of_the_file(tmp_path: Path) -> None:
    queries = [{**QUERY, "qid": f"q{number:02}"} for number in range(30)]
    found = load_dataset(write(tmp_path / "set", [DOCUMENT], queries))
    sample = found.sample(10, seed=1)
    ids = [query.id for query in sample.queries]
    assert len(ids) == 10
    assert ids == sorted(ids)
    assert sample == found.sample(10, seed=1) != found.sample(10, seed=2)
    assert found.sample(None, seed=1) == found.sample(99, seed=1) == found
    with pytest.raises(InputError, match="at least 1"):
        found.sample(0, seed=1)


def test_questions_are_grouped_by_their_document(tmp_path: Path) -> None:
    documents = [DOCUMENT, {**DOCUMENT, "doc_id": "b"}]
    queries = [{**QUERY, "qid": f"q{number}", "doc_id": "ab"[number % 2]} for number in range(4)]
    found = by_document(load_dataset(write(tmp_path / "set", documents, queries)).queries)
    assert {name: [query.id for query in group] for name, group in found.items()} == {
        "a": ["q0", "q2"],
        "b": ["q1", "q3"],
    }


@pytest.mark.parametrize(
    ("documents", "queries", "said"),
    [
        ([DOCUMENT, DOCUMENT], [QUERY], r"docs.jsonl:2: the doc_id 'a' occurs twice"),
        ([{**DOCUMENT, "text": " "}], [QUERY], "has no text"),
        ([{"doc_id": "a"}], [QUERY], "the field 'text' is None"),
        ([], [QUERY], "is empty"),
        ([DOCUMENT], ["{"], r"queries.jsonl:1: not JSON"),
        ([DOCUMENT], ["[1]"], "found a list"),
        ([DOCUMENT], [QUERY, QUERY], r"queries.jsonl:2: the qid 'q0' occurs twice"),
        ([DOCUMENT], [{**QUERY, "doc_id": "z"}], "the doc_id 'z' is not in docs.jsonl"),
        ([DOCUMENT], [{**QUERY, "evidence_spans": [[0, 99]]}], "does not lie in the 38 characters"),
        ([DOCUMENT], [{**QUERY, "evidence_spans": [[5, 5]]}], "expected \\[start, end\\]"),
        ([DOCUMENT], [{**QUERY, "answers": "Mara"}], "expected lists"),
        ([DOCUMENT], [{**QUERY, "question": 3}], "the field 'question' is 3"),
        ([DOCUMENT], [{**QUERY, "question": ""}], "no question with words"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(
    tmp_path: Path, documents: list[Any], queries: list[Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        load_dataset(write(tmp_path / "set", documents, queries))


def test_a_missing_file_and_an_unknown_document_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*docs\.jsonl"):
        load_dataset(tmp_path)
    folder = write(tmp_path / "set", [DOCUMENT], [QUERY])
    with pytest.raises(InputError, match=r"The documents c are not in .* it has a\."):
        load_dataset(folder, documents=["a", "c"])
    with pytest.raises(InputError, match="'missing' is None"):
        load_dataset(folder, kind="missing")
