"""Directories that appear whole or not at all."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from edgefl.fleet import store


def sealed(place: Path, **files: bytes) -> store.Stored:
    partial = store.begin(place)
    for name, content in files.items():
        (partial / name).write_bytes(content)
    return store.seal(partial, place)


def test_what_was_sealed_is_read_back_and_what_was_not_is_not_there(tmp_path: Path) -> None:
    place = tmp_path / "wheels"
    assert store.read(place) is None
    (store.begin(place) / "a").write_bytes(b"1")
    assert store.read(place) is None
    stored = store.seal(store.begin(place), place)
    assert store.read(place) == stored
    assert [file.name for file in stored.files] == ["a"]


def test_a_fetch_that_was_stopped_goes_on_with_what_it_had(tmp_path: Path) -> None:
    (store.begin(tmp_path / "x") / "half").write_bytes(b"1")
    assert (store.begin(tmp_path / "x") / "half").exists()


def test_a_touched_file_is_noticed_and_alone_is_fetched_again(tmp_path: Path) -> None:
    place = tmp_path / "x"
    sealed(place, good=b"1", bad=b"2")
    (place / "bad").write_bytes(b"3")
    assert store.read(place) is None
    partial = store.begin(place)
    assert (partial / "good").exists()
    assert not (partial / "bad").exists()


def test_a_missing_file_is_noticed(tmp_path: Path) -> None:
    sealed(tmp_path / "x", a=b"1", b=b"2")
    (tmp_path / "x" / "a").unlink()
    assert store.read(tmp_path / "x") is None


def test_the_digest_follows_names_and_contents_alone(tmp_path: Path) -> None:
    first = sealed(tmp_path / "1", a=b"1", b=b"2")
    second = sealed(tmp_path / "2", b=b"2", a=b"1")
    os.utime(tmp_path / "2" / "a", (1, 1))
    assert first.digest == second.digest
    assert first.digest != sealed(tmp_path / "3", a=b"2", b=b"1").digest


async def test_only_one_process_fills_a_directory(tmp_path: Path) -> None:
    order: list[str] = []

    async def fill(name: str) -> None:
        async with store.locked(tmp_path / "x"):
            order.append(f"{name} begins")
            await asyncio.sleep(0.05)
            order.append(f"{name} ends")

    await asyncio.gather(fill("one"), fill("two"))
    assert [line.split()[1] for line in order] == ["begins", "ends", "begins", "ends"]
    assert order[0].split()[0] == order[1].split()[0]
