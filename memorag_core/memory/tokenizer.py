"""Text to token ids and back: documents, requests and replies, in a model's own format.

In: a transformers tokenizer, texts, prompt sets. Out: token ids, texts. Knows no model and no memory.

What users write is tokenized as text: a special token spelled out in a document or a question stays a string
of characters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from memorag_core.errors import CheckpointError, InputError
from memorag_core.memory.tokenized_text import MARKED, DocumentSpan
from memorag_core.prompts import PromptSet
from memorag_core.types import ClueKind

PIECE = 100_000
"""Characters that are tokenized at once: an encoding holds much more than the ids."""

SEPARATOR = "\n\n"
"""What stands between two documents."""

_GAP = " ... "  # stands for what is left out of a question
_LONG_TOKEN = 16  # characters; few tokens are longer

# Stand-ins for text in a rendered conversation; no prompt holds them.
_CONTEXT, _QUESTION = "memorag-context-5ec0a1", "memorag-question-5ec0a1"

_TOKENIZER_FILES = ("tokenizer_config.json", "vocab.json", "tokenizer.model", "spiece.model")


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """A tokenizer as memorizing and asking use it; shared freely between threads.

    Attributes:
        tokenizer: the tokenizer as transformers loads it; used for its names and its chat template.
        line_token: see ``memorag_core.memory.beacon.usage.Usage``.
        none_token: likewise.
    """

    tokenizer: Any
    line_token: str | None = None
    none_token: str | None = None
    _parsing: Tokenizer = field(init=False, repr=False)  # special tokens are special
    _plain: Tokenizer = field(init=False, repr=False)  # special tokens are text
    _special: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise CheckpointError(
                f"The tokenizer is a {type(self.tokenizer).__name__}; expected one with a tokenizer.json. "
                "Save it in that form with transformers: "
                "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)."
            )
        parsing, plain = (_copy(backend) for _ in range(2))
        plain.encode_special_tokens = True
        special = tuple(
            token.content for token in parsing.get_added_tokens_decoder().values() if token.special
        )
        for name in ("line_token", "none_token"):
            token = getattr(self, name)
            if token is not None and parsing.token_to_id(token) is None:
                raise CheckpointError(
                    f"memorag-usage.json (or memorag.json) names the {name} {token!r}, which the tokenizer "
                    "does not know. Name one of its tokens, or none."
                )
        for name, value in (("_parsing", parsing), ("_plain", plain), ("_special", special)):
            object.__setattr__(self, name, value)

    @classmethod
    def load(
        cls, folder: Path, *, line_token: str | None = None, none_token: str | None = None
    ) -> Tokens | None:
        """The tokenizer of a checkpoint's folder, or None where it has none."""
        kind: Any
        if (folder / "tokenizer.json").is_file():
            kind = PreTrainedTokenizerFast  # exactly what the file says
        elif any((folder / name).is_file() for name in _TOKENIZER_FILES):
            kind = AutoTokenizer
        else:
            return None
        try:
            tokenizer = kind.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        except Exception as error:  # a damaged file fails anywhere in transformers, in any way
            raise CheckpointError(
                f"The tokenizer in '{folder}' cannot be loaded: {error}. Expected tokenizer.json and "
                "tokenizer_config.json as transformers saves them."
            ) from error
        return cls(tokenizer, line_token, none_token)

    @property
    def fingerprint(self) -> str:
        """The tokenizer as one string, whatever file it came from."""
        return self._parsing.to_str()

    @property
    def backend(self) -> Tokenizer:
        """The tokenizer itself, to be looked at and never changed."""
        return self._parsing

    @property
    def pad_id(self) -> int | None:
        """The id that fills windows."""
        return cast("int | None", self.tokenizer.pad_token_id)

    @property
    def end_id(self) -> int | None:
        """The id that ends a reply."""
        return cast("int | None", self.tokenizer.eos_token_id)

    @property
    def none_id(self) -> int | None:
        """The id that says that nothing is remembered."""
        return self._parsing.token_to_id(self.none_token) if self.none_token is not None else None

    def encode_text(self, text: str) -> npt.NDArray[np.int64]:
        """Text as ids, [T]; special tokens in it are text. Long texts go piece by piece."""
        pieces = [
            np.asarray(encoding.ids, dtype=np.int64)
            for encoding in self._plain.encode_batch_fast(list(_pieces(text)), add_special_tokens=False)
        ]
        return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int64)

    def encode_documents(
        self, texts: Sequence[str], *, before: int, opening: int, fill: int | None
    ) -> tuple[npt.NDArray[np.int64], tuple[DocumentSpan, ...]]:
        """Documents as the ids that continue a stream, [T], and where each of them stands in it.

        Args:
            texts: one or more.
            before: tokens in the stream so far, its opening included.
            opening: tokens of the opening.
            fill: fill the stream up to a multiple of this many tokens behind each document; None to put white
                space between documents instead.

        Raises:
            InputError: a text that has no tokens.
        """
        pieces: list[npt.NDArray[np.int64]] = []
        spans: list[DocumentSpan] = []
        length = before
        between = self.encode_text(SEPARATOR)
        for text in texts:
            encoded, marks = self._encode_marked(text)
            if not len(encoded):
                raise InputError(
                    f"The tokenizer makes no tokens of the text {text[:40]!r}. Give a text with words."
                )
            if fill is None and length > opening:
                pieces.append(between)
                length += len(between)
            start = length - opening
            pieces.append(encoded)
            length += len(encoded)
            if fill is not None:
                pieces.append(np.full(-length % fill, self.pad_id, dtype=np.int64))
                length += len(pieces[-1])
            spans.append(DocumentSpan(start, length - opening, marks))
        return np.concatenate(pieces), tuple(spans)

    def encode_opening(self, prompts: PromptSet) -> list[int]:
        """What stands before the context: the ids that begin the stream."""
        if self._talks(prompts):
            return self._encode(self._conversation(prompts, _QUESTION)[0])
        return self._leading() + self._encode(prompts.context_parts("").before)

    def encode_request(self, prompts: PromptSet, kind: ClueKind, question: str) -> list[int]:
        """What stands behind the context: its end, and the request for one kind of clue.

        Raises:
            InputError: the prompt set has no request of this kind.
        """
        parts = prompts.parts(kind, question)
        before, after = parts.before, parts.after
        if self._talks(prompts):
            _, between, after = self._conversation(prompts, before + _QUESTION + after)
            before = between
        else:
            before = prompts.context_parts("").after + prompts.reply + before
        if not any(token in parts.filled for token in self._special):
            return self._encode(before + parts.filled + after)
        filled = self._plain.encode(parts.filled, add_special_tokens=False).ids
        return [*self._encode(before), *filled, *self._encode(after)]

    def ends_of(self, text: str, most: int) -> str:
        """A text of no more than so many tokens: the text, or its beginning and, twice as long, its end.

        What is asked stands at the end or at the beginning of a long question, and its material between.
        """
        if len(text.encode("utf-8", "surrogatepass")) <= most or len(self.encode_text(text)) <= most:
            return text
        text = text.strip()
        near = most * _LONG_TOKEN
        before = self._plain.encode(text[:near], add_special_tokens=False).offsets
        after = self._plain.encode(text[-near:], add_special_tokens=False).offsets
        shift = max(0, len(text) - near)
        kept = most
        while True:
            head = kept // 3
            first = text[: before[:head][-1][1]] if head and before else ""
            last = text[shift + after[head - kept :][0][0] :] if after else ""
            ends = _to_word_end(first) + _GAP + _from_word(last)
            over = len(self.encode_text(ends)) - most
            if over <= 0 or kept == 1:
                return ends
            kept = max(1, kept - over)

    def decode(self, ids: Sequence[int]) -> str:
        """A reply as text; nothing when it says that nothing is remembered."""
        line = self._parsing.token_to_id(self.line_token) if self.line_token is not None else None
        none = self.none_id
        lines: list[list[int]] = [[]]
        for token in ids:
            if token == line:
                lines.append([])
            elif token != none:
                lines[-1].append(token)
        texts = (self._parsing.decode(line_ids, skip_special_tokens=True) for line_ids in lines)
        return "\n".join(text.strip() for text in texts).strip()

    def breaks_line(self, token: int) -> bool:
        """Whether a token of a reply ends a line of it."""
        name = self._parsing.id_to_token(token)
        return name is not None and (name == self.line_token or "\n" in self._parsing.decode([token]))

    def _encode_marked(self, text: str) -> tuple[npt.NDArray[np.int64], tuple[int, ...]]:
        """Text as ids, and the characters at which every so many of them begin."""
        pieces = list(_pieces(text))
        ids: list[npt.NDArray[np.int64]] = []
        marks: list[int] = []
        tokens = start = 0
        for piece, encoding in zip(
            pieces, self._plain.encode_batch(pieces, add_special_tokens=False), strict=True
        ):
            ids.append(np.asarray(encoding.ids, dtype=np.int64))
            marks += [
                start + (encoding.token_to_chars(token) or (0, 0))[0]
                for token in range(-tokens % MARKED, len(ids[-1]), MARKED)
            ]
            tokens += len(ids[-1])
            start += len(piece)
        if marks:
            marks[0] = 0  # white space that the tokenizer drops belongs to the first token
        # Offsets of normalized text can step back by a character; spans are looked up by bisection.
        return np.concatenate(ids) if ids else np.zeros(0, dtype=np.int64), tuple(accumulate(marks, max))

    def _encode(self, text: str) -> list[int]:
        return list(self._parsing.encode(text, add_special_tokens=False).ids)

    def _leading(self) -> list[int]:
        """The ids that the tokenizer puts before any text (bos, where it has one)."""
        probe = self._parsing.encode("a", add_special_tokens=True)
        special = probe.special_tokens_mask
        return list(probe.ids[: special.index(0)]) if 0 in special else []

    def _talks(self, prompts: PromptSet) -> bool:
        # A base model without a chat template is asked in plain text.
        return prompts.chat and bool(self.tokenizer.chat_template)

    def _conversation(self, prompts: PromptSet, request: str) -> tuple[str, str, str]:
        """The rendered conversation before the context, between context and question, and after it."""
        turns = [
            {"role": "user", "content": prompts.context_parts(_CONTEXT).text},
            {"role": "assistant", "content": prompts.reply},
            {"role": "user", "content": request},
        ]
        rendered = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        opening, _, rest = cast(str, rendered).partition(_CONTEXT)
        between, found, after = rest.partition(_QUESTION)
        if not found:
            raise CheckpointError(
                "The tokenizer's chat template does not render the turns of a conversation (user, "
                "assistant, user) in order. Give memorag-usage.json prompts with 'chat': false."
            )
        return opening, between, after


def _copy(backend: Tokenizer) -> Tokenizer:
    """A tokenizer of our own, so that nobody's settings (truncation, padding) change it under our threads."""
    copy = Tokenizer.from_str(backend.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


def _to_word_end(text: str) -> str:
    """A beginning without the word that is cut off at its end; as it is, where that would take half of it."""
    end = text.rfind(" ")
    return text[:end] if end > len(text) // 2 else text


def _from_word(text: str) -> str:
    """An end without the word that is cut off at its beginning, likewise."""
    start = text.find(" ")
    return text[start + 1 :] if 0 <= start < len(text) // 2 else text


def _pieces(text: str) -> Iterator[str]:
    """Cut a text before a space between two words, where tokenizers cut as well; anywhere if it has none."""
    start = 0
    while len(text) - start > PIECE:
        cut = start + PIECE
        for at in range(cut, start + PIECE // 2, -1):
            if text[at] == " " and text[at - 1].isalnum() and text[at + 1].isalnum():
                cut = at
                break
        yield text[start:cut]
        start = cut
    if start < len(text):
        yield text[start:]
