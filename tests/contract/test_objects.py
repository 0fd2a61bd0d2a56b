"""What every object store promises: a folder, and a bucket of a real server that speaks S3, on loopback."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from eventstore.objects import (
    LocalObjects,
    ObjectMissingError,
    ObjectRefusedError,
    Objects,
    ObjectsUnavailableError,
    open_objects,
)
from eventstore.objects.local import INCOMING, LEFT_OVER_S
from eventstore.objects.s3 import PART_BYTES, S3Objects
from eventstore.settings import Settings


@pytest.fixture(params=["local", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "local":
        return LocalObjects(tmp_path / "objects")
    return S3Objects(request.getfixturevalue("s3_bucket"), f"below/{tmp_path.name}")


async def content(objects: Objects, key: str) -> bytes:
    return b"".join([chunk async for chunk in objects.read(key)])


@pytest.mark.parametrize("size", [0, 1, PART_BYTES + 1, 3 * PART_BYTES])
async def test_what_was_put_is_read_back(objects: Objects, size: int) -> None:
    stored = os.urandom(size)
    await objects.put("a/b-1.jsonl.gz", io.BytesIO(stored))
    assert await content(objects, "a/b-1.jsonl.gz") == stored
    assert await objects.size("a/b-1.jsonl.gz") == size


async def test_an_object_is_put_from_where_its_content_stands(objects: Objects) -> None:
    source = io.BytesIO(b"head and tail")
    source.seek(9)
    await objects.put("tail", source)
    assert await content(objects, "tail") == b"tail"


async def test_reading_may_begin_anywhere_in_an_object(objects: Objects) -> None:
    stored = os.urandom(PART_BYTES + 10)
    await objects.put("a/x", io.BytesIO(stored))
    for start in (1, PART_BYTES, PART_BYTES + 9):
        assert b"".join([chunk async for chunk in objects.read("a/x", start=start)]) == stored[start:]


async def test_what_is_deleted_is_gone_and_its_neighbours_stay(objects: Objects) -> None:
    for key in ("a/x", "a/y"):
        await objects.put(key, io.BytesIO(b"x"))
    for key in ("a/x", "a/x", "a", "nowhere/at/all"):
        await objects.delete(key)
    assert await objects.keys("a") == ["a/y"]
    with pytest.raises(ObjectMissingError):
        await content(objects, "a/x")


async def test_putting_again_replaces_and_doubles_nothing(objects: Objects) -> None:
    for stored in (b"one", b"other"):
        await objects.put("a/x", io.BytesIO(stored))
    await objects.put("a/y", io.BytesIO(b"y"))
    await objects.put("ab/x", io.BytesIO(b"not below a"))
    assert await content(objects, "a/x") == b"other"
    assert await objects.keys("a") == ["a/x", "a/y"]


async def test_what_is_not_there_is_missing(objects: Objects) -> None:
    await objects.put("a/x", io.BytesIO(b"x"))
    for key in ("a", "a/y", "nowhere/at/all"):
        assert await objects.size(key) is None
        with pytest.raises(ObjectMissingError):
            await content(objects, key)
    assert await objects.keys("nowhere") == []


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", ".incoming/x", "a b", "a\n", "ä", "x" * 501])
async def test_other_keys_are_refused(objects: Objects, key: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        await objects.put(key, io.BytesIO(b"x"))


async def test_a_failing_source_leaves_nothing(objects: Objects) -> None:
    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, _: object) -> int:
            raise RuntimeError("the disk of the source broke")

    source: BinaryIO = io.BufferedReader(Broken())  # type: ignore[assignment]
    with pytest.raises((RuntimeError, ObjectsUnavailableError)):
        await objects.put("a/x", source)
    assert await objects.size("a/x") is None


async def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "objects").write_text("in the way")
    with pytest.raises(ObjectsUnavailableError):
        await LocalObjects(tmp_path / "objects").put("a", io.BytesIO(b"x"))


async def test_what_killed_writers_left_is_cleared_away_and_what_others_write_stays(tmp_path: Path) -> None:
    incoming = tmp_path / INCOMING
    incoming.mkdir()
    for name, age_s in (("old", LEFT_OVER_S + 60), ("young", 60.0)):
        (incoming / name).write_bytes(b"half")
        then = time.time() - age_s
        os.utime(incoming / name, (then, then))
    await LocalObjects(tmp_path).put("a", io.BytesIO(b"x"))
    assert [path.name for path in incoming.iterdir()] == ["young"]


async def test_no_bucket_is_a_refusal_and_no_server_is_unavailable(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ObjectRefusedError):
        await S3Objects(f"{s3_bucket}-not").put("a", io.BytesIO(b"x"))
    monkeypatch.setattr("eventstore.objects.s3.RETRIES_MAX", 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(ObjectsUnavailableError):
        await S3Objects(s3_bucket).put("a", io.BytesIO(b"x"))


async def test_the_setting_chooses(tmp_path: Path, s3_bucket: str) -> None:
    default = open_objects(Settings(data_dir=str(tmp_path)))
    assert isinstance(default, LocalObjects)
    assert default.root == tmp_path / "objects"
    chosen = open_objects(Settings(object_store_url=f"file://{tmp_path}/my%20objects"))
    assert isinstance(chosen, LocalObjects)
    assert chosen.root == tmp_path / "my objects"
    bucket = open_objects(Settings(object_store_url=f"s3://{s3_bucket}/some/where"))
    await bucket.put("a", io.BytesIO(b"x"))
    assert await S3Objects(s3_bucket).keys("some/where") == ["some/where/a"]
    for wrong in ("gopher://x", "s3://", "file://", "file://elsewhere/x", "/folder"):
        with pytest.raises(ValueError, match="CREWKIT_OBJECT_STORE_URL"):
            open_objects(Settings(object_store_url=wrong))
