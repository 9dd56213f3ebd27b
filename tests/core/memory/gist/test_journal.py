"""The journal: what was written is read, a torn end is forgotten, anything else wrong is refused."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from memorag_core.errors import StoreError
from memorag_core.memory.gist.journal import Journal

GISTS = {"k1": "One.", "k2": "Zwei\nZeilen\r\u2028 und „mehr“.", "k3": "三。"}


def written(path: Path) -> bytes:
    journal = Journal(path)
    assert journal.read() == {}
    for key, gist in GISTS.items():
        journal.write(key, gist, tokens=10, gist_tokens=2)
    return path.read_bytes()


def test_what_was_written_is_read_by_any_journal_of_the_path(tmp_path: Path) -> None:
    path = tmp_path / "new" / "gists.jsonl"
    written(path)
    assert Journal(path).read() == GISTS
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[1:-1]]
    assert [line["gist"] for line in lines] == list(GISTS.values())
    assert all((line["tokens"], line["gist_tokens"]) == (10, 2) for line in lines)


def test_a_journal_cut_anywhere_keeps_all_whole_lines_and_goes_on(tmp_path: Path) -> None:
    content = written(tmp_path / "whole")
    for size in range(len(content)):
        path = tmp_path / "cut"
        path.write_bytes(content[:size])
        found = Journal(path).read()
        whole = max(content[:size].count(b"\n") - 1, 0)
        assert found == dict(list(GISTS.items())[:whole])
        Journal(path).write("more", "More.", tokens=1, gist_tokens=1)
        assert Journal(path).read() == {**found, "more": "More."}


def test_no_flipped_bit_in_a_line_goes_unseen(tmp_path: Path) -> None:
    content = written(tmp_path / "whole")
    head = content.index(b"\n") + 1
    for place in range(head, len(content) - 1):
        path = tmp_path / "flipped"
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(StoreError, match=r"Line \d of '.*flipped' is damaged"):
            Journal(path).read()


@pytest.mark.parametrize(
    "content", [b"my notes", b"my notes\n", b'{"format": "memorag-gists", "format_version": 2}\n']
)
def test_a_file_that_is_something_else_is_refused_and_stays_as_it_is(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"no journal of gists of version 1: it begins with"):
        Journal(path).read()
    assert path.read_bytes() == content


@pytest.mark.parametrize("line", [b"{}", b"[]", b"7", b"", b'{"sha256": 1}', b"\xff"])
def test_lines_of_another_shape_are_damage(line: bytes, tmp_path: Path) -> None:
    content = written(tmp_path / "j")
    (tmp_path / "j").write_bytes(content + line + b"\n")
    with pytest.raises(StoreError, match="Line 5"):
        Journal(tmp_path / "j").read()


def test_a_path_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "j", tmp_path):
        with pytest.raises(StoreError, match=r"cannot be used"):
            Journal(path).read()


def test_many_writers_share_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "shared"
    Journal(path).read()

    def write(writer: int) -> None:
        for number in range(10):
            Journal(path).write(f"{writer}-{number}", "x" * 1000, tokens=1, gist_tokens=1)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Journal(path).read()) == 40


def test_a_writer_goes_on_behind_what_another_one_left_of_its_last_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.read()
    for number, left in enumerate((b'{"key": "b', b"x" * 200_000, b"")):
        journal.write(f"a{number}", "A gist.", tokens=9, gist_tokens=2)
        with journal.path.open("ab") as other:  # killed while it wrote
            other.write(left)
    journal.write("c", "Another.", tokens=9, gist_tokens=2)
    assert list(Journal(journal.path).read()) == ["a0", "a1", "a2", "c"]
