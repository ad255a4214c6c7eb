"""Work spread over cores."""

from __future__ import annotations

import threading

import pytest

from edgefl.federation.aggregation import cores


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("parts", [0, 1, 2, 7, 100])
def test_every_part_is_made_once_and_in_order(monkeypatch: pytest.MonkeyPatch, count: int, parts: int) -> None:
    monkeypatch.setattr(cores, "count", lambda: count)
    asked: list[int] = []

    def twice(part: int) -> int:
        asked.append(part)
        return 2 * part

    assert cores.each(twice, range(parts)) == [2 * part for part in range(parts)]
    assert sorted(asked) == list(range(parts))


def test_parts_are_made_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "count", lambda: 2)
    together = threading.Barrier(2, timeout=60)
    assert len(set(cores.each(lambda _: (together.wait(), threading.get_ident())[1], range(2)))) == 2


def test_what_fails_in_a_part_fails_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "count", lambda: 2)
    with pytest.raises(ZeroDivisionError):
        cores.each(lambda part: 1 // part, [3, 2, 1, 0])
