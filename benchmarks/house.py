"""How easy the house is to find one's way in, counted: files, lines, rooms, and what one question passes.

    python benchmarks/house.py                      this checkout
    python benchmarks/house.py --root OTHER         another checkout of the project, an older one too
    python benchmarks/house.py --json house.json

What is counted is what ships: the packages that pyproject.toml names for the wheel. One question is one
``invoke`` of LangChain's retriever over a short text with the bundled model, the first of its process.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import textwrap
import time
import tomllib
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

BLOCK = 6
"""Lines of code, without blank ones and comments, that make a block; it is a duplicate if it stands twice."""

QUESTION = """
    import json, sys
    from pathlib import Path

    root = str(Path(sys.argv[1]).resolve()) + "/"
    from langchain_memorag import MemoRAGRetriever

    text = (Path(root) / "examples" / "parish.txt").read_text(encoding="utf-8")
    retriever = MemoRAGRetriever.from_texts([text], k=1)
    from memorag_core import EvidenceIndex

    searches = 0
    search = EvidenceIndex.retrieve_batch

    def counted(*args, **kwargs):
        global searches
        searches += 1
        return search(*args, **kwargs)

    EvidenceIndex.retrieve_batch = counted
    ours = tuple(root + name + "/" for name in sys.argv[2:])
    files, functions, deepest = set(), set(), 0

    def watch(frame, event, _):
        global deepest
        if event != "call" or not frame.f_code.co_filename.startswith(ours):
            return
        files.add(frame.f_code.co_filename)
        functions.add(frame.f_code)
        depth, one = 0, frame
        while one is not None:
            depth += one.f_code.co_filename.startswith(ours)
            one = one.f_back
        deepest = max(deepest, depth)

    import threading

    threading.setprofile(watch)
    sys.setprofile(watch)
    retriever.invoke("Whom should I ask about a leaking roof?")
    sys.setprofile(None)
    print(json.dumps([len(files), len(functions), deepest, searches]))
"""


def shipped(root: Path) -> list[Path]:
    """The source files of the wheel."""
    with (root / "pyproject.toml").open("rb") as file:
        packages = tomllib.load(file)["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    return sorted(path for package in packages for path in (root / package).rglob("*.py"))


def public_names(root: Path, package: str) -> int:
    """The names in a package's ``__all__``."""
    for node in ast.parse((root / package / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return len(ast.literal_eval(node.value))
    return 0


def duplicated(files: list[Path]) -> int:
    """Lines that stand in a block of which another place has the same, names and numbers included."""
    places: dict[tuple[str, ...], list[tuple[Path, int]]] = defaultdict(list)
    for file in files:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        code = [line for line in lines if line and not line.startswith(("#", "from ", "import ", '"'))]
        for start in range(len(code) - BLOCK + 1):
            places[tuple(code[start : start + BLOCK])].append((file, start))
    return len(
        {
            (file, start + line)
            for found in places.values()
            if len(found) > 1
            for file, start in found
            for line in range(BLOCK)
        }
    )


def environment(root: Path) -> dict[str, str]:
    """Of a process that runs the checkout's own code."""
    return {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}


def question(root: Path, packages: list[str]) -> list[int]:
    """Files, functions and the deepest stack of ours that one question passes, and its searches."""
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(QUESTION), str(root), *packages],
        env=environment(root),
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    counts: list[int] = json.loads(run.stdout.splitlines()[-1])
    return counts


def import_seconds(root: Path, statement: str, repeats: int) -> float:
    """The median of a fresh interpreter's time for an import, less that of an empty one."""
    times: dict[str, list[float]] = {statement: [], "pass": []}
    for _ in range(repeats):
        for program, taken in times.items():
            begun = time.perf_counter()
            subprocess.run([sys.executable, "-c", program], env=environment(root), cwd=root, check=True)
            taken.append(time.perf_counter() - begun)
    return median(times[statement]) - median(times["pass"])


def measured(root: Path, repeats: int) -> dict[str, Any]:
    """All counts of a checkout."""
    files = shipped(root)
    lines = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    packages = sorted({file.relative_to(root).parts[0] for file in files})
    largest = max(files, key=lines.__getitem__)
    passed, functions, stack, searches = question(root, packages)
    return {
        "files": len(files),
        "lines": sum(lines.values()),
        "entries at the root of memorag_core": len(
            [one for one in (root / "memorag_core").iterdir() if one.name != "__pycache__"]
        ),
        "largest file": [str(largest.relative_to(root)), lines[largest]],
        "public names": {package: public_names(root, package) for package in packages},
        "lines in duplicated blocks": duplicated(files),
        "one question: files": passed,
        "one question: functions": functions,
        "one question: deepest stack": stack,
        "one question: searches": searches,
        "seconds to import langchain_memorag": round(
            import_seconds(root, "import langchain_memorag", repeats), 3
        ),
        "of them langchain_core.retrievers": round(
            import_seconds(root, "import langchain_core.retrievers", repeats), 3
        ),
    }


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--repeats", type=int, default=5, help="of each import")
    parser.add_argument("--json", type=Path, help="write the counts here too")
    args = parser.parse_args()
    counts = measured(args.root.resolve(), args.repeats)
    for name, value in counts.items():
        print(f"{name:40} {value}")
    if args.json:
        args.json.write_text(json.dumps(counts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
