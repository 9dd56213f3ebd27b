"""What every token of a tokenizer puts into a text, byte by byte.

In: a tokenizer. Out: the bytes of every token as lines are compared, which tokens end a line, and the tokens
that have given bytes. Knows no corpus and no model.

Two families of tokenizers can be told token by token: byte-level ones, whose entries are spelled in an
alphabet of 256 letters for 256 bytes, and those of SentencePiece, whose entries are text with a sign for the
space, and maybe bytes in figures (<0xE4>) for what they have no entry for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from memorag_core.errors import UnsupportedModelError
from memorag_core.memory.grounding.blocks import BORDER

if TYPE_CHECKING:
    from memorag_core.memory.tokenizer import Tokens

Spelling: TypeAlias = Callable[[str], bytes | None]
"""Gives the bytes of an entry, or None where it has none."""

# White space as str.isspace tells it, in UTF-8; no byte of it begins or ends within another sign.
_SPACES = re.compile(
    rb"(?:[\t-\r\x1c-\x20]|\xc2[\x85\xa0]|\xe1\x9a\x80|\xe2\x80[\x80-\x8a\xa8\xa9\xaf]|\xe2\x81\x9f|\xe3\x80\x80)+"
)
_LINE_BREAK = re.compile(rb"[\n\r]")
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """The tokens of a tokenizer as they stand inside a text; immutable, shared freely between threads.

    Attributes:
        texts: for every id its bytes, every run of white space as one space; of a token with a line break
            what stands before it, without the space at its end. None for special and added tokens, and for
            others that no line can hold.
        line_ends: the ids after which a line has ended.
        by_text: the ids of all tokens with given bytes, ascending.
        longest: bytes of the longest token.
    """

    texts: tuple[bytes | None, ...]
    line_ends: frozenset[int]
    by_text: Mapping[bytes, tuple[int, ...]]
    longest: int

    @classmethod
    def of(cls, tokens: Tokens) -> Vocabulary:
        """The vocabulary of a tokenizer; its line token ends a line, where it has one.

        Raises:
            UnsupportedModelError: a tokenizer whose entries alone do not tell what they put into a text.
        """
        tokenizer = tokens.backend
        spelled = _spelling(json.loads(tokenizer.to_str()))
        entries = tokenizer.get_vocab(with_added_tokens=True)
        added = tokenizer.get_added_tokens_decoder().keys()
        texts: list[bytes | None] = [None] * (max(entries.values(), default=-1) + 1)
        line_ends: set[int] = set()
        for entry, token in entries.items():
            text = spelled(entry) if token not in added else None
            if not text or BORDER in text:
                continue
            text, breaks, behind = _halves(text)
            if breaks and behind:
                continue  # the end of one line and the beginning of the next
            texts[token] = text
            if breaks:
                line_ends.add(token)
        if tokens.line_token is not None:
            texts[entries[tokens.line_token]] = b""
            line_ends.add(entries[tokens.line_token])
        by_text: dict[bytes, tuple[int, ...]] = {}
        for token, text in enumerate(texts):
            if text is not None:
                by_text[text] = (*by_text.get(text, ()), token)
        return cls(tuple(texts), frozenset(line_ends), by_text, max(map(len, by_text), default=0))

    def beginning(self, text: bytes, *, spaced: bool = False) -> Iterator[int]:
        """The tokens that are the beginning of a text; ``spaced``: those with a space in front, too."""
        for size in range(1, min(len(text), self.longest) + 1):
            yield from self.by_text.get(text[:size], ())
            if spaced:
                yield from self.by_text.get(b" " + text[:size], ())


def _halves(text: bytes) -> tuple[bytes, bool, bytes]:
    """What stands before the first line break, whether there is one, and what stands behind it."""
    found = _LINE_BREAK.search(text)
    if found is None:
        return _SPACES.sub(b" ", text), False, b""
    before = _SPACES.sub(b" ", text[: found.start()]).removesuffix(b" ")
    return before, True, _SPACES.sub(b" ", text[found.end() :]).strip(b" ")


def _spelling(tokenizer: dict[str, Any]) -> Spelling:
    """How the entries of a tokenizer are spelled, from what its decoder does with them."""
    model = tokenizer["model"]
    steps = list(_steps(tokenizer.get("decoder")))
    kinds = [step["type"] for step in steps]
    unknown = _unknown(model)
    marked = [model.get(name) for name in ("continuing_subword_prefix", "end_of_word_suffix")]
    if not any(marked) and kinds == ["ByteLevel"]:
        return lambda entry: None if entry == unknown else _of_letters(entry)
    replaced: list[tuple[str, str]] = []
    for step in steps:
        if step["type"] == "Metaspace":
            replaced.append((step["replacement"], " "))
        elif step["type"] == "Replace" and "String" in step["pattern"]:
            replaced.append((step["pattern"]["String"], step["content"]))
        elif step["type"] not in ("ByteFallback", "Fuse", "Strip"):  # Strip: at the ends of a whole reply
            break
    else:
        if replaced and not any(marked):
            in_bytes = "ByteFallback" in kinds
            return lambda entry: None if entry == unknown else _of_text(entry, replaced, in_bytes)
    raise UnsupportedModelError(
        f"The tokenizer ({model.get('type')} with the decoder {' + '.join(kinds) or 'none'}) does not tell "
        "token by token what stands in a text. Expected a byte-level tokenizer, or one of SentencePiece "
        "(Metaspace, or Replace with ByteFallback). Recall without grounding works with every tokenizer."
    )


def _steps(decoder: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    if decoder is not None and decoder["type"] == "Sequence":
        for step in decoder["decoders"]:
            yield from _steps(step)
    elif decoder is not None:
        yield decoder


def _unknown(model: dict[str, Any]) -> str | None:
    """The entry for what has no entry."""
    if isinstance(model.get("unk_id"), int):  # Unigram, whose entries are pairs with a score
        return str(model["vocab"][model["unk_id"]][0])
    return model.get("unk_token")


def _of_letters(entry: str) -> bytes | None:
    try:
        return bytes(_LETTERS[letter] for letter in entry)
    except KeyError:
        return None


def _of_text(entry: str, replaced: list[tuple[str, str]], in_bytes: bool) -> bytes:
    if in_bytes and (found := _BYTE.fullmatch(entry)):
        return bytes([int(found[1], 16)])
    for sign, content in replaced:
        entry = entry.replace(sign, content)
    return entry.encode("utf-8", "surrogatepass")


def _letters() -> dict[str, int]:
    """The alphabet of byte-level tokenizers: visible Latin-1 letters are themselves, others from 256 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + at): byte for at, byte in enumerate(hidden)}


_LETTERS = _letters()
