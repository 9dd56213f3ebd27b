"""What a reader takes for the same line is found, at the characters at which it stands."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core import Document, InputError
from memorag_core.memory.grounding import Passages
from memorag_core.memory.grounding.alike import folded

TALE = Document(
    "The lamp — a green one — was “never lit”, said Old Fenn’s wife.\nthe fox  ran home…  "
    'It isn\'t "over" yet. Œuvre naïve cafe\u0301 **bold words** here; '
    "the Acknowl\u00adedgement stands. １２３ ＡＢＣ. שָׁלוֹם עולם. "
    "他说：“你好。”然后走了。Price 5–7 %, ranks 1990-1995. Straße und Maß. The office of ﬁve.",
    "tale",
)
INDEX = Passages.build([Document("Nothing of the kind is here.", "other"), TALE])


@pytest.mark.parametrize(
    ("line", "stands"),
    [
        ("The fox ran home", "the fox  ran home"),
        ("THE FOX RAN HOME", "the fox  ran home"),
        ("lamp - a green one", "lamp — a green one"),
        ("the lamp—a green one", "The lamp — a green one"),
        ('was "never lit"', "was “never lit”"),
        ("'The fox ran home.'", "the fox  ran home"),
        ("«The fox ran home»", "the fox  ran home"),
        ("The fox ran home...", "the fox  ran home…"),
        ("…The fox ran home", "the fox  ran home"),
        ("- The fox ran home", "the fox  ran home"),
        ("> **The fox** ran home", "the fox  ran home"),
        ("__The fox__\tran\n`home`", "the fox  ran home"),
        ("Old Fenn's wife", "Old Fenn’s wife"),
        ("it isn’t “over” yet!", 'It isn\'t "over" yet'),
        ("œuvre naïve café bold words here", "Œuvre naïve cafe\u0301 **bold words** here"),
        ("The acknowledgement stands", "the Acknowl\u00adedgement stands"),
        ("123 abc", "１２３ ＡＢＣ"),
        ("שלום עולם", "שָׁלוֹם עולם"),
        ("他说:「你好。」然后走了", "他说：“你好。”然后走了"),
        ("ranks 1990–1995.", "ranks 1990-1995."),
        ("price 5-7 %", "Price 5–7 %"),
        ("STRASSE und Maß", "Straße und Maß"),
        ("the office of five", "The office of ﬁve"),
    ],
)
def test_what_a_reader_takes_for_the_same_is_found(line: str, stands: str) -> None:
    assert INDEX.find(line) is None  # not to the letter
    place = INDEX.find_alike(line)
    assert place is not None
    assert place.document_id == "tale"
    assert TALE.text[place.start : place.end] == stands


@pytest.mark.parametrize(
    "line",
    [
        "fox ra",
        "he fox ran",
        "The fox walked home",
        "naive cafe",
        "The lamp ... was never lit",
        "an office of five",
        "",
        "…",
        "** **",
    ],
)
def test_what_says_something_else_is_not_found(line: str) -> None:
    assert INDEX.find_alike(line) is None


def test_the_place_is_the_one_that_is_written_most_alike_and_then_the_first() -> None:
    documents = [
        Document("THE FOX RAN HOME today.", "loud"),
        Document("So the fox ran home.", "small"),
        Document("And the fox ran home.", "later"),
    ]
    found = Passages.build(documents).find_alike("The fox ran home")
    assert found is not None
    assert (found.document_id, found.start, found.end) == ("small", 3, 19)


def test_whole_words_and_clusters_only() -> None:
    index = Passages.build([Document("catalogue, cafe\u0301s and co-op; xylo\u00adphone.")])
    for part in ("Cat", "Caf", "Logue", "Cafe", "E", "Xylo"):
        assert index.find_alike(part) is None, part
    assert index.find_alike("CO-OP; Xylophone") is not None


def test_a_common_word_in_a_long_text_is_looked_at_in_some_places_only() -> None:
    index = Passages.build([Document("clock " * 50_000 + "The clock of Ellerby stands.")])
    found = index.find_alike("the clock of Ellerby stands!")
    assert found is not None
    assert found.end - found.start == len("The clock of Ellerby stands")
    assert index.find_alike("Clock of clock of clock") is None
    begun = time.perf_counter()
    for line in ("Clock " * 160, "C " * 400, "“" * 900 + "clock.", "Clock " * 5000):
        index.find_alike(line)
    assert time.perf_counter() - begun < 10


def test_parts_of_documents_are_refused() -> None:
    with pytest.raises(InputError, match="find_alike"):
        INDEX.within([(1, 0, 20)]).find_alike("The lamp")


@given(
    st.lists(st.sampled_from(["fox", "Öl", "der", "他们", "x2", "ΣΑΣ", "ב"]), min_size=1, max_size=8),
    st.lists(
        st.sampled_from([" ", "  ", "\n", " — ", ", ", "… ", " “", "” ", "\u200b"]), min_size=9, max_size=9
    ),
    st.data(),
)
def test_a_line_of_the_text_is_found_however_its_signs_are_written(
    words: list[str], between: list[str], data: st.DataObject
) -> None:
    text = "Before. " + "".join(word + sign for word, sign in zip(words, between, strict=False)) + " behind."
    index = Passages.build([Document(text)])
    first = data.draw(st.integers(0, len(words) - 1))
    line = "".join(word + sign for word, sign in zip(words[first:], between[first:], strict=False)).strip()
    changed = data.draw(
        st.sampled_from(
            [
                line[:1].upper() + line[1:],
                line.replace("—", "-").replace("“", '"').replace("”", "'").replace("…", "..."),
                unicodedata.normalize("NFD", line),
                f"“{line}”",
                f"{line}.",
                f"- **{line}**",
                line.replace(" ", "  ").replace("\u200b", ""),
            ]
        )
    )
    place = index.find(changed) or index.find_alike(changed)
    if place is None:
        # Only where it begins or ends within a word, or a sign of it is folded away beside another word.
        assert "\u200b" in text
        return
    own = folded(text[place.start : place.end]).text
    assert own.strip("'.,…-\"* ") == folded(changed).text.strip("'.,…-\"* ")
    assert text[place.start : place.end] == text[place.start : place.end].strip()


@given(st.text(max_size=60))
def test_folding_is_told_by_characters_in_their_order(text: str) -> None:
    found = folded(text)
    assert len(found.text) == len(found.characters)
    assert list(found.characters) == sorted(found.characters)
    assert folded(found.text).text == folded(folded(found.text).text).text
