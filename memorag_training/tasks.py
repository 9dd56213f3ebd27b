"""Episodes for training: documents and the rows that are asked of them.

In: prose as token ids with sentence starts, generated worlds. Out: ``Episode`` values. Knows no model.

Rows on prose ask for what stood in the text: ``text`` rows give the first tokens of a span and want its
continuation (reconstruction), ``cue`` rows give a few rare words of a sentence, alone or inside a question,
and want the sentence from the first of them on. Rows on worlds ask implicit questions and want the evidence,
a surrogate question or the answer. A question whose evidence is not in the document wants the token that says
so.

Evidence begins with what it is found by ("repairs timepieces in Orrin."), and the sentences follow: to copy
on from where the memory was hit is learned much sooner than to step back to where the sentence began.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from memorag_core.errors import InputError
from memorag_training.loss import Episode, Row
from memorag_training.worlds import WorldQuestion, generate_list, generate_world, load_concepts

_SENTENCE_END = re.compile(r"[.!?][\"'”’)]*\s+(?=[\"'“‘(]?[A-Z])|\n\s*\n")
_WH = "who what when where why how which".split()
_AUXILIARY = "did was is were does had would could has the".split()
_GLUE = "the a of in to and with for his her on at by from that".split()
_KIND_WEIGHTS = {"trade": 4.0, "attribute": 4.0, "place": 3.0, "thing": 3.0, "two_hop": 1.5, "explicit": 0.4}
"""Worlds have more explicit questions than implicit ones; training wants it the other way round."""
_FILLERS = "you I it one we please say tell me now then best right help need person somebody".split()
_IMPLICIT = frozenset({"trade", "attribute", "place", "thing"})
_MARKS = ".,;:?!"
_BRIEF = 6
_LONGEST_ROW = 120
"""Tokens of a prompt and its target; they share one window when a memory is asked."""


@dataclass(frozen=True, slots=True)
class Prose:
    """Tokenized books: ids one after the other, and where sentences and books begin.

    Attributes:
        ids: [n] token ids.
        sentences: [s] index into ids of the first token of each sentence, ascending, with n at the end.
        books: [b] index into ids of the first token of each book, with n at the end.
        starts_word: [vocabulary] whether a token begins a word.
        rarity: negative log frequency of a word, by the bytes of its ids.
    """

    ids: npt.NDArray[np.uint16]
    sentences: npt.NDArray[np.int64]
    books: npt.NDArray[np.int64]
    starts_word: npt.NDArray[np.bool_]
    rarity: Mapping[bytes, float]

    def save(self, folder: Path) -> None:
        """Write the arrays; ``rarity`` is counted again on loading."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("ids", "sentences", "books", "starts_word"):
            np.save(folder / f"{name}.npy", getattr(self, name), allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> Prose:
        """Map the arrays that ``save`` wrote."""
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in ("ids", "sentences", "books", "starts_word")
        }
        return cls(**arrays, rarity=count_words(arrays["ids"], arrays["starts_word"]))


def split_sentences(text: str) -> list[str]:
    """Sentences with their white space folded; short heads such as chapter titles stand alone."""
    pieces, start = [], 0
    for match in _SENTENCE_END.finditer(text):
        pieces.append(text[start : match.end()])
        start = match.end()
    pieces.append(text[start:])
    return [folded for piece in pieces if (folded := " ".join(piece.split()))]


def tokenize_books(texts: Iterable[str], tokenizer: Any) -> Prose:
    """Tokenize books sentence by sentence with a ``tokenizers.Tokenizer``."""
    ids: list[npt.NDArray[np.uint16]] = []
    sentences: list[int] = []
    books: list[int] = []
    length = 0
    for text in texts:
        books.append(length)
        for encoding in tokenizer.encode_batch(split_sentences(text), add_special_tokens=False):
            if encoding.ids:
                sentences.append(length)
                ids.append(np.asarray(encoding.ids, dtype=np.uint16))
                length += len(encoding.ids)
    if not ids:
        raise InputError("no text to train on: expected at least one book with a sentence.")
    vocabulary = tokenizer.get_vocab_size()
    starts = np.asarray([(tokenizer.id_to_token(i) or "").startswith("Ġ") for i in range(vocabulary)])
    flat = np.concatenate(ids)
    return Prose(
        ids=flat,
        sentences=np.asarray([*sentences, length], dtype=np.int64),
        books=np.asarray([*books, length], dtype=np.int64),
        starts_word=starts,
        rarity=count_words(flat, starts),
    )


def count_words(
    ids: npt.NDArray[np.uint16], starts_word: npt.NDArray[np.bool_], *, sample: int = 2_000_000
) -> dict[bytes, float]:
    """Negative log frequency of the words in (the head of) a text, by the bytes of their ids."""
    part = np.asarray(ids[:sample])
    bounds = np.flatnonzero(starts_word[part])
    words = Counter(part[a:b].tobytes() for a, b in pairwise(bounds))
    total = max(1, sum(words.values()))
    return {word: float(-np.log(count / total)) for word, count in words.items()}


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of the kinds of rows; they need not sum to one."""

    text: float = 0.5
    cue: float = 0.5
    worlds: float = 0.0
    """Share of the documents that are generated worlds."""
    lists: float = 0.0
    """Share of these that are lists of bare statements."""
    pairs: int = 0
    """Rows beside each document that want a statement for a bare need ("the broken clock"), whatever the
    document says: what goes with what, which is the same in all worlds."""
    asides: float = 0.0
    """Share of the implicit questions that ask for the bare need among words that say nothing."""
    nothing: float = 0.15
    """Share of the questions on a world without evidence in the document that are asked all the same."""
    excess: float = 0.0
    """How much longer than the document its world is; what lies beyond is asked for in vain."""
    absent: float = 0.0
    """Share of the prose rows whose words do not stand in the document."""
    brief: float = 0.0
    """Share of the rows that want the first tokens alone. Finding the place is what is hard, and it shows
    there; more questions fit into the same time."""


@dataclass(frozen=True, slots=True)
class _Cue:
    """Words of a sentence to ask with, and the place in the sentence of the first of them."""

    asked: tuple[int, ...]
    first: int


@cache
def _needs() -> tuple[str, ...]:
    return tuple(ask for concept in load_concepts() for ask in concept.asks)


def _found_at(question: WorldQuestion) -> int:
    """Where in the first evidence the words begin that the question leads to, names left out.

    The surrogate question has them in common with the evidence; the longest common run of words is taken.
    """
    sentence = question.evidence[0].sentence
    words = [(match[0].strip(_MARKS), match.start()) for match in re.finditer(r"\S+", sentence)]
    asked = [word.strip(_MARKS) for word in question.surrogate.split()]
    best, length = 0, 0
    for at in range(len(words)):
        for other in range(len(asked)):
            run = 0
            while (
                at + run < len(words)
                and other + run < len(asked)
                and words[at + run][0] == asked[other + run]
            ):
                run += 1
            if run > length:
                best, length = at, run
    # Where the question is about a name itself, the name stays.
    lower = [at for at in range(best, best + length) if words[at][0][:1].islower()]
    return words[lower[0] if lower else best][1] if words else 0


class EpisodeSampler:
    """Draws episodes from prose and worlds; all randomness comes from the generator it is given."""

    def __init__(
        self, prose: Prose, tokenizer: Any, *, split: Literal["train", "dev", "test"] = "train"
    ) -> None:
        self._prose = prose
        self._tokenizer = tokenizer
        self._random = random.Random()
        self._split = split
        self._special: dict[str, int] = {
            name: tokenizer.token_to_id(f"<|{name}|>")
            for name in ("end", "pad", "ask", "text", "span", "query", "answer", "line", "none")
        }
        self._words = {word: tuple(self._encode(word)) for word in {*_WH, *_AUXILIARY, *_GLUE}}
        self._mark = (tokenizer.token_to_id("?"),)
        self._unknown = max(prose.rarity.values())

    def draw(
        self,
        generator: random.Random,
        *,
        documents: int,
        tokens: int,
        rows: int,
        mix: Mix,
        window: int,
        longest: int = 44,
    ) -> Episode:
        """One episode: ``documents`` of ``tokens`` tokens with about ``rows`` rows each.

        Args:
            generator: all that is random comes from it.
            documents: how many.
            tokens: of each document.
            rows: asked of each document.
            mix: kinds of documents and rows.
            window: the last window of some documents is filled up with the pad token.
            longest: tokens of a target at most.
        """
        self._random = generator
        texts: list[list[int]] = []
        asked: list[Row] = []
        for index in range(documents):
            if self._random.random() < mix.worlds:
                ids, drawn = self._world(tokens, rows, mix, longest, index)
            else:
                ids, drawn = self._prose_document(tokens, rows, mix, longest, window, index)
            texts.append(ids)
            asked.extend(self._brief(row) if self._random.random() < mix.brief else row for row in drawn)
            asked.extend(self._pair_row(index) for _ in range(mix.pairs))
        return Episode(torch.tensor(texts, dtype=torch.long), tuple(asked))

    @staticmethod
    def _brief(row: Row) -> Row:
        return replace(row, target=row.target[:_BRIEF])

    # prose ---------------------------------------------------------------------------------------------

    def _prose_document(
        self, tokens: int, rows: int, mix: Mix, longest: int, window: int, index: int
    ) -> tuple[list[int], list[Row]]:
        prose, draw = self._prose, self._random
        while True:
            first = draw.randrange(len(prose.sentences) - 1)
            start = int(prose.sentences[first])
            if start + tokens <= len(prose.ids):
                break
        ids = prose.ids[start : start + tokens].astype(np.int64)
        stop = int(np.searchsorted(prose.sentences, start + tokens, side="right"))
        bounds = [int(place) - start for place in prose.sentences[first:stop]]
        bounds = bounds if bounds[-1] == tokens else [*bounds, tokens]
        text = ids.tolist()
        drawn: list[Row] = []
        share = mix.text / (mix.text + mix.cue)
        while len(drawn) < rows:
            row = None
            if draw.random() < share:
                row = self._text_row(text, longest, index)
            elif draw.random() < mix.absent:
                row = self._absent_row(text, index)
            else:
                row = self._cue_row(text, bounds, longest, index)
            drawn.append(row or self._text_row(text, longest, index))
        if tokens > window and draw.random() < 0.3:  # the last window of a real text is filled up
            filled = draw.randrange(window)
            keep = tokens - filled
            drawn = [row for row in drawn if self._stands_before(row, text, keep)]
            text = text[:keep] + [self._special["pad"]] * filled
        return text, drawn

    def _stands_before(self, row: Row, text: Sequence[int], keep: int) -> bool:
        wanted = [token for token in row.target if token != self._special["end"]]
        if wanted == [self._special["none"]]:
            return True
        head = list(text[:keep])
        size = len(wanted)
        return any(
            head[at : at + size] == wanted for at in range(len(head) - size + 1) if head[at] == wanted[0]
        )

    def _text_row(self, text: Sequence[int], longest: int, index: int) -> Row:
        draw = self._random
        given = draw.randint(3, 4)
        length = min(longest, len(text) - given)
        start = draw.randrange(len(text) - given - length + 1)
        prompt = (self._special["ask"], *text[start : start + given], self._special["text"])
        first = start + given
        return Row(index, prompt, tuple(text[first : first + length]), start, first + min(4, length))

    def _cue_row(self, text: Sequence[int], bounds: Sequence[int], longest: int, index: int) -> Row | None:
        draw = self._random
        for _ in range(8):
            at = draw.randrange(len(bounds) - 1)
            start, end = bounds[at], bounds[at + 1]
            if end - start < 6:
                continue
            # A long sentence is asked for from one of its clauses' words on, as a short one is.
            if end - start > longest:
                start += draw.randrange(end - start - longest + 1) if draw.random() < 0.5 else 0
                while start < end and not self._prose.starts_word[text[start]]:
                    start += 1
                end = min(end, start + longest)
            cue = self._cue(text[start:end])
            if cue is None:
                continue
            closing = (self._special["end"],) if end == bounds[at + 1] else ()
            return Row(
                index,
                (self._special["ask"], *cue.asked, self._special["span"]),
                (*text[start + cue.first : end], *closing),
                start + cue.first,
                end,
            )
        return None

    def _absent_row(self, text: Sequence[int], index: int) -> Row | None:
        """Words of another place in the books that do not stand in this document."""
        prose, draw = self._prose, self._random
        at = draw.randrange(len(prose.sentences) - 1)
        sentence = (
            prose.ids[int(prose.sentences[at]) : int(prose.sentences[at + 1])].astype(np.int64).tolist()
        )
        cue = self._cue(sentence[:60])
        if cue is None:
            return None
        here = set(self._split_words(text))
        rare = [word for word in self._split_words(sentence[:60]) if self._rarity(word) > 7.5]
        if not rare or any(word in here for word in rare):
            return None
        return Row(
            index,
            (self._special["ask"], *cue.asked, self._special["span"]),
            (self._special["none"], self._special["end"]),
        )

    def _cue(self, sentence: Sequence[int]) -> _Cue | None:
        draw = self._random
        words = self._split_words(sentence)
        scored = sorted(((self._rarity(word), draw.random(), word) for word in set(words)), reverse=True)
        rare = [word for rarity, _, word in scored if rarity > 6.0][:6]
        if not rare:
            return None
        count = min(len(rare), draw.choice((1, 2, 2, 3, 3, 4)))
        chosen = (
            rare[:1] + draw.sample(rare[1:], count - 1) if draw.random() < 0.6 else draw.sample(rare, count)
        )
        earliest = min(map(words.index, chosen))
        first = sum(map(len, words[:earliest]))
        if draw.random() < 0.5:
            draw.shuffle(chosen)
            return _Cue(tuple(token for word in chosen for token in word), first)
        # The words inside something like a question, in the order of the text.
        chosen.sort(key=words.index)
        asked = [*self._words[draw.choice(_WH)], *self._words[draw.choice(_AUXILIARY)]]
        for word in chosen:
            if draw.random() < 0.5:
                asked.extend(self._words[draw.choice(_GLUE)])
            asked.extend(word)
        return _Cue((*asked, *self._mark), first)

    def _split_words(self, ids: Sequence[int]) -> list[tuple[int, ...]]:
        words: list[list[int]] = []
        for token in ids:
            if self._prose.starts_word[token] or not words:
                words.append([])
            words[-1].append(token)
        return [tuple(word) for word in words]

    def _rarity(self, word: tuple[int, ...]) -> float:
        return self._prose.rarity.get(np.asarray(word, dtype=np.uint16).tobytes(), self._unknown)

    # worlds --------------------------------------------------------------------------------------------

    def _world(
        self, tokens: int, rows: int, mix: Mix, longest: int, index: int
    ) -> tuple[list[int], list[Row]]:
        draw = self._random
        characters = int(tokens * draw.uniform(2.1, 2.9) * (1 + mix.excess))
        if mix.lists and draw.random() < mix.lists:
            world = generate_list(draw, split=self._split, characters=characters)
        else:
            world = generate_world(
                draw, split=self._split, characters=characters, filler=self._filler(tokens)
            )
        encoding = self._tokenizer.encode(world.text, add_special_tokens=False)
        # A part of a long text begins anywhere.
        skipped = draw.randrange(max(1, len(encoding.ids) - tokens + 1)) if mix.excess else 0
        ids: list[int] = encoding.ids[skipped : skipped + tokens]
        # Characters are exact in the tokenizer's offsets; ids and offsets go side by side.
        ends = [end for _, end in encoding.offsets[skipped:]]
        start = encoding.offsets[skipped][0]
        # A weighted shuffle (Efraimidis and Spirakis): each question's key is a power of a uniform number.
        questions = sorted(
            world.questions, key=lambda asked: draw.random() ** (1 / _KIND_WEIGHTS[asked.kind]), reverse=True
        )
        drawn: list[Row] = []
        for question in questions:
            if len(drawn) >= rows:
                break
            row = self._world_row(question, ids, ends, start, mix, index)
            if row is not None:
                drawn.append(row)
        while len(drawn) < rows and len(ids) > 8:
            drawn.append(self._text_row(ids, longest, index))
        return ids + [self._special["pad"]] * (tokens - len(ids)), drawn

    def _world_row(
        self,
        question: WorldQuestion,
        ids: Sequence[int],
        ends: Sequence[int],
        start: int,
        mix: Mix,
        index: int,
    ) -> Row | None:
        special, draw = self._special, self._random
        spans = []
        for fact in question.evidence:
            first = int(np.searchsorted(ends, fact.start, side="right"))
            last = int(np.searchsorted(ends, fact.end, side="left")) + 1
            if last > len(ids) or fact.start < start:
                break  # without the first hop nobody can know the next
            spans.append(tuple(ids[first:last]))
        complete = len(spans) == len(question.evidence)
        kind = draw.choices(("span", "query", "answer"), (0.7, 0.15, 0.15 if question.answer else 0))[0]
        target: tuple[int, ...]
        head = stop = 0
        if spans:
            found = question.evidence[0].start + _found_at(question)
            head = int(np.searchsorted(ends, found, side="right"))
            first = int(np.searchsorted(ends, question.evidence[0].start, side="right"))
            stop = first + len(spans[0])
        if not spans or (kind != "span" and not complete):
            if draw.random() >= mix.nothing:
                return None
            target = (special["none"],)
            head = stop = 0
        elif kind == "span":
            target = spans[0][head - first :]
            for span in spans:
                target = (*target, special["line"], *span)
        else:
            target = tuple(self._encode(question.surrogate if kind == "query" else question.answer))
        asked = question.question
        if question.kind in _IMPLICIT and draw.random() < mix.asides:
            asked = self._aside(asked)
        prompt = (special["ask"], *self._encode(asked), special[kind])
        target = (*target, special["end"])
        if len(prompt) + len(target) > _LONGEST_ROW:
            return None
        return Row(index, prompt, target, head, stop)

    def _aside(self, question: str) -> str:
        """The need that a question holds, among other function words than its frame has."""
        need = max((ask for ask in _needs() if ask in question), key=len, default="")
        if not need:
            return question
        before = self._random.choices((*_WH, *_AUXILIARY, *_GLUE, *_FILLERS), k=self._random.randint(0, 5))
        after = self._random.choices((*_GLUE, *_FILLERS), k=self._random.choice((0, 0, 1, 3)))
        return f"{' '.join((*before, need, *after)).capitalize()}{self._random.choice('?? .')}".strip()

    def _pair_row(self, index: int) -> Row:
        draw, special = self._random, self._special
        concept = draw.choice(load_concepts())
        say = draw.randrange(len(concept.says))
        ask = draw.choice(concept.asks)
        prompt = (special["ask"], *self._encode(ask), special["text"])
        return Row(index, prompt, (*self._encode(concept.says[say]), special["end"]))

    def _filler(self, tokens: int) -> list[str]:
        if self._random.random() < 0.5:
            return []
        prose, sentences = self._prose, []
        for _ in range(max(1, tokens // 100)):
            at = self._random.randrange(len(prose.sentences) - 1)
            ids = prose.ids[int(prose.sentences[at]) : int(prose.sentences[at + 1])]
            if 8 <= len(ids) <= 60:
                sentences.append(self._tokenizer.decode(ids.tolist()).strip())
        return sentences

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids
