"""What encoders that run here have in common: a device, how much they read, silence.

In: a model of torch and its tokenizer. Out: plain facts about them, and two context managers. Knows neither
FlagEmbedding nor sentence-transformers, nor what the vectors are for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any

from memorag_core.errors import InputError

_EXPANSION = 16
"""Bytes of a normal form for each byte of a character but the first; all of Unicode keeps to it."""

_NO_LIMIT = 10**9
"""Tokenizers without a length say 10^30, static models infinity; nothing that reads has so many positions."""


class ForwardError(Exception):
    """Carries what a model raised past a caller that would take it for a lack of memory."""

    def __init__(self, cause: RuntimeError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def best_device() -> str:
    """The first GPU where there is one, then Apple's, else the CPU: exactly one device."""
    import torch

    if torch.cuda.is_available():
        return "cuda:0"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def name_of(model: object) -> str:
    """The last part of a model's name or folder, so that a folder can be moved."""
    return PurePath(str(model)).name or str(model)


def read_limit(model: Any, tokenizer: Any, *, wanted: int | None) -> int | None:
    """The most tokens of a text that an encoder reads, special ones included; None for no limit.

    Args:
        model: A module of torch. Its learned positions count, less those that RoBERTa keeps for padding;
            without any, what its configuration says; and its ``max_seq_length``, if it has one.
        tokenizer: Its tokenizer, whose own limit counts too, if it has one.
        wanted: A lower limit that was asked for, or None.

    Raises:
        InputError: ``wanted`` is below 1, no whole number, or more than the model reads.
    """
    own = (getattr(model, "max_seq_length", None), getattr(tokenizer, "model_max_length", None))
    limits = [_positions(model), *own]
    known = [int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit < _NO_LIMIT]
    most = min(known, default=None)
    if wanted is None:
        return most
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
        raise InputError(f"max_tokens is {wanted!r}; expected a whole number of 1 or more, or None for all.")
    if most is not None and wanted > most:
        raise InputError(
            f"max_tokens is {wanted}, but the model reads {most} tokens at most: give that or less, or None."
        )
    return wanted


def _positions(model: Any) -> int | None:
    for module in model.modules():
        table = getattr(module, "position_embeddings", None)
        count = getattr(table, "num_embeddings", None)
        if isinstance(count, int):
            padding = getattr(module, "padding_idx", None)  # RoBERTa counts positions from behind it
            return count - (padding + 1 if isinstance(padding, int) else 0)
    said = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    return said if isinstance(said, int) else None


def count_tokens(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """The tokens of each text with the special tokens that the encoder adds, nothing cut off.

    Args:
        tokenizer: One of transformers, or a bare ``tokenizers.Tokenizer`` as static models have.
        texts: At least one.
    """
    if callable(tokenizer):
        asked = {"return_attention_mask": False, "return_token_type_ids": False, "verbose": False}
        found = tokenizer(list(texts), truncation=False, padding=False, **asked)["input_ids"]
        return [len(ids) for ids in found]
    return [len(found.ids) for found in tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def most_tokens(text: str) -> int:
    """More tokens than any tokenizer makes of a text, special ones aside; found without one.

    A token stands for a byte or more of the text in a normal form; and where beginnings of words are marked,
    a mark may be a token. ASCII is its own normal form. Of other characters the normal forms, in lower case,
    have at most 16 bytes for each byte but the first ("\ufdfa" has 3 and becomes 33).
    """
    return 2 * (len(text) + _EXPANSION * (len(text.encode()) - len(text))) + 2


def check_batch_size(batch_size: int) -> None:
    """Refuse a batch size that is not a whole number of 1 or more.

    Raises:
        InputError: It is not.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size is {batch_size!r}; give the texts of one pass as 1 or more.")


@contextmanager
def without_bars() -> Iterator[None]:
    """Hold back the bars that transformers shows while it loads weights, and let them be as they were."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def guarded(module: Any) -> Iterator[None]:
    """Let a module say what went wrong, and not compute twice in a row what it has just computed.

    FlagEmbedding tries the first batch to find a batch size that fits: it takes every RuntimeError for a lack
    of memory, shrinks the batch to nothing and fails far from the cause; and where the trial succeeds, it
    throws the result away. Inside this context only a real lack of memory, with more than one text in the
    batch, reaches it as a RuntimeError; everything else comes out as ``ForwardError``.
    """
    import torch

    before = vars(module).get("forward")
    compute = module.forward
    last: list[tuple[dict[str, Any], Any]] = []

    def forward(*args: Any, **kwargs: Any) -> Any:
        inputs = _named(args, kwargs)
        if last and _equal(last[0][0], inputs):
            return last[0][1]
        last.clear()  # its memory may be what this batch needs
        try:
            outputs = compute(*args, **kwargs)
        except torch.cuda.OutOfMemoryError as error:
            ids = inputs.get("input_ids")
            if ids is None or len(ids) > 1:
                raise
            error.add_note(f"A single text of {ids.shape[-1]} tokens does not fit: lower max_tokens.")
            raise ForwardError(error) from error
        except RuntimeError as error:
            raise ForwardError(error) from error
        last.append((inputs, outputs))
        return outputs

    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before


def _named(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a forward call by name; features may come in one mapping. None is as if absent."""
    found: dict[str, Any] = {}
    for number, one in enumerate((*args, kwargs)):
        found |= dict(one) if isinstance(one, Mapping) else {str(number): one}
    return {name: value for name, value in found.items() if value is not None}


def _equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    import torch

    if one.keys() != other.keys():
        return False
    for name, value in one.items():
        if isinstance(value, torch.Tensor):
            if not isinstance(other[name], torch.Tensor) or not torch.equal(value, other[name]):
                return False
        elif value is not other[name] and value != other[name]:
            return False
    return True


def has_members(value: object, *names: str) -> bool:
    """Whether an object, not a class, has all of these; so libraries are told apart without an import."""
    return not isinstance(value, type) and all(hasattr(value, name) for name in names)
