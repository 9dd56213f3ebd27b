"""Whatever is done to the files of a store, it loads as the original or is refused, and that is all."""

from __future__ import annotations

import json
import os
import pickle
import random
import resource
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from memorag_core import StoreError
from memorag_core.store import ENCODINGS, StoredCorpus, load_store, save_store
from tests.core.store.conftest import MODEL, corpus, replace_content, rewrite_manifest, same
from tests.core.store.test_segments import grown

MUTATIONS = int(os.environ.get("MEMORAG_MUTATIONS", "2000"))
ROOM = 256 << 20
"""Bytes that the process may take beside what it has; the stores have some hundred thousand."""

Mutation = Callable[[Path, random.Random], None]


class Trap:
    """What a hostile pickle would do when it is opened."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.marker,)


def a_file(folder: Path, chance: random.Random, pattern: str = "*.*") -> Path:
    return chance.choice(
        sorted(file for file in folder.glob(pattern) if file.is_file() and file.name != ".lock")
    )


def truncate(folder: Path, chance: random.Random) -> None:
    file = a_file(folder, chance)
    file.write_bytes(file.read_bytes()[: chance.randrange(file.stat().st_size)])


def flip(folder: Path, chance: random.Random) -> None:
    file = a_file(folder, chance)
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


def a_part(folder: Path, chance: random.Random, *among: str) -> str:
    """One of these parts that the store has files of."""
    files = json.loads((folder / "memorag.json").read_bytes())["files"]
    return chance.choice([part for part in among if part in files])


def swap(folder: Path, chance: random.Random) -> None:
    one, other = a_file(folder, chance), a_file(folder, chance)
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def insert(folder: Path, chance: random.Random) -> None:
    file = a_file(folder, chance)
    content = bytearray(file.read_bytes())
    start = chance.randrange(len(content) + 1)
    content[start : start + chance.randrange(20)] = chance.randbytes(chance.randrange(20))
    file.write_bytes(content)


def remove(folder: Path, chance: random.Random) -> None:
    a_file(folder, chance).unlink()


def link(folder: Path, chance: random.Random) -> None:
    file = a_file(folder, chance)
    outside = folder.parent / f"outside-{chance.random()}"
    file.rename(outside)
    file.symlink_to(chance.choice([outside, Path("/dev/zero"), folder, Path("/nowhere")]))


def other_kind(folder: Path, chance: random.Random) -> None:
    file = a_file(folder, chance)
    file.unlink()
    chance.choice([lambda: os.mkfifo(file), file.mkdir])()


def rewritten_file(folder: Path, chance: random.Random) -> None:
    """Another content with name, size and hash set right."""
    part = a_part(folder, chance, "documents", "chunks", "memory", "vectors", "indexes")
    content = bytearray(a_file(folder, chance, f"{part}-*").read_bytes())
    for _ in range(chance.randrange(1, 4)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    if chance.random() < 0.3:
        del content[chance.randrange(len(content)) :]
    replace_content(folder, part, bytes(content))


def huge_header(folder: Path, chance: random.Random) -> None:
    length = chance.choice([2**62, 2**40, 99_999_999, 2**31, 200])
    header = chance.choice([b"{}", b"{" * 150, b'{"a":' * 30, b"\xff" * 150])
    replace_content(
        folder, a_part(folder, chance, "memory", "vectors", "indexes"), struct.pack("<Q", length) + header
    )


def huge_tensor(folder: Path, chance: random.Random) -> None:
    """A header that tells of far more numbers than the file has."""
    shape = chance.choice([[2**40], [2**33, 2**33], [2**62, 4], [10**18, 0], [-1], [4096, 4096, 4096]])
    tensor = {"dtype": "F32", "shape": shape, "data_offsets": [0, chance.choice([0, 16, 2**40])]}
    name = chance.choice(["0.keys", "vectors", "ids"])
    header = json.dumps({name: tensor, "__metadata__": {"memorag": '{"framework": "torch"}'}}).encode()
    content = struct.pack("<Q", len(header)) + header + bytes(16)
    replace_content(folder, a_part(folder, chance, "memory", "vectors", "indexes"), content)


def a_pickle(folder: Path, chance: random.Random) -> None:
    part = a_part(folder, chance, "memory", "vectors", "indexes", "documents")
    replace_content(folder, part, pickle.dumps(Trap(folder.parent / "ran")))


def path_outside(folder: Path, chance: random.Random) -> None:
    plain = "documents-0123456789abcdef.jsonl"
    name = chance.choice(["../x.jsonl", "/etc/passwd", "..", f"a/{plain}", f"{plain}\n", f"../{plain}"])
    part = a_part(folder, chance, "documents", "chunks", "memory", "vectors", "indexes")
    rewrite_manifest(folder, lambda manifest: chance.choice(manifest["files"][part]).update(name=name))


def edited_manifest(folder: Path, chance: random.Random) -> None:
    """Some value of the manifest is another, and the hash fits."""
    odd: list[Any] = [None, -1, 0, 1, 2**63, 10**30, 0.5, True, "", "int4", "x", [], {}, [[1]], {"a": 1}]

    def change(manifest: dict[str, Any]) -> None:
        holder: Any = manifest
        while True:
            if not holder:
                return
            key = chance.choice(sorted(holder)) if isinstance(holder, dict) else chance.randrange(len(holder))
            if isinstance(holder[key], dict | list) and chance.random() < 0.85:
                holder = holder[key]
                continue
            action = chance.choice(["odd", "odd", "near", "remove", "double"])
            if action == "near" and type(holder[key]) is int:
                holder[key] += chance.choice([-1, 1, 1000])
            elif action == "remove":
                del holder[key]
            elif action == "double" and isinstance(holder, list):
                holder.append(holder[key])
            else:
                holder[key] = chance.choice(odd)
            return

    rewrite_manifest(folder, change)


ALL: tuple[Mutation, ...] = (
    truncate,
    flip,
    swap,
    insert,
    remove,
    link,
    other_kind,
    rewritten_file,
    huge_header,
    huge_tensor,
    a_pickle,
    path_outside,
    edited_manifest,
    edited_manifest,
)

HONEST = (truncate, flip, swap, insert, remove, link, other_kind, huge_header, a_pickle, path_outside)
"""After these nothing may load but the original; who sets hashes right may make another store."""


@pytest.fixture
def little_room() -> Any:
    """The process cannot take much more memory than it has."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def stores(place: Path) -> list[tuple[Path, StoredCorpus]]:
    """Small stores of several kinds: one file a part, several, quantized."""
    made: list[tuple[Path, StoredCorpus]] = [(place / "one", corpus())]
    save_store(place / "one", corpus())
    for kv in ENCODINGS:
        for entries in (40, 41):
            save_store(place / kv, grown(entries), kv=kv)
        made.append((place / kv, load_store(place / kv, MODEL)))
    return made


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_any_mutation_loads_as_the_original_or_is_refused(tmp_path: Path, little_room: None) -> None:
    chance = random.Random(11)
    originals = stores(tmp_path)
    refused: dict[str, int] = {}
    longest = 0.0
    for number in range(MUTATIONS):
        original, expected = chance.choice(originals)
        folder = tmp_path / "mutated" / str(number) / "store"
        shutil.copytree(original, folder)
        mutation = chance.choice(ALL)
        mutation(folder, chance)
        begun = time.monotonic()
        try:
            found = load_store(folder, MODEL)
        except StoreError:
            refused[mutation.__name__] = refused.get(mutation.__name__, 0) + 1
        else:
            held = sum(tensor.numel() * tensor.element_size() for tensor in found.tensors.values())
            size = sum(file.stat().st_size for file in folder.iterdir())
            assert held <= 8 * size  # four bits become 32
            assert mutation not in HONEST or same(found, expected), (number, mutation.__name__)
        longest = max(longest, time.monotonic() - begun)
        assert not (folder.parent / "ran").exists()
        shutil.rmtree(folder.parent)
    assert longest < 2
    assert len(refused) == len(set(ALL)) or MUTATIONS < 1000
    assert all(
        torch.equal(load_store(at, MODEL).tensors[name], tensor)
        for at, whole in originals
        for name, tensor in whole.tensors.items()
    )
