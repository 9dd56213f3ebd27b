"""Clues held against the corpus: kept, put in order or dropped; and they never become evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core import ChunkSettings, ClueSettings, Document, InputError, RetrievalSettings
from memorag_core.clues.verification import check_clues
from memorag_core.documents.chunking import split_document
from memorag_core.memory.grounding import Passages
from memorag_core.retrieval import EvidenceIndex
from memorag_core.types import CLUE_KINDS, Clue, ClueKind, DroppedClue, Place, Recall

TOWN = Document(
    "Mara Venn mends clocks in Orrin.\n  She has done so for years.  The harbour of Dell lies under fog. "
    "Old Fenn keeps 42 bees behind the mill, and sells their honey at the fair.",
    "town",
)
TALE = Document("她在港口修理灯笼。他在山上种茶。船长每天写信给她。", "tale")
INDEX = EvidenceIndex.build(
    [chunk for document in (TOWN, TALE) for chunk in split_document(document, ChunkSettings(size=60))]
)
PASSAGES = Passages.build([TOWN, TALE])


def check(*clues: Clue, least: float = 0.0, dropped: Sequence[DroppedClue] = (), **other: Any) -> Recall:
    settings = ClueSettings(least_support=least)
    (found,) = check_clues(
        [Recall("Who?", clues, tuple(dropped))],
        **{"passages": PASSAGES, "support": INDEX.support, "settings": settings, **other},
    )
    return found


# support and places ---------------------------------------------------------------------------------


def test_a_span_of_the_corpus_has_its_place_and_the_support_1_white_space_aside() -> None:
    (clue,) = check(Clue("clocks in Orrin. She has done so", "span", -0.3)).clues
    assert clue.place is not None
    assert clue.support == 1
    found = TOWN.text[clue.place.start : clue.place.end]
    assert (clue.place.document_id, found) == ("town", "clocks in Orrin.\n  She has done so")


def test_a_span_that_was_grounded_keeps_its_place() -> None:
    clue = Clue("She", "span", -0.1, place=Place("town", 35, 38), support=1.0)
    assert check(clue).clues == (clue,)


def test_an_invented_span_has_no_place_and_the_support_of_its_words() -> None:
    (clue,) = check(Clue("Mara Venn mends kettles in Orrin.", "span")).clues
    (share,) = INDEX.support([clue.text])
    assert (clue.place, clue.support) == (None, share)
    assert share < 1


@pytest.mark.parametrize("quoted", ["{0}.", "“{0}”", "- {0}", "**{0}**", "{0}…"])
def test_a_quote_has_its_place_whatever_a_model_made_of_its_first_letter_and_its_ends(quoted: str) -> None:
    text = INDEX.chunks[0].text
    line = text[text.index(" ") + 1 :][:24].rpartition(" ")[0]
    for first in (line[0].upper(), line[0].lower()):
        (clue,) = check(Clue(quoted.format(first + line[1:]), "span")).clues
        assert clue.place is not None
        assert clue.support == 1
        chunk = INDEX.chunks[0]
        found = text[clue.place.start - chunk.start : clue.place.end - chunk.start]
        assert found.casefold() == line.casefold()


def test_of_drafts_that_are_believed_alike_the_better_supported_one_stays() -> None:
    drafts = [Clue("no", "answer", -0.2), Clue("Old Fenn keeps 42 bees", "answer", -0.2)]
    for some in (drafts, drafts[::-1]):
        once = check(*some, least=1.0)
        assert [clue.text for clue in once.clues] == ["Old Fenn keeps 42 bees"]


def test_only_spans_have_places_for_a_name_stands_in_many() -> None:
    clues = check(*(Clue("Old Fenn", kind) for kind in CLUE_KINDS)).clues
    assert {clue.kind: clue.place is not None for clue in clues} == {
        kind: kind == "span" for kind in CLUE_KINDS
    }
    assert all(clue.support == pytest.approx(1) for clue in clues)


@pytest.mark.parametrize(
    ("question", "statement"),
    [
        ("Who mends clocks?", "mends clocks"),
        ("谁修理灯笼？", "修理灯笼"),
        ("为什么船长写信给她呢？", "船长写信给她"),
        ("どこで灯笼？", "で灯笼"),
        ("¿Quién mends clocks?", "mends clocks"),
        ("Кто mends clocks?", "mends clocks"),
        ("Wer mends clocks?", "mends clocks"),
        ("Pourquoi mends clocks?", "mends clocks"),
    ],
)
def test_what_makes_a_question_of_a_surrogate_question_needs_no_support(
    question: str, statement: str
) -> None:
    (clue,) = check(Clue(question, "query")).clues
    assert clue.support == pytest.approx(INDEX.support([statement])[0])


def test_words_that_ask_count_in_clues_that_do_not_ask() -> None:
    (clue,) = check(Clue("谁修理灯笼", "answer")).clues
    (share,) = INDEX.support([clue.text])
    assert clue.support == share < 1


# dropping -------------------------------------------------------------------------------------------


def test_what_the_corpus_hardly_supports_is_dropped_and_the_reason_says_so() -> None:
    before = DroppedClue("babble", "span", "the model hardly believes it")
    found = check(
        Clue("Emperor Wilhelm besieged Vienna", "span", part=3),
        Clue("Old Fenn keeps 42 bees", "span"),
        least=0.5,
        dropped=[before],
    )
    assert [clue.text for clue in found.clues] == ["Old Fenn keeps 42 bees"]
    kept, gone = found.dropped
    assert kept == before
    assert (gone.text, gone.kind, gone.part) == ("Emperor Wilhelm besieged Vienna", "span", 3)
    (share,) = INDEX.support([gone.text])
    assert gone.reason == f"the text holds {share:.0%} of what it says"


def test_the_best_draft_answer_stays_though_nothing_supports_it() -> None:
    drafts = [Clue("Emperor Wilhelm", "answer", -0.1), Clue("Vienna besieged", "answer", -0.4)]
    found = check(*drafts, Clue("Emperor Wilhelm besieged", "query"), least=0.9)
    assert [(clue.text, clue.kind) for clue in found.clues] == [("Emperor Wilhelm", "answer")]
    assert {gone.text for gone in found.dropped} == {"Vienna besieged", "Emperor Wilhelm besieged"}
    assert found.clues[0].support is not None
    assert found.clues[0].support < 0.9


def test_one_word_and_a_number_are_not_dropped_for_being_short() -> None:
    short = [Clue("42", "answer", -0.2), Clue("no", "answer", -0.9), Clue("Fenn", "entity")]
    assert {clue.text for clue in check(*short, least=0.5).clues} == {"42", "no", "Fenn"}


# order ----------------------------------------------------------------------------------------------


def test_within_a_kind_support_and_belief_decide_together_and_kinds_keep_their_order() -> None:
    surer = Clue("Emperor Wilhelm keeps a harbour", "span", -0.2)
    true = Clue("Old Fenn keeps 42 bees", "span", -0.4)
    doubted = Clue("The harbour of Dell", "span", -9.0)
    draft = Clue("Fenn", "answer", -0.01)
    found = check(surer, doubted, true, draft).clues
    assert [clue.text for clue in found] == [true.text, surer.text, doubted.text, draft.text]


@pytest.mark.parametrize("kind", ["key_point", "step"])
def test_key_points_and_steps_stay_as_they_were_told(kind: ClueKind) -> None:
    told = [Clue(text, kind, -0.1) for text in ("Old Fenn keeps kettles.", "Old Fenn keeps 42 bees.")]
    assert [clue.text for clue in check(*told).clues] == [clue.text for clue in told]


def test_a_score_that_is_no_number_comes_last() -> None:
    found = check(Clue("Mara Venn", "span", math.nan), Clue("Old Fenn", "span", -5.0)).clues
    assert [clue.text for clue in found] == ["Old Fenn", "Mara Venn"]


_texts = st.sampled_from(
    [
        "Mara Venn mends clocks",
        "Old Fenn",
        "no",
        "Who keeps bees?",
        "修理灯笼",
        "皇帝出兵",
        "Vienna",
        "the fog of Dell lies",
    ]
)
_clues = st.lists(
    st.builds(Clue, _texts, st.sampled_from(CLUE_KINDS), st.floats(-8, 0), part=st.integers(0, 3)),
    max_size=8,
)


@given(_clues, st.floats(0, 1))
def test_every_clue_is_kept_or_dropped_and_checking_again_changes_nothing(
    clues: list[Clue], least: float
) -> None:
    once = check(*clues, least=least)
    told = [(clue.text, clue.kind, clue.part) for clue in once.clues]
    told += [(gone.text, gone.kind, gone.part) for gone in once.dropped]
    assert sorted(told) == sorted((clue.text, clue.kind, clue.part) for clue in clues)
    assert all(clue.support is not None for clue in once.clues)
    assert any(clue.kind == "answer" for clue in once.clues) == any(clue.kind == "answer" for clue in clues)
    kinds = [clue.kind for clue in once.clues]
    assert kinds == sorted(kinds, key=[clue.kind for clue in clues].index)
    assert check(*once.clues, least=least, dropped=once.dropped) == once


@given(st.lists(_clues, max_size=4))
def test_many_questions_at_once_give_what_each_gives_alone_with_one_call_for_support(
    each: list[list[Clue]],
) -> None:
    calls: list[Sequence[str]] = []

    def support(texts: Sequence[str]) -> Sequence[float]:
        calls.append(texts)
        return INDEX.support(texts)

    recalled = [Recall(str(number), tuple(clues)) for number, clues in enumerate(each)]
    settings = ClueSettings(least_support=0.4)
    found = check_clues(recalled, passages=PASSAGES, support=support, settings=settings)
    assert len(calls) <= 1
    assert [one.question for one in found] == [one.question for one in recalled]
    alone = [check(*clues, least=0.4) for clues in each]
    assert [(one.clues, one.dropped) for one in found] == [(one.clues, one.dropped) for one in alone]


# wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shares", [[], [1.5], [math.nan], [0.5, 0.5]])
def test_support_that_is_no_share_for_each_text_is_refused(shares: list[float]) -> None:
    with pytest.raises(InputError, match=r"support of 1 texts .* EvidenceIndex\.support gives them"):
        check(Clue("Emperor Wilhelm", "answer"), support=lambda texts: shares)


# clues in the fusion, and never as evidence ---------------------------------------------------------


@given(_clues, st.integers(1, len(INDEX.chunks)), st.floats(0, 3))
def test_evidence_is_chunks_of_the_documents_and_as_many_as_asked_for_whatever_the_clues(
    clues: list[Clue], k: int, power: float
) -> None:
    settings = RetrievalSettings(support=power)
    found = INDEX.retrieve("Who keeps bees?", check(*clues).clues, k=k, settings=settings)
    assert len(found) == len({one.chunk.id for one in found}) == k
    texts = {document.id: document.text for document in (TOWN, TALE)}
    for one in found:
        assert one.chunk in INDEX.chunks
        assert one.chunk.text == texts[one.chunk.document_id][one.chunk.start : one.chunk.end]


def test_a_clue_weighs_less_the_less_the_corpus_supports_it() -> None:
    def lead(support: float | None, power: float) -> float:
        """What a clue adds to the score of the chunk that it finds first."""
        clue = Clue("honey at the fair", "span", support=support)
        settings = RetrievalSettings(support=power, question_weight=1.0)
        with_clue, without = (
            INDEX.retrieve("Who sells honey?", clues, k=1, settings=settings)[0] for clues in ([clue], [])
        )
        return with_clue.score - without.score

    full = lead(1.0, 1.0)
    assert full > 0
    assert lead(None, 1.0) == full  # not checked
    assert lead(0.5, 0.0) == full  # left out
    assert lead(0.5, 1.0) == pytest.approx(full / 2)
    assert lead(0.5, 2.0) == pytest.approx(full / 4)
    assert lead(0.0, 1.0) == 0


@pytest.mark.parametrize("support", [-0.1, 1.1, math.nan])
def test_a_support_that_is_no_share_is_refused_where_it_counts(support: float) -> None:
    clue = replace(Clue("honey", "span"), support=support)
    with pytest.raises(InputError, match=r"has the support .* expected a share from 0 to 1"):
        INDEX.retrieve("Who sells honey?", [clue], k=1, settings=RetrievalSettings(support=1.0))
    INDEX.retrieve("Who sells honey?", [clue], k=1, settings=RetrievalSettings(support=0.0))


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan, True, "1"])
def test_a_least_support_or_a_power_that_cannot_be_is_refused(share: Any) -> None:
    with pytest.raises(InputError, match=r"ClueSettings\.least_support is"):
        ClueSettings(least_support=share)
    if share != 1.1:  # a power may be above 1
        with pytest.raises(InputError, match=r"RetrievalSettings\.support is"):
            RetrievalSettings(support=share)


def test_no_kind_of_clue_is_forgotten() -> None:
    kinds: tuple[ClueKind, ...] = CLUE_KINDS
    found = check(*(Clue("Old Fenn", kind) for kind in kinds)).clues
    assert tuple(clue.kind for clue in found) == kinds
