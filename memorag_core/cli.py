"""The command line: ``memorag ask FILE "question"``.

In: arguments and a text. Out: a printed report or JSON, and an exit status: 0, or 2 for what the user can put
right, said in one line on stderr. Knows public names only.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from memorag_core import Answer, Document, InputError, MemoRAG, MemoRAGError, __version__
from memorag_core.report import format_report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status.

    Args:
        arguments: What follows the program's name; None takes it from the process.
    """
    options = _parser().parse_args(arguments)
    try:
        answer = _ask(options)
        print(_as_json(answer) if options.json else format_report(answer), flush=True)
    except (MemoRAGError, OSError) as error:
        print(f"memorag: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="memorag", description="Ask questions about a text that was memorized."
    )
    parser.add_argument("--version", action="version", version=f"memorag {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    ask = commands.add_parser(
        "ask",
        help="memorize a text and ask about it",
        description="Memorize a text, recall clues for a question, find the evidence, and print all of it.",
    )
    ask.add_argument(
        "file", metavar="FILE", help="a text file in UTF-8, '-' for standard input, or a saved folder"
    )
    ask.add_argument("question", metavar="QUESTION")
    ask.add_argument(
        "--model", metavar="NAME", help="a beacon checkpoint's name or folder (default: the bundled one)"
    )
    ask.add_argument(
        "--ratio", type=int, metavar="N", help="raw tokens to a memory slot (default: the model's own)"
    )
    ask.add_argument(
        "--device", default="auto", metavar="DEVICE", help="cpu, cuda, cuda:1, ... (default: auto)"
    )
    ask.add_argument(
        "--k", type=int, metavar="N", help="pieces of evidence (default: 4, or all of a short text)"
    )
    ask.add_argument("--load", metavar="DIR", help="a saved memory to start from; FILE is added if it is new")
    ask.add_argument(
        "--save", metavar="DIR", help="save the memory here; ask it again with: memorag ask DIR QUESTION"
    )
    ask.add_argument("--json", action="store_true", help="print JSON instead of a report")
    ask.add_argument("--no-progress", action="store_true", help="show no progress bar")
    return parser


def _ask(options: argparse.Namespace) -> Answer:
    progress = False if options.no_progress else None
    folder = Path(options.file)
    if options.load or folder.is_dir():
        if options.load and folder.is_dir():
            raise InputError(
                f"'{folder}' is a folder beside --load; expected a text file to add, or no --load."
            )
        memorag = MemoRAG.load(
            options.load or folder,
            options.model,
            ratio=options.ratio,
            device=options.device,
            progress=progress,
        )
    else:
        memorag = MemoRAG(options.model, ratio=options.ratio, device=options.device, progress=progress)
    if not folder.is_dir() and (document := _document(options.file)) not in memorag.documents:
        memorag.memorize(document)
    if options.save:
        memorag.save(options.save)
    return memorag.answer(options.question, k=options.k)


def _document(file: str) -> Document:
    try:
        if file == "-":
            return Document(sys.stdin.buffer.read().decode("utf-8-sig"), id="stdin")
        return Document(Path(file).read_bytes().decode("utf-8-sig"), id=Path(file).name)
    except UnicodeDecodeError as error:
        raise InputError(
            f"'{file}' is not text in UTF-8 (byte {error.start}); expected plain text. Convert it first, for "
            f"example with: iconv -f LATIN1 -t UTF-8, or extract the text of a PDF or an office document."
        ) from error


def _as_json(answer: Answer) -> str:
    return json.dumps(asdict(answer), ensure_ascii=False, indent=2)
