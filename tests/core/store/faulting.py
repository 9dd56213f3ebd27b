"""Changes of a store under which a file call fails, each in a process of its own.

A server process is started once with the library of ``faults.c`` preloaded. For each fault it forks a child,
which makes one change of a prepared store with the N-th of its file calls failing, and then looks at what
came of it: the store on disk, the memory, the error, and the next change. What is wrong is told in words.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from memorag_core import ChunkSettings, Document, MemoRAG, StoreError
from memorag_core.store import compact, load_store, read_manifest, save_store
from memorag_core.store.layout import LOCK, MANIFEST
from tests.core.doubles import SentenceModel, WordEmbedder
from tests.core.store.conftest import MODEL, same
from tests.core.store.test_segments import grown

SOURCE = Path(__file__).with_name("faults.c")
SECONDS = 60
"""After which a child is taken to hang."""

ERROR, FULL, SHORT, KILL_BEFORE, KILL_AFTER = range(1, 6)  # as in faults.c
KINDS: dict[str, tuple[int, int]] = {
    "ENOSPC": (ERROR, errno.ENOSPC),
    "EIO": (ERROR, errno.EIO),
    "EMFILE": (ERROR, errno.EMFILE),
    "EACCES": (ERROR, errno.EACCES),
    "full from here on": (FULL, 0),
    "short write": (SHORT, 0),
    "killed before": (KILL_BEFORE, 0),
    "killed after": (KILL_AFTER, 0),
}
"""How a call fails."""

FIRST = (
    Document("Maren repairs the clock. The clock stands in the tower.", id="clock"),
    Document("Ilse is the doctor. She heals everybody.", id="doctor", metadata={"page": 2}),
    Document("The harbour lies in the north. Ships come at noon.", id="harbour"),
)
NEXT = Document("A lamp burns on the hill.", id="lamp")


def opened(folder: Path) -> MemoRAG:
    return MemoRAG.open(
        folder,
        SentenceModel(capacity=2),
        embedder=WordEmbedder(8),
        chunks=ChunkSettings(size=40),
        progress=False,
        wait=0,
    )


def loaded(folder: Path) -> MemoRAG:
    return MemoRAG.load(folder, SentenceModel(capacity=2), embedder=WordEmbedder(8), progress=False)


def holds(rag: MemoRAG) -> Any:
    """What a memory holds, to be compared."""
    return rag.documents, rag.chunks, rag.memory


def update(rag: MemoRAG) -> None:
    rag.update(Document("Ilse was the doctor. Nobody is ill now.", id="doctor"))


def upsert(rag: MemoRAG) -> None:
    rag.upsert([Document("The harbour is frozen.", id="harbour"), Document("Wind blows.", id="wind")])


OPEN_CHANGES: dict[str, Callable[[MemoRAG], object]] = {
    "memorize": lambda rag: rag.memorize([Document("Snow falls. It is cold.", id="snow"), "Plain text."]),
    "update": update,
    "upsert": upsert,
    "delete": lambda rag: rag.delete("doctor"),
    "delete all": lambda rag: rag.delete([document.id for document in rag.documents]),
}
"""Changes of a store that is open."""


@dataclass(frozen=True)
class Case:
    """A change of the folder ``store`` in a folder of its own.

    Attributes:
        prepare: makes what lies there before, in an empty folder.
        start: what is done before the fault may come; its value goes to the other functions.
        change: the change, under the fault.
        disk: what the store holds; None where there is none.
        memory: what the one who changed it holds; None where it holds nothing that could differ.
        after: the next change, without faults; it must succeed.
        kept: whether it lost nothing of what the disk held.
    """

    prepare: Callable[[Path], object]
    start: Callable[[Path], Any]
    change: Callable[[Path, Any], object]
    disk: Callable[[Path], Any]
    memory: Callable[[Any], Any]
    after: Callable[[Path, Any], object]
    kept: Callable[[Path, Any], bool]


def _store(folder: Path) -> Path:
    return folder / "store"


def _prepared(folder: Path) -> None:
    with opened(_store(folder)) as rag:
        for document in FIRST:  # several segments
            rag.memorize(document)


def _disk(folder: Path) -> Any:
    return holds(loaded(_store(folder))) if (_store(folder) / MANIFEST).exists() else None


def _added(folder: Path, rag: MemoRAG) -> None:
    rag.memorize(NEXT)
    rag.close()


def _kept(folder: Path, before: Any) -> bool:
    documents = before[0] if before else ()
    return loaded(_store(folder)).documents == (*documents, NEXT)


def _open_case(change: Callable[[MemoRAG], object]) -> Case:
    return Case(
        prepare=_prepared,
        start=lambda folder: opened(_store(folder)),
        change=lambda folder, rag: change(rag),
        disk=_disk,
        memory=holds,
        after=_added,
        kept=_kept,
    )


def _later(folder: Path, _: Any) -> None:
    with opened(_store(folder)) as rag:
        _added(folder, rag)


def _saved_case(
    prepare: Callable[[Path], object], change: Callable[[Path, Any], object], where: str = "store"
) -> Case:
    """A change of a store that nobody has open."""
    return Case(
        prepare=prepare,
        start=lambda folder: MemoRAG(
            SentenceModel(capacity=2), embedder=WordEmbedder(8), chunks=ChunkSettings(size=40), progress=False
        ).memorize([*FIRST, "More."]),
        change=change,
        disk=lambda folder: _disk(folder / where / ".."),
        memory=lambda rag: None,
        after=lambda folder, rag: _later(folder / where / "..", rag),
        kept=lambda folder, before: _kept(folder / where / "..", before),
    )


def _grown_case(change: Callable[[Path, Any], object]) -> Case:
    """A store of tensors, quantized."""

    def disk(folder: Path) -> Any:
        entries = load_store(_store(folder), MODEL).header["tokens"]
        with tempfile.TemporaryDirectory() as fresh:
            save_store(fresh, grown(entries), kv="int8")
            assert same(load_store(_store(folder), MODEL), load_store(fresh, MODEL))
        return entries

    def prepare(folder: Path) -> None:
        for size in (60, 90, 100):
            save_store(_store(folder), grown(size), kv="int8")

    return Case(
        prepare=prepare,
        start=lambda folder: None,
        change=change,
        disk=disk,
        memory=lambda rag: None,
        after=lambda folder, _: save_store(_store(folder), grown(130)),
        kept=lambda folder, before: disk(folder) == 130,
    )


CASES: dict[str, Case] = {
    **{name: _open_case(change) for name, change in OPEN_CHANGES.items()},
    "open a new one": _saved_case(lambda folder: None, lambda folder, _: opened(_store(folder)).close()),
    "first save": _saved_case(lambda folder: None, lambda folder, rag: rag.save(_store(folder))),
    "save into missing folders": _saved_case(
        lambda folder: None, lambda folder, rag: rag.save(folder / "a" / "b" / "store"), "a/b/store"
    ),
    "save again": _saved_case(_prepared, lambda folder, rag: rag.save(_store(folder))),
    "compact": _saved_case(_prepared, lambda folder, _: compact(_store(folder))),
    "save with int8": _grown_case(lambda folder, _: save_store(_store(folder), grown(110))),
    "compact with int8": _grown_case(lambda folder, _: compact(_store(folder))),
}


class Faults:
    """The preloaded library."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.faults_calls.restype = ctypes.c_char_p

    def arm(self, folder: Path, how: int, code: int, number: int) -> None:
        self._library.faults_arm(os.fsencode(folder), how, code, ctypes.c_long(number))

    def disarm(self) -> list[str]:
        """End it; the calls there were."""
        self._library.faults_disarm()
        return os.fsdecode(self._library.faults_calls()).split()

    @property
    def happened(self) -> bool:
        return bool(self._library.faults_happened())


@dataclass
class Outcome:
    """What came of a fault: the calls there were, and, in words, what was wrong."""

    happened: bool = False
    calls: Sequence[str] = ()
    error: str = ""
    state: str = ""
    wrong: str = ""


def _changed(case: Case, folder: Path, faults: Faults, fault: tuple[int, int, int], states: Any) -> Outcome:
    """Make the change under a fault, and look; in a child."""
    how, code, number = fault
    given = case.start(folder)
    error: BaseException | None = None
    faults.arm(folder, how, code, number)
    try:
        case.change(folder, given)
    except BaseException as raised:
        error = raised
    outcome = Outcome(calls=faults.disarm(), happened=faults.happened)
    if error is not None:
        outcome.error = f"{type(error).__name__}: {error}"
    outcome.wrong, outcome.state = _judged(case, folder, given, error, states)
    return outcome


def _judged(
    case: Case, folder: Path, given: Any, error: BaseException | None, states: Any
) -> tuple[str, str]:
    """What is wrong, in words, and which state is in place."""
    before, after = states
    if error is not None and not isinstance(error, StoreError):
        return "foreign error: " + "".join(traceback.format_exception(error)[-2:]), ""
    disk = case.disk(folder)
    if disk != before and disk != after:
        return "mixture", ""
    state = "after" if disk == after else "before"
    memory = case.memory(given)
    if memory is not None and memory != disk:
        return "memory and store differ", state
    if error is not None and disk != before:
        return "an error, and the store has changed", state
    if error is None and disk != after:
        return "no error, and the store has not changed", state
    return _next(case, folder, given, disk), state


def _next(case: Case, folder: Path, given: Any, disk: Any) -> str:
    case.after(folder, given)
    if not case.kept(folder, disk):
        return "lost by the next change"
    for manifest in folder.rglob(MANIFEST):
        store = manifest.parent
        named = {file.name for file in read_manifest(store).all_files} | {MANIFEST, LOCK}
        if left := {file.name for file in store.iterdir()} - named:
            return f"left behind after the next change: {sorted(left)}"
    return ""


def _survived(case: Case, folder: Path, states: Any) -> Outcome:
    """Look at what a killed child left, and go on as somebody who comes later."""
    before, after = states
    disk = case.disk(folder)
    if disk != before and disk != after:
        return Outcome(happened=True, wrong="mixture after a kill")
    state = "after" if disk == after else "before"
    if case.memory is holds:
        given = opened(_store(folder))
        return Outcome(happened=True, state=state, wrong=_next(case, folder, given, disk))
    return Outcome(happened=True, state=state, wrong=_next(case, folder, None, disk))


def _forked(work: Callable[[], Outcome]) -> Outcome | int:
    """The outcome of work in a child, or the status it ended with."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        os.close(read)
        try:
            outcome = work()
        except BaseException:
            outcome = Outcome(happened=True, wrong="unexpected: " + traceback.format_exc())
        with suppress(BaseException):
            os.write(write, json.dumps(vars(outcome)).encode()[:60000])
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as said:
        data = said.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return Outcome(**json.loads(data)) if data else status


@contextmanager
def _place(template: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held).resolve() / "case"
        shutil.copytree(template, folder)
        yield folder


def run_case(name: str, faults: Faults, every: int, first: int) -> dict[str, Any]:
    """Let every so many of a change's calls fail, in each of the ways; what came of it."""
    case = CASES[name]
    with tempfile.TemporaryDirectory() as held:
        template = Path(held) / "template"
        template.mkdir()
        case.prepare(template)
        before = case.disk(template)
        with _place(template) as folder:
            case.change(folder, case.start(folder))
            after = case.disk(folder)
        states = before, after
        with _place(template) as folder:
            clean = _forked(partial(_changed, case, folder, faults, (0, 0, 0), states))
        assert isinstance(clean, Outcome), clean
        report: dict[str, Any] = {"calls": clean.calls, "faults": 0, "refused": 0, "changed": 0}
        wrong = [f"without a fault: {clean.wrong}"] if clean.wrong else []
        for number, (kind, (how, code)) in enumerate(KINDS.items()):
            for call in _chosen(clean.calls, every, first + number):
                with _place(template) as folder:
                    fault = how, code, call
                    outcome = _forked(partial(_changed, case, folder, faults, fault, states))
                    if outcome == 9 and how in (KILL_BEFORE, KILL_AFTER):
                        outcome = _forked(partial(_survived, case, folder, states))
                if not isinstance(outcome, Outcome):
                    outcome = Outcome(happened=True, wrong=f"hung or died: {outcome}")
                report["faults"] += outcome.happened
                report["refused"] += bool(outcome.error)
                report["changed"] += outcome.state == "after"
                if outcome.wrong:
                    name = clean.calls[call - 1]
                    wrong.append(f"{kind} at call {call} ({name}): {outcome.wrong} [{outcome.error}]")
        return report | {"wrong": wrong}


def _chosen(calls: Sequence[str], every: int, first: int) -> list[int]:
    """The numbers of calls that are to fail in one way; in all ways together, each function at least once."""
    some = set(range(1 + first * 5 % every, len(calls) + 1, every))
    functions = sorted(set(calls))[first % len(KINDS) :: len(KINDS)]
    places = [[number for number, call in enumerate(calls, 1) if call == name] for name in functions]
    return sorted(some | {own[first % len(own)] for own in places})


class Server:
    """The server process, as the tests see it."""

    def __init__(self, library: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.core.store.faulting"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "LD_PRELOAD": str(library)},
            cwd=SOURCE.parents[3],
        )

    def run(self, name: str, every: int, first: int) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, every, first]) + "\n")
        self._process.stdin.flush()
        report: dict[str, Any] = json.loads(self._process.stdout.readline())
        return report

    def close(self) -> None:
        self._process.communicate()


def compiled(folder: Path) -> Path | None:
    """The library; None where it cannot be made."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    library = folder / "faults.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    return library


def main(lines: Sequence[str] | Any = sys.stdin) -> None:
    faults = Faults()
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no report
    for line in lines:
        name, every, first = json.loads(line)
        print(json.dumps(run_case(name, faults, every, first)), file=said, flush=True)


if __name__ == "__main__":
    main()
