"""A store in S3, spoken to over HTTP as any other: moto's server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memorag_core import StoreError
from memorag_core.store import compact, load_store, read_manifest, save_store
from tests.core.store.conftest import MODEL, same
from tests.core.store.test_segments import grown

s3fs = pytest.importorskip("s3fs")
moto = pytest.importorskip("moto.server")

ADDRESS = "s3://shelf/notes"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket; the address of the server is told as users tell it, by the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    files = s3fs.S3FileSystem()
    if files.exists("shelf"):
        files.rm("shelf", recursive=True)
    files.mkdir("shelf")
    yield files
    s3fs.S3FileSystem.clear_instance_cache()


def lying(files: Any) -> set[str]:
    files.invalidate_cache()
    return {Path(name).name for name in files.find("shelf/notes")}


def test_save_append_load_and_compact(bucket: Any, tmp_path: Path) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    save_store(ADDRESS, grown(3000), cache=here, kv="int8")
    first = lying(bucket)
    save_store(ADDRESS, grown(3030), cache=here)
    assert first < lying(bucket)
    found = load_store(ADDRESS, MODEL, cache=elsewhere)
    save_store(tmp_path / "local", grown(3030), kv="int8")
    assert same(found, load_store(tmp_path / "local", MODEL))
    compact(ADDRESS, cache=here)
    assert len(lying(bucket)) == 5
    assert same(load_store(ADDRESS, MODEL, cache=elsewhere), found)
    assert read_manifest(ADDRESS).kv == "int8"


def test_a_broken_upload_leaves_the_state_before(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is gone from some request on, as seen by the client's own HTTP calls."""
    save_store(ADDRESS, grown(300), cache=tmp_path / "here")
    real, broken = s3fs.S3FileSystem._call_s3, 0
    for last in range(1, 12):
        sent = 0

        async def call(self: Any, method: str, *arguments: Any, last: int = last, **options: Any) -> Any:
            nonlocal sent
            sent += method in ("put_object", "upload_part", "complete_multipart_upload")
            if sent >= last:
                raise ConnectionResetError("the cable was pulled")
            return await real(self, method, *arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(s3fs.S3FileSystem, "_call_s3", call)
            try:
                save_store(ADDRESS, grown(900), cache=tmp_path / "here")
            except StoreError:
                broken += 1
            else:
                break
        assert same(load_store(ADDRESS, MODEL, cache=tmp_path / "elsewhere"), grown(300))
    assert broken >= 2  # what had arrived before the cable was pulled need not be sent again
    assert same(load_store(ADDRESS, MODEL, cache=tmp_path / "elsewhere"), grown(900))


def test_a_server_that_goes_away_in_the_middle_of_an_upload_leaves_the_state_before(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_store(ADDRESS, grown(300), cache=tmp_path / "here")
    other = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)  # the same state, another door
    other.start()
    host, port = other.get_host_and_port()
    real = s3fs.S3FileSystem.put_file
    put: list[None] = []

    def one_then_gone(self: Any, *arguments: Any, **options: Any) -> Any:
        if put:
            other.stop()
        put.append(real(self, *arguments, **options))

    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        s3fs.S3FileSystem.clear_instance_cache()
        patch.setattr(s3fs.S3FileSystem, "retries", 1)
        patch.setattr(s3fs.S3FileSystem, "put_file", one_then_gone)
        with pytest.raises(StoreError, match="cannot be reached"):
            save_store(ADDRESS, grown(900), cache=tmp_path / "here")
    assert len(put) == 1
    s3fs.S3FileSystem.clear_instance_cache()
    assert same(load_store(ADDRESS, MODEL, cache=tmp_path / "elsewhere"), grown(300))
    save_store(ADDRESS, grown(900), cache=tmp_path / "here")
    assert same(load_store(ADDRESS, MODEL, cache=tmp_path / "elsewhere"), grown(900))


def test_a_bucket_that_is_not_there_is_named(bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="s3://nowhere/notes"):
        load_store("s3://nowhere/notes", MODEL, cache=tmp_path)
