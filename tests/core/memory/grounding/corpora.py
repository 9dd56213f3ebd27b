"""Texts in many scripts, tokenizers trained on them, and the rules for lines once more, slowly."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import regex
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from memorag_core import Document
from memorag_core.memory.grounding import Vocabulary
from memorag_core.memory.tokenizer import Tokens

BITS = (
    *"a b c the The king's won't 3 3.5 1,000 U.S. well-known snow_ball".split(),
    *"- . , ' ’ ! ( “ ” \" é e\u0301 \u0301".split(),
    *(" ", " ", " ", " ", "  ", "\n", "\r\n", "\n\n", "\t", "\u00a0", "\u3000", "\u2028", "\x1c", "\x85"),
    *"Привет мир й и\u0306 ё".split(),
    *"中 文字 。 ， 《 」 の カ ー ガ カ\u3099 ﾞ 3月".split(),
    *"สวัสดี กำ น้ำ ไทย ລາວ".split(),
    *"سلام ال ـ \u064b مي\u200cخواهم \u0600 שלום".split(),
    *"क्ष हिन्दी \u094d க் 한국 ᄒ ᅡ ᆫ".split(),
    *(
        "😀",
        "👩\u200d👩\u200d👧",
        "👍🏽",
        "🇩🇪",
        "🇫",
        "❤\ufe0f",
        "1\ufe0f\u20e3",
        "\u200d",
        "\u200b",
        "\u00ad",
        "\ufeff",
    ),
)
"""What random texts are made of: words, white space, clusters, and halves of all these."""

texts = st.lists(st.sampled_from(BITS), max_size=24).map("".join)
corpora = st.lists(texts, min_size=1, max_size=4).map(
    lambda found: [Document(text, str(number)) for number, text in enumerate(found)]
)

KINDS = ("byte-level", "unigram", "unigram without bytes", "llama")


@cache
def trained(kind: str, seed: int) -> Tokens:
    """A small tokenizer of a kind, trained on random text."""
    draw = random.Random(seed)
    text = ["".join(draw.choice((*BITS, " ", "\n")) for _ in range(60)) for _ in range(40)]
    tokenizer = _bare(kind)
    special = ["<end>", "<line>"]
    trainer: Any
    if kind == "byte-level":
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=special, initial_alphabet=alphabet)
    elif kind.startswith("unigram"):
        special += ["<unk>"] if kind == "unigram without bytes" else ["<unk>", *_bytes()]
        # Without bytes some signs have no entry at all.
        trainer = trainers.UnigramTrainer(
            vocab_size=len(special) + 150, special_tokens=special, unk_token="<unk>"
        )
    else:
        trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=[*special, "<unk>", *_bytes()])
    tokenizer.train_from_iterator(text, trainer)
    return wrapped(tokenizer, special=special)


def wrapped(tokenizer: Tokenizer, *, special: Sequence[str] = (), line_token: str | None = None) -> Tokens:
    """A tokenizer as models have it; bytes are entries and no special tokens."""
    plain = json.loads(tokenizer.to_str())
    plain["added_tokens"] = [
        token for token in plain["added_tokens"] if not token["content"].startswith("<0x")
    ]
    fast = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(plain)), eos_token="<end>")
    return Tokens(fast, line_token=line_token)


def vocabulary_of(entries: Sequence[str]) -> Vocabulary:
    """The vocabulary of so many words; ▁ is a space, <end> is special."""
    vocab: dict[str, int] = {entry: number for number, entry in enumerate(entries)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<end>"))
    tokenizer.add_special_tokens(["<end>"])
    tokenizer.decoder = decoders.Metaspace()
    return Vocabulary.of(wrapped(tokenizer))


def _bare(kind: str) -> Tokenizer:
    if kind == "byte-level":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        return tokenizer
    if kind == "unigram":
        tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0)], unk_id=0, byte_fallback=True))
    elif kind == "unigram without bytes":
        tokenizer = Tokenizer(models.Unigram())
    else:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(?=▁)"), "isolated")
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        return tokenizer
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = (
        decoders.Metaspace()
        if kind == "unigram without bytes"
        else decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    )
    return tokenizer


def _bytes() -> list[str]:
    return [f"<0x{byte:02X}>" for byte in range(256)]


# --- the rules, once more -----------------------------------------------------------------------------------

_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_IN_WORD = rf"[[\p{{L}}\p{{M}}\p{{N}}\u00ad\u200c\u200d]--{_UNSPACED}]"
_INSIDE = regex.compile(
    rf"(?<={_IN_WORD})(?={_IN_WORD})"
    rf"|(?<={_IN_WORD})(?=['’]{_IN_WORD})|(?<={_IN_WORD}['’])(?={_IN_WORD})"
    r"|(?<=\p{Nd})(?=[.,]\p{Nd})|(?<=\p{Nd}[.,])(?=\p{Nd})",
    regex.V1,
)
_BEGINS = regex.compile(r"(?<= )\S|[\p{L}\p{M}\p{N}\p{Ps}\p{Pi}]")


def borders(text: str) -> tuple[list[int], list[int]]:
    """The places of an evened text at which lines may begin, and at which they may end."""
    blank = f" {text} "
    free = {found.start() for found in regex.finditer(r"\X", blank)}
    free -= {found.start() for found in _INSIDE.finditer(blank)}
    starts = [at - 1 for at in sorted(free) if at > 0 and blank[at] != " " and _BEGINS.match(blank, at)]
    ends = [at - 1 for at in sorted(free) if at > 0 and blank[at - 1] != " "]
    return starts, ends


def evened(text: str) -> str:
    return " ".join(text.split())


def spans(text: str) -> Iterator[tuple[int, int, str]]:
    """All lines that stand in a text, in reading order: where in the evened text, and what."""
    text = evened(text)
    starts, ends = borders(text)
    for start in starts:
        for end in ends:
            if end > start:
                yield start, end, text[start:end]


def in_text(text: str, at: int) -> int:
    """The character of a text behind so many characters of the evened one."""
    place = len(text) - len(text.lstrip())
    for _ in range(at):
        space = text[place].isspace()
        place += 1
        while space and text[place].isspace():
            place += 1
    return place
