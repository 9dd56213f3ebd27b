"""Invented names of people, places and things, held apart by split.

In: a random generator, a split, the words already taken. Out: a capitalised name of one or two words.
Knows nothing of sentences. Every word of a name belongs to exactly one split, by a hash of its letters,
so no name and no part of a name occurs in two splits.
"""

from __future__ import annotations

import random
from collections.abc import Container
from dataclasses import dataclass
from zlib import crc32

from memorag_training.worlds.templates import Split


@dataclass(frozen=True, slots=True)
class _Sound:
    """One manner of building words: what syllables begin with, their vowels, what closes and ends words."""

    onsets: tuple[str, ...]
    vowels: tuple[str, ...]
    codas: tuple[str, ...]
    endings: tuple[str, ...]


_SOUNDS = (
    _Sound(
        tuple("b br d dr f g gr h j k kr l m n r s sk st sv t th tr v".split()),
        tuple("a e i o u ei au y".split()),
        ("l", "n", "r", "s", "rd", "ld", "ng", "lm", "rn", "sk", "g", "v"),
        ("a", "ik", "ulf", "und", "ar", "en", "ild", "or", "eth", "isk"),
    ),
    _Sound(
        tuple("b c ch d f g gi l m n p qu r s t v z fr br".split()),
        tuple("a e i o u ia io".split()),
        ("", "", "l", "n", "r", "ll", "nt", "rt", "zz", "tt", "ss"),
        ("o", "a", "ello", "ina", "ardo", "eso", "una", "ivo", "etta", "oni"),
    ),
    _Sound(
        tuple("b c cl d f g gl gw l ll m n p r rh s t tr w".split()),
        tuple("a e i o u y ae wy ea".split()),
        ("n", "r", "dd", "th", "l", "nn", "rth", "s", "ch", "gh"),
        ("yn", "an", "wen", "eth", "ion", "og", "ais", "or", "ell", "ach"),
    ),
    _Sound(
        tuple("h k m n r s sh t ts y z d b j".split()),
        ("a", "i", "u", "e", "o", "ai", "ou"),
        ("", "", "", "n", "m"),
        ("ka", "ro", "mi", "to", "ne", "shi", "ya", "zu", "da", "ri"),
    ),
    _Sound(
        tuple("b d g k kh l m n p r s sh t v z zh dr gr".split()),
        tuple("a e i o u ya ie".split()),
        ("l", "n", "r", "v", "k", "sh", "m", "zd", "st", "sk"),
        ("ev", "ov", "ana", "ik", "il", "ush", "ita", "ena", "ak", "yna"),
    ),
    _Sound(
        tuple("b d f h j k l m n q r s t w x y z th".split()),
        ("a", "i", "u", "aa", "e", "o"),
        ("m", "b", "r", "s", "l", "n", "d", "sh", "f", "q"),
        ("ah", "im", "een", "iz", "ur", "ad", "el", "is", "un", "ara"),
    ),
)

_PLACE_ENDINGS = (
    "ow", "ick", "by", "mer", "orra", "end", "au", "ense", "itz", "os", "ane", "ur", "ava", "elle", "ott",
    "arn", "una", "eg", "ria", "oss",
)  # fmt: skip

_SHARES: dict[Split, tuple[int, int]] = {"train": (0, 12), "dev": (12, 14), "test": (14, 16)}
"""Of 16 hash values, the half-open range that belongs to the split."""


def split_of_word(word: str) -> Split:
    """The split that owns a word of a name."""
    value = crc32(word.lower().encode()) & 15
    return next(split for split, (low, high) in _SHARES.items() if low <= value < high)


def make_word(rng: random.Random, split: Split, *, taken: Container[str], place: bool = False) -> str:
    """Make one capitalised word of the split.

    Args:
        rng: Source of chance.
        split: The split that must own the word.
        taken: Lower-case prefixes of four letters that no word may begin with (the words of the lexicon).
        place: Use the endings of places.

    Returns:
        A word of 4 to 10 letters.
    """
    low, high = _SHARES[split]
    chance = rng.random
    while True:
        sound = _SOUNDS[int(chance() * len(_SOUNDS))]
        onsets, vowels, codas = sound.onsets, sound.vowels, sound.codas
        ends = _PLACE_ENDINGS if place else sound.endings
        word = (
            onsets[int(chance() * len(onsets))]
            + vowels[int(chance() * len(vowels))]
            + codas[int(chance() * len(codas))]
        )
        if chance() < 0.25:
            word += (
                onsets[int(chance() * len(onsets))]
                + vowels[int(chance() * len(vowels))]
                + codas[int(chance() * len(codas))]
            )
        word += ends[int(chance() * len(ends))]
        if low <= crc32(word.encode()) & 15 < high and 4 <= len(word) <= 10 and word[:4] not in taken:
            return word.capitalize()
