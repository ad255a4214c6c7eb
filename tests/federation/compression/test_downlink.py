"""Models on their way to devices: the coordinator and every device hold the same bytes, whatever a device lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefl.federation.aggregation.vectors import Template
from edgefl.federation.compression.downlink import Downlink
from edgefl.federation.compression.held import Held, VersionMissing, version_of
from edgefl.federation.messages import DELTA, Model, TrainRequest, size, unpack
from edgefl.site.model import Compression

RNG = np.random.default_rng(4)
REQUEST = TrainRequest(run="1", round=1, rounds=9, seed=1)


def start() -> dict[str, np.ndarray]:
    return {"w": RNG.normal(size=(40, 50)).astype(np.float32), "b": RNG.normal(size=50).astype(np.float32)}


def delta(scale: float = 0.01) -> np.ndarray:
    return (scale * RNG.normal(size=2050)).astype(np.float32)


def received(
    downlink: Downlink, held: Held, arrays: dict[str, np.ndarray], device: str = "a"
) -> tuple[int, dict[str, np.ndarray]]:
    """What a device makes of its message; the whole model when it must ask again, as Question does."""
    content = downlink.contents(REQUEST, arrays, [device])[device]
    took = size(content)
    said, sent = unpack(content)
    try:
        model = held.model(said.model, sent)
    except VersionMissing:
        downlink.missing(device)
        content = downlink.contents(REQUEST, arrays, [device], whole=True)[device]
        took += size(content)
        said, sent = unpack(content)
        model = held.model(said.model, sent)
    downlink.arrived(device)
    return took, model


@pytest.mark.parametrize(("down", "least"), [("none", 0.98), ("cached", 1.9), ("quantised", 5.5)])
def test_both_transfers_of_a_round_are_as_small_as_promised(tmp_path: Path, down: str, least: float) -> None:
    downlink, held, arrays = Downlink(Compression(down=down)), Held(tmp_path / "app" / "model"), start()
    received(downlink, held, arrays)
    took = 0
    for _ in range(3):
        arrays = dict(downlink.moved(arrays, delta()))
        for _ in ("evaluate", "train"):
            more, model = received(downlink, held, arrays)
            took += more
            assert version_of(model) == version_of(arrays)
    whole = 6 * 4 * 2050
    assert whole / (took - 6 * 270) >= least, "the envelope weighs on a model as small as this one"


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(["", "lost", "damaged", "older"]), min_size=1, max_size=6), st.sampled_from(["cached", "quantised"])
)
def test_whatever_a_device_loses_it_ends_with_the_coordinators_bytes(
    tmp_path_factory: pytest.TempPathFactory, troubles: list[str], down: str
) -> None:
    held, downlink, arrays = Held(tmp_path_factory.mktemp("held") / "model"), Downlink(Compression(down=down)), start()
    received(downlink, held, arrays)
    first = held.path.read_bytes()
    for trouble in troubles:
        arrays = dict(downlink.moved(arrays, delta()))
        if trouble == "lost":
            held.path.unlink()
        elif trouble:
            held.path.write_bytes(first if trouble == "older" else b"\xff" * 40)
        _, model = received(downlink, held, arrays)
        assert version_of(model) == version_of(arrays)


def test_a_device_that_missed_a_round_gets_the_whole_model(tmp_path: Path) -> None:
    downlink, held, arrays = Downlink(Compression(down="quantised")), Held(tmp_path / "model"), start()
    received(downlink, held, arrays)
    for _ in range(2):
        arrays = dict(downlink.moved(arrays, delta()))
    said, _ = unpack(downlink.contents(REQUEST, arrays, ["a"])["a"])
    assert said.model.base == ""
    assert version_of(received(downlink, held, arrays)[1]) == version_of(arrays)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_what_a_step_leaves_out_the_next_ones_bring(bits: int) -> None:
    downlink, arrays = Downlink(Compression(down="quantised", down_bits=bits)), start()
    meant = {name: array.astype(np.float64) for name, array in arrays.items()}
    template = Template.of(arrays)
    biggest = 0.0
    for _ in range(30):
        change = delta()
        biggest = max(biggest, float(np.abs(change).max()))
        meant = template_moved(template, meant, change)
        arrays = dict(downlink.moved(arrays, change))
    off = max(float(np.abs(meant[name] - arrays[name]).max()) for name in arrays)
    assert off <= 2 * biggest, "no error adds up over the rounds"


def template_moved(template: Template, arrays: dict[str, np.ndarray], change: np.ndarray) -> dict[str, np.ndarray]:
    moved, place = {}, 0
    for name, shape in template.shapes.items():
        count = int(np.prod(shape))
        moved[name] = arrays[name] + change[place : place + count].reshape(shape)
        place += count
    return moved


@pytest.mark.parametrize("step", [b"", b"EFD1", bytes(60)])
def test_a_step_that_cannot_be_taken_is_asked_for_whole(tmp_path: Path, step: bytes) -> None:
    held, arrays = Held(tmp_path / "model"), start()
    held.model(Model(version=version_of(arrays)), arrays)
    with pytest.raises(VersionMissing):
        held.model(Model(version="0" * 64, base=version_of(arrays)), {DELTA: np.frombuffer(step, np.uint8)})
    with pytest.raises(VersionMissing):
        held.model(Model(version="0" * 64), arrays)


def test_a_disk_that_takes_nothing_costs_the_next_message_and_no_round(tmp_path: Path) -> None:
    (tmp_path / "app").write_text("no directory")
    held, arrays = Held(tmp_path / "app" / "model"), start()
    assert held.model(Model(version=version_of(arrays)), arrays) is arrays
    with pytest.raises(VersionMissing):
        held.model(Model(version=version_of(arrays), base=version_of(arrays)), {DELTA: np.zeros(0, np.uint8)})
