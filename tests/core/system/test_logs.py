"""Other libraries keep out of the user's log."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from memorag_core.system.logs import quiet

ROOT = Path(__file__).parents[3]

PROGRAM = """
import logging, sys, tempfile
root, name, level = sys.argv[1:]
logging.basicConfig(level=root, format="%(levelname)s:%(name)s")
if name:
    logging.getLogger(name).setLevel(level)
from memorag_core import Document, InputError, MemoRAG
from tests.core.doubles import SentenceModel, WordEmbedder

rag = MemoRAG(SentenceModel(), embedder=WordEmbedder()).memorize("Mara Venn repairs clocks.")
folder = tempfile.mkdtemp()
rag.save(folder + "/store")
MemoRAG.load(folder + "/store", SentenceModel(), embedder=WordEmbedder()).answer("Who mends clocks?")
"""


@pytest.mark.parametrize(
    ("root", "name", "level"),
    [("INFO", "", ""), ("DEBUG", "", ""), ("WARNING", "memorag_core", "DEBUG"), ("INFO", "bm25s", "DEBUG")],
)
def test_a_log_at_any_level_has_no_lines_of_libraries_beneath(root: str, name: str, level: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, root, name, level],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert [line for line in run.stderr.splitlines() if ":memorag_core" not in line] == []
    assert run.stdout == ""


def test_a_level_that_the_user_has_chosen_stays() -> None:
    logger = logging.getLogger("a.library.of.another")
    logger.setLevel(logging.INFO)
    quiet(logger.name)
    assert logger.level == logging.INFO
    logger.setLevel(logging.NOTSET)
    quiet(logger.name)
    assert logger.level == logging.WARNING


def test_a_level_that_a_library_gives_itself_is_no_choice_of_the_user() -> None:
    logger = logging.getLogger("a.loud.library")
    logger.setLevel(logging.DEBUG)
    quiet(logger.name, own=logging.DEBUG)
    assert logger.level == logging.WARNING
