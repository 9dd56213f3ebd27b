"""``python -m memorag_evaluation recall|worlds|evidence|retrieval``: measure, and write down how.

In: arguments. Out: a table, a JSON record beside it, and an exit status as the command line's. Knows which
commands there are, and no more.

``recall`` asks for spans of held-out prose, ``worlds`` for the evidence of generated worlds, both of one
memory at growing lengths; ``evidence`` measures what clues find, on worlds and on real texts, and
``evidence --tune`` tries fusions on texts that are not reported; ``retrieval`` compares ways to search.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import torch

from memorag_core.errors import MemoRAGError
from memorag_core.memory.bundled import bundled_path
from memorag_evaluation.commands import evidence, recall, retrieval
from memorag_evaluation.record import circumstances, write_record


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns the exit status.

    Args:
        arguments: What follows the module's name; None takes it from the process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    try:
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        started = time.perf_counter()
        record = options.run(options)
        command = ["python", "-m", "memorag_evaluation", *given]
        told = {
            "circumstances": circumstances(command, device=record.pop("device"), seed=options.seed),
            "seconds": round(time.perf_counter() - started, 1),
            "model": "bundled" if options.model == bundled_path() else str(options.model),
            **record,
        }
        if options.out is not None:
            write_record(options.out, told)
        about = told["circumstances"]
        sys.stdout.write(
            f"\n{about['date']}, {about['processor']}, {about['device']}, {about['threads']} threads, "
            f"{told['seconds']:.0f} s\n"
        )
    except (MemoRAGError, OSError) as error:
        sys.stderr.write(f"evaluation: {' '.join(str(error).split())}\n")
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m memorag_evaluation", description=__doc__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (recall, evidence, retrieval):
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
