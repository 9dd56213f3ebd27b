"""What several commands have: options, the model they measure, worlds drawn for it, and printing.

In: a parser, or parsed options. Out: options added to it, a model, worlds. Knows no measure.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias

from memorag_core.errors import InputError
from memorag_core.memory.beacon import BeaconModel
from memorag_core.memory.bundled import bundled_path
from memorag_core.system.disk import taken
from memorag_core.types import ClueKind
from memorag_evaluation.worlds import AskedWorld, draw_worlds
from memorag_training.worlds import Split

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What a command adds itself to."""

Run: TypeAlias = Callable[[argparse.Namespace], dict[str, Any]]
"""A command: options in, its record out, with the "device" that it computed on."""

KINDS: tuple[ClueKind, ...] = ("span", "query", "answer")
KIND_FIELDS = {"fairytaleqa": "explicit", "loogle_sample": "dependency"}
"""The field of a set's questions that says what sort of question it is."""


def common(parser: argparse.ArgumentParser, run: Run) -> None:
    """The options of every command, and what it runs."""
    parser.set_defaults(run=run)
    parser.add_argument("--model", default=bundled_path(), help="a checkpoint (default: the bundled model)")
    parser.add_argument("--data", type=Path, help="folder with prose/ and the sets")
    parser.add_argument("--out", type=taken, metavar="FILE", help="JSON record")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, help="of torch (default: torch's own)")


def lengths(parser: argparse.ArgumentParser, *, documents: int) -> None:
    """The options of commands that measure at growing lengths."""
    parser.add_argument("--ratios", type=int, nargs="+", default=[4, 8])
    parser.add_argument(
        "--contexts", type=int, nargs="+", default=[256, 512, 1024, 2048, 4096], help="tokens"
    )
    parser.add_argument("--documents", type=int, default=documents, help="of each length (%(default)s)")


def capacity(text: str) -> int | Literal["auto"] | None:
    """Tokens of a part as an option says them."""
    if text in ("auto", "none"):
        return "auto" if text == "auto" else None
    return int(text)


def load_model(
    options: argparse.Namespace, ratio: int | None, *, capacity: int | Literal["auto"] | None
) -> BeaconModel:
    """The model that is measured; None as the ratio takes its own."""
    return BeaconModel.from_pretrained(
        options.model, ratio=ratio, device=options.device, dtype=options.dtype, capacity=capacity
    )


def draw(
    model: BeaconModel, options: argparse.Namespace, tokens: int, split: Split, *, count: int | None = None
) -> tuple[AskedWorld, ...]:
    """Worlds of so many of the model's tokens."""
    if model.tokens is None:
        raise InputError(f"'{options.model}' has no tokenizer; put tokenizer.json into its folder.")
    encode = model.tokens.encode_text
    return draw_worlds(
        lambda text: len(encode(text)),
        count=count if count is not None else options.documents,
        tokens=tokens,
        split=split,
        seed=options.seed,
        per_kind=options.questions,
    )


def show(text: str) -> None:
    """Print at once, also into a file."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
