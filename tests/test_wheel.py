"""What is installed: the three packages with their data, and nothing of what stands beside them."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"memorag_core", "langchain_memorag", "llama_index_memorag"}
BESIDE = {"memorag_training", "memorag_evaluation"}


def _tracked(*packages: str) -> set[str]:
    """The files of packages that are worked on here, by their paths from the root."""
    return {
        str(path.relative_to(ROOT))
        for package in packages
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    builders = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    (path,) = builders.WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(path) as held:
        return set(held.namelist())


def test_the_wheel_holds_the_three_packages_and_nothing_else(wheel: set[str]) -> None:
    assert {name for name in wheel if ".dist-info/" not in name} == _tracked(*PACKAGES)
    assert {name.split("/")[0] for name in wheel if ".dist-info/" not in name} == PACKAGES


def test_the_wheel_has_types_prompts_the_bundled_model_and_its_command(wheel: set[str]) -> None:
    assert {f"{package}/py.typed" for package in PACKAGES} <= wheel
    assert {f"memorag_core/prompts/{language}.json" for language in ("en", "xx", "zh")} <= wheel
    bundled = ("config.json", "memorag-usage.json", "model.safetensors", "tokenizer.json", "README.md")
    assert {f"memorag_core/memory/bundled/{name}" for name in bundled} <= wheel
    assert any(name.endswith(".dist-info/entry_points.txt") for name in wheel)


def test_the_source_archive_holds_what_stands_beside_them_too(tmp_path: Path) -> None:
    builders = pytest.importorskip("hatchling.builders.sdist", reason="hatchling is not installed")
    (path,) = builders.SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(path) as held:
        names = {name.split("/", 1)[1] for name in held.getnames() if "/" in name}
    assert _tracked(*PACKAGES, *BESIDE) <= names
    assert {"Makefile", "README.md", "LICENSE", "docs/langchain.md", "examples/first_steps.py"} <= names
