"""The notebooks run from top to bottom, and print what is saved in them.

``PYTHONPATH=. python tests/test_notebooks.py`` runs them and saves what they print now.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from memorag_core.memory.bundled import bundled_path

nbformat = pytest.importorskip("nbformat")

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def saved(path: Path) -> Any:
    """A notebook as it lies there."""
    return nbformat.read(path, as_version=4)


def executed(path: Path) -> Any:
    """A notebook after a run in a kernel of its own, without what differs from machine to machine.

    Times, versions and warnings, which hold paths, are left out. The kernel takes this checkout.
    """
    from nbclient import NotebookClient

    notebook = saved(path)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(EXAMPLES)}},
    )
    client.execute(env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)})
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs = _joined(output for output in cell.outputs if output.get("name") != "stderr")
    return notebook


def _joined(outputs: Iterable[Any]) -> list[Any]:
    """What is printed comes in one piece or in several, as fast as the kernel is."""
    joined: list[Any] = []
    for output in outputs:
        if joined and output.output_type == joined[-1].output_type == "stream":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.skipif(not any(bundled_path().glob("*.safetensors")), reason="the bundled model is not built")
def test_a_notebook_prints_what_is_saved_in_it(path: Path) -> None:
    for package in ("langchain.agents", "ipykernel", "nbclient"):
        pytest.importorskip(package)
    before, after = saved(path), executed(path)
    for was, now in zip(before.cells, after.cells, strict=True):
        assert now == was
    assert after == before


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_saved_with_its_output_and_with_nothing_of_the_machine_it_ran_on(path: Path) -> None:
    notebook = saved(path)
    nbformat.validate(notebook)
    assert notebook.metadata == METADATA
    assert all(cell.metadata == {} for cell in notebook.cells)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert outputs
    assert {(output.output_type, output.name) for output in outputs} == {("stream", "stdout")}


def test_there_are_notebooks_for_the_chain_and_for_the_agent() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["agent", "rag_chain"]


if __name__ == "__main__":
    for notebook in NOTEBOOKS:
        nbformat.write(executed(notebook), notebook)
