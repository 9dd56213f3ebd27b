"""The command line: a text and a question in, a report or JSON out, or one line on what to put right."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from memorag_core import MemoRAG, __version__
from memorag_core import cli as cli_module
from memorag_core.cli import main
from tests.core.doubles import SentenceModel, write_beacon_checkpoint

ROOT = Path(__file__).parents[2]
TEXT = "The market opens at seven. Mara Venn repairs timepieces in Orrin. The river floods in spring."
WHO = "Who mends a broken clock?"


class _Small(MemoRAG):
    """MemoRAG as the command makes it, but with a memory of sentences where it would load a checkpoint."""

    def __init__(
        self, model: object = None, *, ratio: int | None = None, device: str = "auto", **options: object
    ) -> None:
        super().__init__(SentenceModel(capacity=ratio or 8), **options)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_module, "MemoRAG", _Small)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "town.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_a_report_shows_the_question_the_clues_the_evidence_with_its_place_and_the_answer(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", str(file), WHO]) == 0
    shown = capsys.readouterr()
    assert WHO in shown.out
    assert "span" in shown.out
    assert f"town.txt, characters 0-{len(TEXT)}" in shown.out
    assert "Draft of the memory model" in shown.out
    assert shown.out.rstrip().endswith("Mara Venn repairs timepieces in Orrin.")
    assert shown.err == ""


def test_json_holds_the_same_as_the_answer(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", str(file), WHO, "--json", "--k", "1", "--no-progress"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["question"] == WHO
    assert answer["source"] == "memory"
    assert answer["clues"][0]["kind"] == "span"
    (evidence,) = answer["evidence"]
    chunk = evidence["chunk"]
    assert chunk["text"] == TEXT[chunk["start"] : chunk["end"]]
    assert evidence["hits"][0]["retriever"] == "bm25"


def test_a_text_can_come_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode("utf-8-sig"))))
    assert main(["ask", "-", WHO]) == 0
    assert f"stdin, characters 0-{len(TEXT)}" in capsys.readouterr().out


def test_a_saved_memory_is_asked_again_without_its_text(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(file.parent / "store")
    assert main(["ask", str(file), WHO, "--save", store]) == 0
    first = capsys.readouterr().out
    assert main(["ask", str(file), WHO, "--load", store]) == 0  # the text is known already
    assert capsys.readouterr().out == first
    file.unlink()
    assert main(["ask", store, WHO]) == 0
    assert capsys.readouterr().out == first


def test_a_text_can_be_added_to_a_saved_memory(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = str(file.parent / "store")
    more = file.with_name("more.txt")
    more.write_text("Una Rask keeps the lighthouse.", encoding="utf-8")
    main(["ask", str(file), WHO, "--save", store])
    assert main(["ask", str(more), WHO, "--load", store, "--save", store]) == 0
    capsys.readouterr()
    assert main(["ask", store, "Who keeps the lighthouse?", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["evidence"][0]["chunk"]["document_id"] == "more.txt"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ask", "nowhere.txt", WHO], "nowhere.txt"),
        (["ask", "town.txt", " "], "question"),
        (["ask", "town.txt", WHO, "--k", "0"], "k is 0"),
        (["ask", "town.txt", WHO, "--k", "9"], "1 chunk"),
        (["ask", "town.txt", WHO, "--load", "nowhere"], "no saved memory"),
        (["ask", ".", WHO], "no saved memory"),
        (["ask", ".", WHO, "--load", "."], "--load"),
        (["ask", "town.txt", WHO, "--save", "."], "Expected a saved memory"),
        (["ask", "latin.txt", WHO], "UTF-8"),
        (["ask", "empty.txt", WHO], "empty"),
    ],
)
def test_what_the_user_can_put_right_is_one_line_on_stderr_and_status_2(
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(file.parent)
    Path("latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    Path("empty.txt").write_text("")
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("memorag: ")
    assert shown.err.count("\n") == 1
    assert message in shown.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["ask", "nowhere.txt", WHO],
        ["ask", "empty.txt", WHO],
        ["ask", "latin.txt", WHO],
        ["ask", "town.txt/below", WHO],
        ["ask", "town.txt", " "],
        ["ask", "town.txt", WHO, "--k", "0"],
        ["ask", "town.txt", WHO, "--k", "-3"],
        ["ask", ".", WHO],
        ["ask", "town.txt", WHO, "--load", "nowhere"],
        ["ask", "town.txt", WHO, "--load", "town.txt"],
        ["ask", "town.txt", WHO, "--save", "."],
        ["ask", "town.txt", WHO, "--save", "town.txt"],
        ["ask", "town.txt", WHO, "--save", "town.txt/below"],
        ["plan", "--file", "nowhere.txt"],
        ["plan", "--file", "."],
        ["plan", "--tokens", "0"],
        ["ask", "town.txt", WHO, "--model", "nowhere"],
        ["plan", "--tokens", "9", "nowhere"],
        ["attach", "nowhere", "out"],
        ["compact", "nowhere"],
    ],
)
def test_what_can_be_seen_at_once_is_said_before_torch_or_a_model_is_loaded(
    file: Path, arguments: list[str]
) -> None:
    file.with_name("latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    file.with_name("empty.txt").write_text(" \n")
    program = (
        "import sys\nfrom memorag_core.cli import main\nstatus = main(sys.argv[1:])\n"
        "sys.exit('torch is loaded' if 'torch' in sys.modules else status)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=file.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.startswith("memorag: ")
    assert run.stderr.count("\n") == 1
    assert not run.stderr.startswith("memorag: [")  # the number of an error is no word


def test_a_ratio_other_than_the_saved_one_is_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = str(file.parent / "store")
    main(["ask", str(file), WHO, "--save", store])
    assert main(["ask", store, WHO, "--ratio", "4"]) == 2
    assert "another model" in capsys.readouterr().err


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.strip() == f"memorag {__version__}"


@pytest.mark.parametrize(
    "arguments",
    [[], ["ask"], ["ask", "file"], ["plan"], ["plan", "--tokens", "9", "--file", "x"], ["frobnicate"]],
)
def test_a_command_that_is_incomplete_shows_how_it_is_used(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: memorag" in capsys.readouterr().err


def test_a_plan_shows_every_ratio_and_its_status_says_whether_something_fits(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plan", "--tokens", "100000", "--budget", "8GB"]) == 0
    shown = capsys.readouterr()
    assert "100,000 tokens" in shown.out
    for ratio in ("2*", "4", "8", "16*", "32*"):
        assert any(line.split()[:1] == [ratio] for line in shown.out.splitlines())
    assert "Fits at ratio 2" in shown.out
    assert shown.err == ""


def test_a_plan_that_does_not_fit_shows_its_table_and_one_line_with_the_remedies(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plan", "--tokens", "100000000", "--budget", "100MB"]) == 2
    shown = capsys.readouterr()
    assert "Does not fit" in shown.out
    assert shown.err.count("\n") == 1
    assert shown.err.startswith("memorag: 100,000,000 tokens at ratio 32 need ")
    assert "several memories" in shown.err


def test_the_tokens_of_a_file_are_counted_and_the_plan_is_told_as_json(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(write_beacon_checkpoint(file.parent / "model"))
    arguments = ["plan", model, "--file", str(file), "--dtype", "bfloat16", "--device", "cpu", "--json"]
    assert main([*arguments, "--ratio", "4"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["tokens"], plan["dtype"], plan["fits"]) == (len(TEXT), "bfloat16", True)
    assert [row["ratio"] for row in plan["rows"]] == [4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tokens", "0"], "tokens is 0"),
        (["--tokens", "9", "--budget", "lots"], "16GB"),
        (["--tokens", "9", "--ratio", "500"], "[500]"),
        (["--tokens", "9", "nowhere"], "nowhere"),
        (["--file", "nowhere.txt"], "nowhere.txt"),
        (["--tokens", "9", "--device", "abacus"], "abacus"),
        (["--tokens", "9", "--dtype", "int8"], "int8"),
    ],
)
def test_a_plan_that_cannot_be_made_is_one_line_on_stderr_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["plan", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert message in shown.err


def test_a_save_that_would_lose_documents_is_refused_unless_it_is_wanted(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["ask", str(file), WHO, "--save", str(tmp_path / "store")]
    assert main(command) == main(command) == 0  # run again
    file.write_text("Another text. It is as short.", encoding="utf-8")
    assert main(command) == 2
    assert "overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    (saved,) = _Small.load(tmp_path / "store").documents
    assert saved.text == "Another text. It is as short."


@pytest.mark.parametrize("option", ["--save", "--load", "FILE"])
def test_a_blank_path_is_refused_before_anything_is_read(
    option: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["ask", "" if option == "FILE" else str(file), WHO]
    assert main(command if option == "FILE" else [*command, option, ""]) == 2
    shown = capsys.readouterr()
    assert "expected the name of a file or folder" in shown.err
    assert shown.out == ""
