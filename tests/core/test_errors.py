"""An optional package that is not there is told apart from one that is there and does not import."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

from memorag_core import MissingExtraError, flag_embedder


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("not-there-cpu", "not_there"),
        ("not-there", "not_there.a_part"),
        ("llama-index-not-there", "llama_index.not_there"),
        ("NotThere", "NotThere"),
    ],
)
def test_a_package_that_is_not_found_is_not_installed(package: str, name: str) -> None:
    error = MissingExtraError(package, "extra", "This", ModuleNotFoundError("No module", name=name))
    assert "which is not installed" in str(error)
    assert "pip install 'memorag-adapters[extra]'" in str(error)


def test_a_package_that_does_not_import_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "FlagEmbedding.py").write_text("import transformers.a_module_of_an_older_release\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "FlagEmbedding", raising=False)
    with pytest.raises(ModuleNotFoundError) as cause:
        import_module("FlagEmbedding")
    with pytest.raises(MissingExtraError, match="is installed and cannot be imported") as told:
        flag_embedder("a-name")
    assert str(cause.value) in str(told.value)
    assert "not installed" not in str(told.value)
