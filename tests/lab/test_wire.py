import pytest

from edgefl.lab.wire import BUFFER_S, Direction


def test_frames_queue_behind_each_other_at_the_rate_and_then_take_the_delay() -> None:
    way = Direction(to=1, rate_bps=8000, delay_s=0.05)
    assert way.arrival(10.0, 100) == pytest.approx(10.15)
    assert way.arrival(10.0, 100) == pytest.approx(10.25)
    assert way.arrival(20.0, 100) == pytest.approx(20.15)


def test_an_unlimited_wire_only_delays() -> None:
    way = Direction(to=1, rate_bps=0, delay_s=0.05)
    assert [way.arrival(1.0, 60_000) for _ in range(3)] == [pytest.approx(1.05)] * 3


def test_a_full_buffer_drops() -> None:
    way = Direction(to=1, rate_bps=8000, delay_s=0)
    sent = [way.arrival(0.0, 100) for _ in range(10)]
    assert None in sent
    assert max(due for due in sent if due is not None) <= BUFFER_S + 0.2
