"""What encoders that run here have in common: loading, a device, batches, silence.

In: the name of a model, or a model of torch. Out: plain facts, and context managers around a call. Knows
neither FlagEmbedding nor sentence-transformers, nor what the vectors are for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from os import PathLike
from pathlib import PurePath
from typing import Any, TypeVar

from memorag_core.errors import InputError, MissingExtraError

T = TypeVar("T")


def loaded(
    model: object,
    package: str,
    extra: str,
    purpose: str,
    make: Callable[[Any, str], Any],
    *,
    batch_size: int,
    **options: object,
) -> Any:
    """A model by its name or folder, loaded without a bar; or the object given, as it is.

    Args:
        model: Name, folder or object.
        package: The library that loads it, by the name it is imported by.
        extra: What installs that library.
        purpose: What the model is for, for the error where the library is missing.
        make: Makes the model, of the library and the name.
        batch_size: Texts of one pass.
        options: How to load it, each None where that was left open; none of them is for an object.

    Raises:
        InputError: A batch size that is not a whole number of 1 or more, or an option beside an object.
        MissingExtraError: The library is not installed.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size is {batch_size!r}; give the texts of one pass as 1 or more.")
    if isinstance(model, str | PathLike):
        try:
            library = import_module(package)
        except ImportError as error:
            raise MissingExtraError(package.replace("_", "-"), extra, purpose, error) from error
        with _without_bars():
            return make(library, str(model))
    for name, value in options.items():
        if value is not None:
            raise InputError(
                f"The {name} {value!r} was given beside an object, which has been loaded already; "
                "give it where the object is made, or give the model's name or folder here."
            )
    return model


def best_device() -> str:
    """The first GPU where there is one, then Apple's, else the CPU: exactly one device."""
    import torch

    if torch.cuda.is_available():
        return "cuda:0"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def name_of(model: object) -> str:
    """The last part of a model's name or folder, so that a folder can be moved."""
    return PurePath(str(model)).name or str(model)


def has_members(value: object, *names: str) -> bool:
    """Whether an object, not a class, has all of these; so libraries are told apart without an import."""
    return not isinstance(value, type) and all(hasattr(value, name) for name in names)


def longest_first(texts: Sequence[str], batch_size: int, ask: Callable[[list[str]], Iterable[T]]) -> list[T]:
    """What ``ask`` gives for each text, in the order of the texts.

    Texts of about one length share a batch, so that little of it is padding.
    """
    order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
    found: dict[int, T] = {}
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        found |= zip(places, ask([texts[place] for place in places]), strict=True)
    return [found[place] for place in range(len(texts))]


@contextmanager
def _without_bars() -> Iterator[None]:
    """Hold back the bars that transformers shows while it loads weights, and let them be as they were."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


class _ForwardError(Exception):
    """Carries what a model raised past a caller that would take it for a lack of memory."""

    def __init__(self, cause: RuntimeError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@contextmanager
def guarded(module: Any) -> Iterator[None]:
    """Let a module say what went wrong, and not compute twice in a row what it has just computed.

    FlagEmbedding tries the first batch to find a batch size that fits: it takes every RuntimeError for a lack
    of memory, shrinks the batch to nothing and fails far from the cause; and where the trial succeeds, it
    throws the result away. Inside this context only a real lack of memory, with more than one text in the
    batch, reaches it as a RuntimeError; everything else is raised here as it was in the module.
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
            raise _ForwardError(error) from error
        except RuntimeError as error:
            raise _ForwardError(error) from error
        last.append((inputs, outputs))
        return outputs

    module.forward = forward
    try:
        yield
    except _ForwardError as error:
        raise error.cause from None
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
