"""Decoding that is held to a corpus, whatever the model would like to say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from memorag_core import Document, InputError
from memorag_core.memory.grounding import (
    GroundedLine,
    Passages,
    SpanConstraint,
    Vocabulary,
    constraint,
    ranked_tokens,
)
from memorag_core.types import Place
from tests.core.memory.grounding.corpora import KINDS, corpora, in_text, spans, trained, vocabulary_of
from tests.rules import examples

Logits = npt.NDArray[np.floating[Any]]

STEPS = 24

tokenizers = st.tuples(st.sampled_from(KINDS), st.integers(0, 3))


@dataclass
class Slow:
    """The same constraint by looking through all lines of the corpus for every token."""

    documents: Sequence[Document]
    vocabulary: Vocabulary
    stop: frozenset[int]
    line: bytes = b""
    blank: bool = False
    first: int = 0
    lengths: list[int] = field(default_factory=list)
    tokens: int = 0
    said: list[GroundedLine] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lines: list[tuple[bytes, dict[int, tuple[str, Place]]]] = []
        for document in self.documents:
            every = list(spans(document.text))
            for start in dict.fromkeys(start for start, _, _ in every):
                found: dict[int, tuple[str, Place]] = {}
                for end, line in ((end, line) for first, end, line in every if first == start):
                    at = in_text(document.text, start), in_text(document.text, end - 1) + 1
                    found[len(line.encode())] = document.text[slice(*at)], Place(document.id, *at)
                self.lines.append((line.encode(), found))
        self.whole = {line[:size] for line, found in self.lines for size in found}
        self.beginnings = {line[:size] for line, _ in self.lines for size in range(1, len(line) + 1)}

    def after(self, token: int) -> bytes | None:
        """The line behind a token that may follow; None where it may not."""
        if token in self.stop:
            return self.line if not self.line or self.line.rstrip(b" ") in self.whole else None
        text = self.vocabulary.texts[token] if token < len(self.vocabulary.texts) else None
        if text is None:
            return None
        if not self.line or self.line.endswith(b" "):
            text = text.removeprefix(b" ")
        line = self.line + text
        if token in self.vocabulary.line_ends:
            return line if line.rstrip(b" ") in self.whole else None
        if text:
            return line if line in self.beginnings else None
        return b"" if not self.line and not self.blank and self.lines else None

    def allowed(self, size: int) -> list[int]:
        return [token for token in range(size) if self.after(token) is not None]

    def take(self, token: int) -> None:
        line = self.after(token)
        ends = token in self.stop or token in self.vocabulary.line_ends
        if line is None:
            self.said += self.cut_back()
            line, ends = b"", True
        elif ends and line:
            self.lengths.append(len(line))
            self.said += self.cut_back(line)
        self.tokens += 1
        if ends:
            self.line, self.blank, self.first, self.lengths = b"", False, self.tokens, []
        else:
            self.line, self.blank = line, self.blank or not line
            self.lengths.append(len(line))

    def cut_back(self, line: bytes | None = None) -> list[GroundedLine]:
        line = self.line if line is None else line
        for size in range(len(line), 0, -1):
            for text, found in self.lines:
                if text.startswith(line) and size in found:
                    last = next(at for at, length in enumerate(self.lengths) if length >= size)
                    return [GroundedLine(self.first, self.first + last + 1, *found[size])]
        return []


@contextmanager
def walking(often: bool) -> Iterator[None]:
    """A few places are many already, so that the logits are walked."""
    if not often:
        yield
        return
    with patch.multiple(constraint, FEW_PLACES=1, MOST_TEXTS=2, _FIRST_WALKED=3):
        yield


def best(values: Logits, tokens: Sequence[int]) -> int:
    return max(tokens, key=lambda token: (values[token], -token))


def top(values: Logits, count: int) -> list[int]:
    return [int(token) for token in np.argsort(-values, kind="stable")[:count]]


def gives(values: Logits) -> Callable[[], Logits]:
    return lambda: values


@settings(max_examples=examples(300))
@given(corpora, tokenizers, st.integers(0, 2**32 - 1), st.integers(0, 40), st.booleans(), st.booleans())
def test_the_chosen_token_is_the_best_of_all_that_are_allowed(
    documents: list[Document], kind: tuple[str, int], seed: int, ranked: int, often: bool, ties: bool
) -> None:
    vocabulary = Vocabulary.of(trained(*kind))
    draw = np.random.default_rng(seed)
    size = len(vocabulary.texts) + int(draw.integers(0, 5))  # as where embeddings are padded
    held = SpanConstraint(Passages.build(documents), vocabulary, stop=[0, 1])
    slow = Slow(documents, vocabulary, frozenset([0, 1]))
    with walking(often):
        for _ in range(STEPS):
            values = draw.normal(size=size).astype(np.float32) * 3
            if ties:
                values = values.round()
            values[:2] -= draw.integers(0, 6)
            allowed = slow.allowed(size)
            chosen = held.choose(top(values, ranked), gives(values))
            if allowed:
                assert chosen == best(values, allowed)
            else:
                assert chosen == best(values, [0, 1, *vocabulary.by_text.get(b"", ())])
            slow.take(chosen)
            assert held.spans() == (*slow.said, *slow.cut_back())


@settings(max_examples=examples(200))
@given(corpora, tokenizers, st.integers(0, 2**32 - 1))
def test_every_line_stands_in_a_document_at_its_place_from_word_to_word(
    documents: list[Document], kind: tuple[str, int], seed: int
) -> None:
    vocabulary = Vocabulary.of(trained(*kind))
    draw = np.random.default_rng(seed)
    held = SpanConstraint(Passages.build(documents), vocabulary, stop=[0])
    chosen = []
    for _ in range(3 * STEPS):
        values = draw.normal(size=len(vocabulary.texts))
        values[0] = -9
        chosen.append(held.choose((), gives(values)))
    known = {document.id: document.text for document in documents}
    lines = {
        (document.id, in_text(document.text, start), in_text(document.text, end - 1) + 1)
        for document in documents
        for start, end, _ in spans(document.text)
    }
    last = 0
    for line in held.spans():
        place = line.place
        assert line.text == known[place.document_id][place.start : place.end]
        assert (place.document_id, place.start, place.end) in lines
        assert last <= line.first < line.last <= len(chosen)
        last = line.last


@settings(max_examples=examples(200))
@given(corpora, tokenizers, st.data())
def test_a_model_that_says_lines_of_the_corpus_anyway_says_the_same(
    documents: list[Document], kind: tuple[str, int], data: st.DataObject
) -> None:
    tokens = trained(*kind)
    vocabulary = Vocabulary.of(tokens)
    every = sorted({line for document in documents for _, _, line in spans(document.text)})
    assume(every)
    breaks = sorted(vocabulary.by_text.get(b"", ()))
    assume(breaks)
    reply: list[int] = []
    lines = data.draw(st.lists(st.sampled_from(every), min_size=1, max_size=4))
    for line in lines:
        ids = tokens.encode_text(line).tolist()
        assume(all(vocabulary.texts[token] is not None for token in ids))
        reply += [*ids, breaks[0]]
    reply.append(0)
    draw = np.random.default_rng(data.draw(st.integers(0, 1000)))
    held = SpanConstraint(Passages.build(documents), vocabulary, stop=[0])
    for token in reply:
        values = draw.normal(size=len(vocabulary.texts))
        values[token] = 20
        assert held.choose(top(values, 4), gives(values)) == token
    assert [" ".join(line.text.split()) for line in held.spans()] == lines


# --- by example ---------------------------------------------------------------------------------------------

TALE = Document("The fox ran home.\nThe foxes\n\nran far, 3.5 miles.", "tale")
ENTRIES = (
    *("<end>", "▁The", "The", "▁fox", "es", "▁ran", "▁home", ".", "\n", ".\n", "▁", "f", "ar", "a", "r"),
    *("▁far", ",", "▁3", "3", "5", "▁miles", "mi", "▁The\nfox", "🦊", "o"),
)


VOCABULARY = vocabulary_of(ENTRIES)


def held(*documents: Document) -> SpanConstraint:
    return SpanConstraint(Passages.build(documents or (TALE,)), VOCABULARY, stop=[0])


def wishing(*wishes: str) -> tuple[list[int], Callable[[], Logits]]:
    """The tokens that a model would like, best first, and the logits of all."""
    ids = [ENTRIES.index(wish) for wish in wishes]
    values = np.full(len(ENTRIES), -50.0, dtype=np.float32)
    values[ids] = -np.arange(len(ids))
    return ids, lambda: values


def say(reply: SpanConstraint, *tokens: str) -> None:
    """Tokens that must all be allowed."""
    for token in tokens:
        chosen = reply.choose(*wishing(token))
        assert ENTRIES[chosen] == token, f"{token!r} is not allowed, but {ENTRIES[chosen]!r}"


def test_a_reply_of_two_lines_says_where_they_stand() -> None:
    reply = held()
    say(reply, "▁The", "▁fox", "es", "▁ran", "\n", "▁", "The", "▁fox", "▁ran", "<end>")
    first, second = reply.spans()
    assert first == GroundedLine(0, 4, "The foxes\n\nran", Place("tale", 18, 32))
    assert TALE.text[18:32] == first.text
    assert second == GroundedLine(5, 9, "The fox ran", Place("tale", 0, 11))


@pytest.mark.parametrize(
    ("before", "refused", "instead"),
    [
        (["▁The", "▁fox", "▁ran"], "es", "▁home"),  # nobody wrote so
        (["f"], "▁ran", "ar"),  # nothing is called "f"
        (["▁3"], "<end>", "."),  # 3.5 is one word
        (["▁miles"], "\n", "."),
    ],
)
def test_what_stands_nowhere_is_not_said(before: list[str], refused: str, instead: str) -> None:
    documents = [Document(TALE.text.replace(" miles.", " miles"), "tale")] if refused == "\n" else [TALE]
    reply = held(*documents)
    say(reply, *before)
    if refused == "\n":  # a line may end here
        say(reply, refused)
    else:
        assert ENTRIES[reply.choose(*wishing(refused, instead))] == instead


def test_a_token_with_text_and_a_line_break_ends_the_line_behind_its_text() -> None:
    reply = held()
    say(reply, "The", "▁fox", "▁ran", "▁home", ".\n", "▁far", "<end>")
    assert [line.text for line in reply.spans()] == ["The fox ran home.", "far"]
    assert [(line.first, line.last) for line in reply.spans()] == [(0, 5), (5, 6)]


def test_an_empty_reply_is_one_but_an_empty_line_is_none() -> None:
    reply = held()
    assert ENTRIES[reply.choose(*wishing("\n", "<end>"))] == "<end>"
    assert reply.spans() == ()
    reply = held()
    say(reply, "▁")
    assert ENTRIES[reply.choose(*wishing("▁", "\n", "The"))] == "The"


def test_a_token_that_goes_over_a_line_break_is_not_said() -> None:
    assert ENTRIES[held().choose(*wishing("▁The\nfox", "▁The"))] == "▁The"


def test_a_reply_that_is_cut_off_ends_with_its_last_whole_word() -> None:
    reply = held()
    say(reply, "▁The", "▁fox", "es", "▁ran", "▁", "f")
    assert reply.spans() == (GroundedLine(0, 4, "The foxes\n\nran", Place("tale", 18, 32)),)
    say(reply, "ar")
    assert reply.spans() == (GroundedLine(0, 7, "The foxes\n\nran far", Place("tale", 18, 36)),)
    reply = held()
    say(reply, "f")
    assert reply.spans() == ()


def test_where_no_token_goes_on_the_line_is_cut_back_and_ended_by_the_likelier_way() -> None:
    fox = Document("far 🦝 away", "raccoon")
    reply = held(fox)
    say(reply, "▁far", "▁")
    values = np.zeros(len(ENTRIES), dtype=np.float32)
    values[ENTRIES.index("\n")] = 1
    assert ENTRIES[reply.choose((), lambda: values)] == "\n"
    assert reply.spans() == (GroundedLine(0, 1, "far", Place("raccoon", 0, 3)),)
    reply = held(Document("farm", "farm"))
    say(reply, "▁far")
    assert ENTRIES[reply.choose(*wishing("<end>"))] == "<end>"
    assert reply.spans() == ()


def test_where_nothing_is_memorized_there_is_nothing_to_say() -> None:
    reply = held(Document(" \n", "blank"))
    assert ENTRIES[reply.choose(*wishing("▁", "▁The", "<end>"))] == "<end>"


def test_the_first_of_many_places_is_given_and_it_must_have_the_end() -> None:
    reply = held(Document("The foxes", "a"), Document("He saw The fox", "b"), Document("The fox", "c"))
    say(reply, "The", "▁fox", "<end>")
    assert reply.spans()[0].place == Place("b", 7, 14)


def test_logits_that_are_no_numbers_are_never_chosen() -> None:
    values = np.full(len(ENTRIES), np.nan, dtype=np.float32)
    values[ENTRIES.index("▁ran")] = -3
    assert ENTRIES[held().choose((), lambda: values)] == "▁ran"


def test_logits_are_asked_for_only_where_no_ranked_token_is_allowed() -> None:
    def never() -> Logits:
        raise AssertionError("asked")

    assert held().choose([ENTRIES.index("es"), ENTRIES.index("▁fox")], never) == ENTRIES.index("▁fox")


def test_ranked_tokens_are_those_whose_order_is_certain() -> None:
    assert ranked_tokens([3.0, 2.0, 2.0, 1.0, 1.0], [7, 9, 4, 1, 2]) == [7, 4, 9]
    assert ranked_tokens([1.0, 1.0], [3, 2]) == []
    assert ranked_tokens([], []) == []


def test_a_reply_that_could_never_end_is_refused() -> None:
    with pytest.raises(InputError, match=r"No token ends .*stop="):
        SpanConstraint(Passages.build([TALE]), vocabulary_of(["<end>", "a"]), stop=[])


def test_many_replies_share_one_index() -> None:
    passages = Passages.build([TALE])
    one, two = (SpanConstraint(passages, VOCABULARY, stop=[0]) for _ in range(2))
    say(one, "▁The", "▁fox")
    say(two, "▁far")
    say(one, "es", "<end>")
    say(two, "<end>")
    assert [line.text for line in (*one.spans(), *two.spans())] == ["The foxes", "far"]
