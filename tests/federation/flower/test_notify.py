"""Telling the supervisor how a service is."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgefl.federation.flower.notify import keep_watchdog, notify, watchdog_interval_s


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


def test_fields_arrive_as_lines(supervisor: socket.socket) -> None:
    assert notify(READY=1, STATUS="listening")
    assert supervisor.recv(100) == b"READY=1\nSTATUS=listening"


def test_without_a_supervisor_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify(READY=1)


def test_a_supervisor_that_went_away_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert not notify(READY=1)


def test_the_watchdog_is_fed_while_the_service_is_alive_and_not_after(
    supervisor: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "60000")
    asked = threading.Event()
    alive = [True, True]

    def is_alive() -> bool:
        if not alive:
            asked.set()
        return alive.pop() if alive else False

    keep_watchdog(is_alive)
    assert [supervisor.recv(100) for _ in range(2)] == [b"WATCHDOG=1"] * 2
    assert asked.wait(60)
    supervisor.setblocking(False)
    with pytest.raises(BlockingIOError):
        supervisor.recv(100)


@pytest.mark.parametrize(("limit", "pid", "interval"), [(None, None, None), ("3000000", None, 1.0), ("3000000", "1", None)])
def test_the_watchdog_wants_a_third_of_its_limit(
    limit: str | None, pid: str | None, interval: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WATCHDOG_USEC", limit), ("WATCHDOG_PID", pid)):
        monkeypatch.delenv(name, raising=False)
        if value:
            monkeypatch.setenv(name, value)
    assert watchdog_interval_s() == interval
