"""What the pages name is there: files, links, modules, commands of the Makefile; and the README is short."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for path in (
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "examples").glob("*.md"),
        *(ROOT / "benchmarks").glob("*.md"),
        ROOT / "memorag_core" / "memory" / "bundled" / "README.md",
    )
)
BASES = ["", *(f"memorag_core{room}" for room in ("", "/memory", "/memory/beacon", "/retrieval"))]
BASES += ["memorag_training", "langchain_memorag", "llama_index_memorag", "examples"]

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def named(page: Path, pattern: str) -> Iterator[str]:
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(pattern, re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)):
        yield found[1]


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in named(page, r"\]\(([^)#\s]+)") if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


@every_page
def test_files_that_are_named_are_there(page: Path) -> None:
    files = set(named(page, r"`(?:python )?([\w/.]+\.py)\b"))
    assert [file for file in files if not any((ROOT / base / file).is_file() for base in BASES)] == []


@every_page
def test_names_of_the_packages_that_are_named_open(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        return  # it names what is gone
    wrong = []
    for name in set(named(page, r"\b((?:memorag_\w+|\w+_memorag)(?:\.\w+)+)")):
        if name.endswith(".json"):
            continue
        module, _, attribute = name.rpartition(".")
        try:
            if not hasattr(importlib.import_module(module), attribute):
                importlib.import_module(name)
        except ImportError:
            wrong.append(name)
    assert wrong == []


@every_page
def test_targets_of_make_that_are_named_are_there(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(named(page, r"`make ([a-z-]+)")) <= targets


def test_the_readme_is_read_in_one_go() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_ci_calls_the_test_command_of_the_readme() -> None:
    (command,) = re.findall(r"`(make test)` runs the tests", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_every_benchmark_is_in_the_table() -> None:
    table = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    scripts = [path for path in (ROOT / "benchmarks").glob("*.py") if "argparse" in path.read_text("utf-8")]
    assert scripts
    assert [path.name for path in scripts if f"benchmarks/{path.name}" not in table] == []
