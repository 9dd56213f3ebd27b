"""The printed report says what was recalled, what was found where and with what, and who wrote the answer."""

from __future__ import annotations

from dataclasses import replace

from memorag_core import Answer, Chunk, Clue, Evidence, Hit
from memorag_core.generation.explanation import format_report

TEXT = "Mara Venn repairs\ntimepieces in Orrin. " * 30
CHUNK = Chunk("town:40-1000", TEXT, "town", 40, 1000)
HITS = (
    Hit("bm25", "Who mends clocks?", "question", 7, 1.5),
    Hit("dense", "Mara Venn repairs timepieces.", "span", 1, 0.9),
    Hit("bm25", "Mara Venn repairs timepieces.", "span", 2, 3.5),
    Hit("bm25", "Who repairs timepieces?", "query", 3, 3.0),
)
ANSWER = Answer(
    text="Mara Venn.\n\nShe lives in Orrin.",
    question="Who mends clocks?",
    source="generator",
    evidence=(Evidence(CHUNK, 0.0321, 1, HITS), Evidence(replace(CHUNK, id="x", start=2000), 0.0, 2)),
    clues=(Clue("Mara Venn repairs timepieces.", "span", -0.1), Clue("钟表" * 60, "query", -0.5)),
)


def test_a_report_shows_every_clue_and_the_place_score_and_finders_of_all_evidence() -> None:
    report = format_report(ANSWER)
    assert report.startswith("Question: Who mends clocks?\n")
    assert "  span      Mara Venn repairs timepieces.\n" in report
    assert "  1. town, characters 40-1000 (score 0.0321)\n" in report
    assert 'found with span "Mara Venn repairs timepieces." (rank 1, dense)' in report
    assert "and 1 more" in report
    assert "found with nothing" in report
    assert report.endswith("Answer of the generator\n  Mara Venn.\n\n  She lives in Orrin.")


def test_long_evidence_is_cut_and_no_line_is_wider_than_the_page() -> None:
    report = format_report(ANSWER, width=70, excerpt=100)
    assert "[...]" in report
    assert max(map(len, report.splitlines())) <= 70
    assert "[...]" not in format_report(ANSWER, excerpt=10_000)


def test_a_draft_of_the_memory_is_never_called_an_answer() -> None:
    report = format_report(replace(ANSWER, source="memory", clues=(), text=""))
    assert "Draft of the memory model (recalled, not drawn from the evidence)\n  (nothing)" in report
    assert "Clues recalled from memory (keys for the search, not evidence)\n  none" in report
    assert "Answer of the generator" not in report


def test_no_sign_of_a_text_can_steer_the_terminal() -> None:
    hostile = "red \x1b[31m alarm \x07 \ud800 end"
    clue = Clue(hostile, "span")
    report = format_report(replace(ANSWER, text=hostile, question=hostile, clues=(clue,)))
    assert not set("\x1b\x07\ud800") & set(report)
    assert report.count("end") == 3
