"""Stages one after the other; one that is cut short is closed before anything else happens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from edgefl.operations.stage import chained
from edgefl.progress import Progress, Step


async def stage(name: str, heard: list[str], *, fails: bool = False) -> AsyncIterator[Progress]:
    heard.append(f"{name} begins")
    try:
        yield Step(name, "", "one")
        if fails:
            raise RuntimeError(name)
        yield Step(name, "", "two")
    finally:
        heard.append(f"{name} ends")


async def test_each_begins_when_the_one_before_it_has_ended() -> None:
    heard: list[str] = []
    said = [f"{event.stage} {event.what}" async for event in chained(stage("a", heard), stage("b", heard))]
    assert said == ["a one", "a two", "b one", "b two"]
    assert heard == ["a begins", "a ends", "b begins", "b ends"]


async def test_a_reader_that_leaves_ends_the_stage_it_was_in() -> None:
    heard: list[str] = []
    async with aclosing(chained(stage("a", heard), stage("b", heard))) as events:
        async for _ in events:
            break
    assert heard == ["a begins", "a ends"]


async def test_nothing_follows_a_stage_that_failed() -> None:
    heard: list[str] = []
    with pytest.raises(RuntimeError, match="a"):
        async for _ in chained(stage("a", heard, fails=True), stage("b", heard)):
            pass
    assert heard == ["a begins", "a ends"]
