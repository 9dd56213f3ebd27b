"""A disk that refuses any file call of any change leaves the state before or the one after, and says which.

Each N-th call fails in each of eight ways. Afterwards the store holds one of the two states; an error is a
``StoreError``, and then it is the state before; the memory that was to change holds what the store holds; and
the next change succeeds and loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.core.store.faulting import CASES, KINDS, Server, compiled

SOME = 40
"""Of so many calls one fails, in the quick test; and one of each function."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    library = compiled(tmp_path_factory.mktemp("faults"))
    if library is None:
        pytest.skip("needs Linux and a C compiler (cc)")
    server = Server(library)
    yield server
    server.close()


@pytest.mark.parametrize("name", CASES)
def test_a_change_that_the_disk_refuses_is_made_or_not_made_and_said_to_be(server: Server, name: str) -> None:
    report = server.run(name, SOME, list(CASES).index(name))
    assert report["wrong"] == []
    assert report["faults"] >= len(set(report["calls"]))
    assert report["refused"]
    assert {"open64", "write", "fsync", "rename", "mkdir", "rmdir", "read"} <= set(report["calls"])
    if name not in ("open a new one", "delete all"):  # these write no tensors
        assert "ftruncate64" in report["calls"]  # of safetensors


@pytest.mark.exhaustive
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", CASES)
def test_no_call_at_all_may_fail_otherwise(server: Server, name: str) -> None:
    report = server.run(name, 1, 0)
    assert report["wrong"] == []
    assert report["faults"] >= (len(KINDS) - 2) * len(report["calls"])
