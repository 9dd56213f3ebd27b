"""The command line: ``memorag ask``, ``memorag plan``, ``memorag attach`` and ``memorag compact``.

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
from typing import Any

from memorag_core import Answer, Document, InputError, MemoRAG, MemoRAGError, __version__
from memorag_core.documents.chunking import check_text
from memorag_core.generation.explanation import Explanation, format_report
from memorag_core.memory.checkpoint_files import here_or_named
from memorag_core.memory.requests import check_question
from memorag_core.system.disk import taken


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status.

    Args:
        arguments: What follows the program's name; None takes it from the process.
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
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
    _add_ask(commands)
    _add_plan(commands)
    _add_attach(commands)
    _add_compact(commands)
    return parser


def _add_ask(commands: Any) -> None:
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
        "--ratio",
        type=_ratio,
        metavar="N",
        help="raw tokens to a memory slot, or 'adapt' (default: the model's own)",
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
    ask.add_argument(
        "--overwrite", action="store_true", help="let --save replace a memory with other documents"
    )
    ask.add_argument(
        "--explain",
        action="store_true",
        help="say what the memory was asked, what it said, what was dropped and why, instead of an answer",
    )
    ask.add_argument("--json", action="store_true", help="print JSON instead of a report")
    ask.add_argument("--no-progress", action="store_true", help="show no progress bar")
    ask.set_defaults(run=_ask)


def _add_plan(commands: Any) -> None:
    plan = commands.add_parser(
        "plan",
        help="say what a memory would take, before anything is read",
        description="Say for each ratio what memory a text would take, and what fits. No weights are loaded. "
        "The status is 2 if nothing fits.",
    )
    plan.add_argument(
        "model", nargs="?", metavar="MODEL", help="a checkpoint's name or folder (default: the bundled model)"
    )
    size = plan.add_mutually_exclusive_group(required=True)
    size.add_argument("--tokens", type=int, metavar="N", help="tokens of the text")
    size.add_argument("--file", metavar="FILE", help="the text itself, to have its tokens counted")
    plan.add_argument(
        "--device", default="auto", metavar="DEVICE", help="cpu, cuda, cuda:1, ... (default: auto)"
    )
    plan.add_argument(
        "--dtype", default="auto", metavar="DTYPE", help="float32, bfloat16 or float16 (default: auto)"
    )
    plan.add_argument("--quantize", choices=("int8", "int4"), help="projections in 8 or 4 bits")
    plan.add_argument(
        "--ratio", type=int, action="append", metavar="N", help="only this ratio; may be repeated"
    )
    plan.add_argument("--questions", type=int, default=1, metavar="N", help="asked at once (default: 1)")
    plan.add_argument(
        "--budget", metavar="SIZE", help="memory that there is, such as 16GB (default: what is free)"
    )
    plan.add_argument("--json", action="store_true", help="print JSON instead of a table")
    plan.set_defaults(run=_plan)


def _add_attach(commands: Any) -> None:
    attach = commands.add_parser(
        "attach",
        help="give a base model fresh beacons",
        description="Give a Qwen2, Qwen3, Mistral or Llama model fresh beacons, ready to be trained, and "
        "save it in the checkpoint format.",
    )
    attach.add_argument("base", metavar="BASE", help="a model's folder, or its name on the model hub")
    attach.add_argument("out", metavar="OUT", help="the folder to write: empty, or not there")
    attach.add_argument(
        "--window", type=int, default=2048, metavar="N", help="tokens of a window (default: %(default)s)"
    )
    attach.add_argument(
        "--ratios", type=int, nargs="+", default=[4, 8], metavar="N", help="to train, the default one first"
    )
    attach.add_argument(
        "--param", nargs="+", default=["q", "k", "v"], metavar="NAME", help="projections with a twin (q k v)"
    )
    attach.add_argument("--dtype", metavar="DTYPE", help="of the weights written (default: the base model's)")
    attach.set_defaults(run=_attach)


def _attach(options: argparse.Namespace) -> None:
    here_or_named(options.base)
    from memorag_core.memory.beacon import BeaconSettings  # here, for it loads torch and transformers
    from memorag_core.memory.beacon.initialize import attach_fresh

    settings = BeaconSettings(
        window=options.window, ratios=tuple(options.ratios), params=tuple(options.param)
    )
    done = attach_fresh(options.base, options.out, settings=settings, dtype=options.dtype)
    print(
        f"{done.folder}: {done.parameters:,} parameters and {done.beacon_parameters:,} of fresh beacons, "
        f"{str(done.dtype).removeprefix('torch.')}; they have learned nothing yet.",
        flush=True,
    )


def _ratio(given: str) -> int | str:
    return given if given == "adapt" else int(given)


def _add_compact(commands: Any) -> None:
    compact = commands.add_parser(
        "compact",
        help="fold the segments of a saved memory",
        description="Fold what was saved in pieces to one file for each part, and remove what nothing names.",
    )
    compact.add_argument("store", metavar="DIR", help="a saved folder, or an address (s3://bucket/name)")
    compact.add_argument(
        "--wait",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="for another writer (default: %(default)s)",
    )
    compact.set_defaults(run=_compact)


def _compact(options: argparse.Namespace) -> None:
    from memorag_core.store import compact

    compact(options.store, wait=options.wait)


def _plan(options: argparse.Namespace) -> None:
    document = None if options.file is None else _document(options.file)  # before torch is loaded
    if options.model is not None:
        here_or_named(options.model)
    if document is None and options.tokens < 1:
        raise InputError(f"tokens is {options.tokens}; expected 1 or more.")
    from memorag_core.memory.planning.planner import count_tokens, plan_memory

    tokens = count_tokens(options.model, document.text) if document is not None else options.tokens
    plan = plan_memory(
        options.model,
        tokens,
        device=options.device,
        ratios=options.ratio,
        dtype=options.dtype,
        quantize=options.quantize,
        budget=options.budget,
        questions=options.questions,
    )
    print(json.dumps(plan.to_json(), indent=2) if options.json else plan.report(), flush=True)
    plan.require()


def _ask(options: argparse.Namespace) -> None:
    check_question(options.question, ())
    if options.k is not None and options.k < 1:
        raise InputError(f"k is {options.k}; expected 1 or more, or no --k for the usual number.")
    memorag = _memorag(options)
    if options.explain:
        explanation = memorag.explain(options.question, k=options.k)
        print(_as_json(explanation) if options.json else explanation, flush=True)
    else:
        answer = memorag.answer(options.question, k=options.k)
        print(_as_json(answer) if options.json else format_report(answer), flush=True)


def _memorag(options: argparse.Namespace) -> MemoRAG:
    """The memory to ask; what the user can put right is said before a model is loaded."""
    from memorag_core.store import Writer, read_manifest

    progress = False if options.no_progress else None
    given, added = options.load is not None, options.file == "-" or not taken(options.file, "FILE").is_dir()
    if given and not added:
        raise InputError(
            f"'{options.file}' is a folder beside --load; expected a text file to add, or no --load."
        )
    document = _document(options.file) if added else None
    if options.model is not None:
        here_or_named(options.model)
    if given or not added:
        read_manifest(options.load if given else options.file)
    if options.save is not None:
        Writer(options.save).close()
    if given or not added:
        memorag = MemoRAG.load(
            options.load if given else options.file,
            options.model,
            ratio=options.ratio,
            device=options.device,
            progress=progress,
        )
    else:
        memorag = MemoRAG(options.model, ratio=options.ratio, device=options.device, progress=progress)
    if document is not None and document not in memorag.documents:
        memorag.memorize(document)
    if options.save is not None:
        memorag.save(options.save, overwrite=options.overwrite)
    return memorag


def _document(file: str) -> Document:
    """The text of a file, with something in it."""
    try:
        if file == "-":
            document = Document(sys.stdin.buffer.read().decode("utf-8-sig"), id="stdin")
        else:
            path = taken(file, "FILE")
            document = Document(path.read_bytes().decode("utf-8-sig"), id=Path(file).name)
    except FileNotFoundError as error:
        raise InputError(
            f"There is no file '{file}' (looked for '{path}'). Expected a text file in UTF-8, or '-' for "
            "standard input; memorag ask takes a saved folder too."
        ) from error
    except OSError as error:
        raise InputError(
            f"'{file}' cannot be read: {error.strerror or error}. Expected a text file in UTF-8 that you may "
            "read, or '-' for standard input."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"'{file}' is not text in UTF-8 (byte {error.start}); expected plain text. Convert it first, for "
            f"example with: iconv -f LATIN1 -t UTF-8, or extract the text of a PDF or an office document."
        ) from error
    check_text(document)
    return document


def _as_json(found: Answer | Explanation) -> str:
    return json.dumps(asdict(found), ensure_ascii=False, indent=2)
