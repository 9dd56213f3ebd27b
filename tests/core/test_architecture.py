"""The house stands on its floors: read from the source with `ast`, and from what an import loads."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import memorag_core

ROOT = Path(__file__).parents[2]
CORE = "memorag_core"
ADAPTERS = ("langchain_memorag", "llama_index_memorag")

# The rooms of the core in the order of the flow, and what each may import of the others. A new folder or
# module at the root is written in here first.
VALUES = frozenset({"errors", "types", "protocols", "settings", "prompts"})
TOP = frozenset({"persistence", "corpus", "query", "memorag", "conversation", "cli"})
ROOMS = frozenset({"system", "documents", "memory", "clues", "retrieval", "generation", "store"})
BELOW = {
    **dict.fromkeys(VALUES, VALUES),
    "system": VALUES,
    "documents": VALUES | {"system"},
    "memory": VALUES | {"system", "documents"},
    "clues": VALUES | {"system", "documents", "memory"},
    "retrieval": VALUES | {"system", "documents"},
    "generation": VALUES | {"system", "documents"},
    "store": VALUES | {"system"},
    **dict.fromkeys(TOP, VALUES | ROOMS | TOP),
}

# The kinds of memory model know nothing of each other, and what they share knows none of them.
FAMILIES = frozenset({"beacon", "longcontext", "hosted", "gist", "bundled"})
BESIDE = {"planning": FAMILIES, "named": frozenset({"beacon", "bundled"})}

# Beside the core, not in the wheel: they use public names, and evaluation also what training generates.
OUTSIDE = {"memorag_training": frozenset({CORE}), "memorag_evaluation": frozenset({CORE, "memorag_training"})}

HEAVY = (
    "torch",
    "transformers",
    "faiss",
    "FlagEmbedding",
    "sentence_transformers",
    "llama_index",
    "langchain_core",
)
UNSAFE = frozenset({"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"})


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name: `from module import name`, or `import module` with an empty name."""

    place: str
    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.place} imports {self.name or 'all'} of {self.module}"


@dataclass(frozen=True, slots=True)
class Source:
    """One file: its path from the root, its dotted module name, its text and tree."""

    path: str
    module: str
    text: str
    tree: ast.Module

    def imports(self) -> Iterator[Import]:
        """All imports, those inside functions and under TYPE_CHECKING included: each is a dependency."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(f"{self.path}:{node.lineno}", alias.name, "")
            elif isinstance(node, ast.ImportFrom):
                module = "." * node.level + (node.module or "")
                for alias in node.names:
                    yield Import(f"{self.path}:{node.lineno}", module, alias.name)


@cache
def sources(*folders: str) -> tuple[Source, ...]:
    found = []
    for folder in folders:
        place = ROOT / folder
        for file in [place] if place.is_file() else sorted(place.rglob("*.py")):
            path = file.relative_to(ROOT)
            module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
            text = file.read_text(encoding="utf-8")
            found.append(Source(str(path), module, text, ast.parse(text)))
    return tuple(found)


def part(module: str, package: str = CORE) -> str:
    """The room of a package that a module belongs to: `memory` of memorag_core.memory.beacon, else empty."""
    return module.removeprefix(f"{package}.").split(".")[0] if module.startswith(f"{package}.") else ""


def under(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def loaded_by(statement: str) -> list[str]:
    """The heavy packages that a fresh interpreter holds after a statement."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=False, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    return list(json.loads(run.stdout))


def test_every_module_of_the_core_has_its_room() -> None:
    homeless = {part(source.module) for source in sources(CORE)} - BELOW.keys() - {""}
    assert not homeless, f"write these modules into BELOW of this test: {sorted(homeless)}"


def test_imports_follow_the_flow() -> None:
    wrong = []
    for source in sources(CORE):
        own = part(source.module)
        if not own:
            continue  # the front door opens every room, at first use
        allowed = BELOW.get(own, frozenset()) | {own} | ({""} if own == "cli" else frozenset())
        wrong += [
            str(found)
            for found in source.imports()
            if under(found.module, CORE)
            and part(found.module) not in allowed
            and (found.module, found.name) != (CORE, "__version__")  # a plain string that all may read
        ]
    assert wrong == []


def test_no_kind_of_memory_model_knows_another() -> None:
    memory = f"{CORE}.memory"
    wrong = []
    for source in sources(f"{CORE}/memory"):
        own = part(source.module, memory)
        allowed = BESIDE.get(own, frozenset()) | {own}
        wrong += [
            str(found) for found in source.imports() if part(found.module, memory) in FAMILIES - allowed
        ]
    assert wrong == []


def test_those_outside_use_public_names_only() -> None:
    public = {*memorag_core.__all__, "__version__", ""}
    wrong = []
    for source in sources(*ADAPTERS, *OUTSIDE, f"{CORE}/cli.py"):
        for found in source.imports():
            if not under(found.module, CORE):
                continue
            hidden = any(name.startswith("_") for name in (*found.module.split("."), found.name))
            if found.name not in public if found.module == CORE else hidden:
                wrong.append(str(found))
    assert wrong == []


def test_the_packages_know_nothing_of_what_stands_outside() -> None:
    wrong = [
        str(found)
        for source in sources(CORE, *ADAPTERS)
        for found in source.imports()
        if any(under(found.module, package) for package in OUTSIDE)
    ]
    wrong += [
        str(found)
        for package, below in OUTSIDE.items()
        for source in sources(package)
        for found in source.imports()
        if any(under(found.module, other) for other in OUTSIDE if other not in {package, *below})
    ]
    assert wrong == []


def test_adapters_come_in_by_the_front_door_and_know_no_other_adapter() -> None:
    wrong = [
        str(found)
        for adapter in ADAPTERS
        for source in sources(adapter)
        for found in source.imports()
        if part(found.module) or any(under(found.module, other) for other in ADAPTERS if other != adapter)
    ]
    assert wrong == []


def test_the_core_never_names_an_adapter_or_its_framework() -> None:
    frameworks = ("langchain", "langchain_core", "langchain_openai", "llama_index", *ADAPTERS)
    wrong = [
        str(found)
        for source in sources(CORE)
        for found in source.imports()
        if any(under(found.module, package) for package in frameworks)
    ]
    wrong += [
        f"{source.path} names {adapter}"
        for source in sources(CORE)
        for adapter in ADAPTERS
        if adapter in source.text
    ]
    assert wrong == []


def test_no_module_imports_itself_by_a_detour() -> None:
    modules = {source.module for source in sources(CORE, *ADAPTERS, *OUTSIDE)}
    graph: dict[str, set[str]] = {}
    for source in sources(CORE, *ADAPTERS, *OUTSIDE):
        if source.module == CORE:
            continue  # the front door again
        edges = graph.setdefault(source.module, set())
        for found in source.imports():
            submodule = f"{found.module}.{found.name}"
            edges.add(submodule if submodule in modules else found.module)
        edges &= modules - {source.module}
    cycle: list[str] = []
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle = error.args[1]
    assert cycle == []


def test_imports_are_absolute() -> None:
    relative = [
        str(found)
        for source in sources(CORE, *ADAPTERS, *OUTSIDE)
        for found in source.imports()
        if found.module.startswith(".")
    ]
    assert relative == []


def test_nothing_is_unpickled_and_no_remote_code_runs() -> None:
    wrong = []
    for source in sources(CORE, *ADAPTERS, *OUTSIDE, "examples", "benchmarks"):
        wrong += [str(found) for found in source.imports() if found.module.split(".")[0] in UNSAFE]
        wrong += [str(found) for found in source.imports() if (found.module, found.name) == ("torch", "load")]
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("torch.load", "torch.save"):
                wrong.append(f"{source.path}:{node.lineno} uses {ast.unparse(node)}")
            if (
                isinstance(node, ast.keyword)
                and node.arg in ("trust_remote_code", "allow_pickle")
                and ast.unparse(node.value) != "False"
            ):
                wrong.append(f"{source.path}:{node.value.lineno} sets {node.arg}")
    assert wrong == []


def test_only_the_command_line_prints() -> None:
    wrong = [
        f"{source.path}:{node.lineno}"
        for source in sources(CORE, *ADAPTERS, *OUTSIDE)
        if source.module != f"{CORE}.cli"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "statement",
    [
        "import memorag_core",
        "from memorag_core import Document, MissingExtraError, ClueSettings, MemoryModel",
        "import memorag_core.prompts, memorag_core.memory.bundled",
    ],
)
def test_importing_the_core_and_its_values_loads_nothing_heavy(statement: str) -> None:
    assert loaded_by(statement) == []


def test_an_adapter_loads_no_framework_but_its_own() -> None:
    assert not {"llama_index", "faiss", "FlagEmbedding"} & {*loaded_by("import langchain_memorag")}
    assert not {"langchain_core", "faiss", "FlagEmbedding"} & {*loaded_by("import llama_index_memorag")}


def test_the_front_door_says_the_same_to_readers_type_checkers_and_the_interpreter() -> None:
    (door,) = (source for source in sources(CORE) if source.module == CORE)
    read_by_type_checkers = {
        (found.module, found.name) for found in door.imports() if under(found.module, CORE)
    }
    opened = {(f"{CORE}.{module}", name) for module, names in memorag_core._HOMES.items() for name in names}
    assert read_by_type_checkers == opened
    assert sorted(memorag_core.__all__) == sorted(name for _, name in opened)


@pytest.mark.parametrize("name", memorag_core.__all__)
def test_every_public_name_opens(name: str) -> None:
    assert getattr(memorag_core, name) is not None
    assert name in dir(memorag_core)


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Memorag'"):
        memorag_core.Memorag  # noqa: B018
