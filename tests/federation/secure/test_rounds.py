"""Which runs a coordinator refuses before it asks a device, whatever the run was started with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefl.federation.messages import Arrays, SharesRequest
from edgefl.federation.rounds import RunInvalid
from edgefl.federation.secure import masks
from edgefl.federation.secure.sums import Sum
from tests.federation.signers import Signers
from tests.federation.small import DEVICES, InMemory, Small

TASK = {"module": "./linear_task.py", "parameters": {"local_epochs": 3.0}}  # enough steps that an update is no gradient
ALONE = {"privacy": {"mode": "none"}, "aggregation": {"rule": "mean", "byzantine": 0.0}, "task": TASK}


@pytest.fixture(autouse=True)
def _nothing_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """With which an asynchronous run begins."""
    monkeypatch.setattr(InMemory, "nothing", lambda _: None, raising=False)


@pytest.mark.parametrize("mode", ["masked", "homomorphic"])
@pytest.mark.parametrize(
    ("run", "options", "says"),
    [
        ({"mode": "asynchronous"}, {}, "sums need updates that began with one model"),
        ({"selection": {"strategy": "performance"}}, {}, "sums are of all devices, and a selection leaves some out"),
        ({}, {"rule": "krum"}, "krum judges single updates, and {mode} sums hide them"),
        ({}, {}, "devices' keys cannot be checked: .* has no ca.crt and crl.pem"),
    ],
)
def test_what_sums_cannot_be_made_with_is_refused(
    tmp_path: Path, mode: str, run: dict[str, Any], options: dict[str, Any], says: str
) -> None:
    small = Small(tmp_path, {**ALONE, "secure": {"mode": mode}, "run": run})
    with pytest.raises(RunInvalid, match=says.format(mode=mode)):
        small.run(1, **options)
    assert small.events() == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rule": "median", "byzantine": 0.3}, "4 devices are 2 groups, and median against 1 malicious devices needs 3"),
        ({"rule": "geometric-median", "byzantine": 0.3}, "alone is no defence"),
    ],
)
def test_a_rule_that_so_few_groups_cannot_defend_is_refused(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    small = Small(tmp_path, {**ALONE, "secure": {"mode": "masked", "group_size": 2}})
    with pytest.raises(RunInvalid, match=says):
        small.run(1, **options)
    assert small.events() == []


@pytest.fixture
def made(tmp_path: Path) -> Callable[[str], Small]:
    """A federation whose devices have signing keys, by its mode."""

    def make(mode: str) -> Small:
        small = Small(tmp_path, {**ALONE, "secure": {"mode": mode}})
        small.certify(Signers(tmp_path / "pki", "small"))
        return small

    return make


def bodies(small: Small, kind: str) -> list[dict[str, Any]]:
    return [{**event.body.model_dump(), "round": event.round} for event in small.events() if event.body.type == kind]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["masked", "homomorphic"])
def test_devices_take_part_in_no_sum_whose_keys_the_coordinator_swapped(
    made: Callable[[str], Small], monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    honest = Sum.shares_request

    def lying(sum_: Sum) -> tuple[SharesRequest, Arrays]:
        if sum_.round == 1:
            own = {name: masks.public(masks.fresh()).hex() for name in ("seal", "mask")}
            sum_.keys = {**sum_.keys, "edge-2": sum_.keys["edge-2"].model_copy(update=own)}
        return honest(sum_)

    monkeypatch.setattr(Sum, "shares_request", lying)
    small = made(mode)
    small.run(1, rounds=2)
    refused = {entry["device"]: entry["reason"] for entry in bodies(small, "device_dropped") if entry["round"] == 1}
    for peer in ("edge-1", "edge-3", "edge-4"):
        assert "the keys that came as edge-2's are not known to be its own" in refused[peer]
    assert "not this device's" in refused["edge-2"]
    assert [entry["round"] for entry in bodies(small, "sum_lost")] == [1]
    assert [entry["survivors"] for entry in bodies(small, "sum_unmasked")] == [DEVICES], "the second round's keys are their own"


@pytest.mark.slow
def test_a_device_that_cannot_sign_is_left_out_and_costs_the_others_nothing(made: Callable[[str], Small]) -> None:
    small = made("masked")
    signing = small.places("edge-2").signing
    signing.unlink()
    signing.symlink_to(Signers(small.root / "other", "small")("edge-2"))
    small.run(1, rounds=1)
    [rejected] = bodies(small, "update_rejected")
    assert (rejected["device"], rejected["round"]) == ("edge-2", 1)
    assert "its keys cannot be relied on: it is from another authority" in rejected["detail"]
    assert [entry["survivors"] for entry in bodies(small, "sum_unmasked")] == [["edge-1", "edge-3", "edge-4"]]


LIAR = "edge-4"


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["median", "guard"])
def test_a_rule_over_groups_keeps_the_model_where_honest_devices_want_it(tmp_path: Path, rule: str) -> None:
    """The liar's update is as long as an update may be, and points the other way: within its masks nobody can see that."""
    devices = [f"edge-{number}" for number in range(10)]
    alone = {**ALONE, "run": {"rounds": 1, "quorum": 0.5}}
    honest = Small(tmp_path / "plain", alone, [device for device in devices if device != LIAR])
    sums = {"secure": {"mode": "masked", "group_size": 2, "clip": 10.0}, "aggregation": {"rule": rule, "byzantine": 0.1}}
    small = Small(tmp_path / "sums", {**alone, **sums}, devices)
    for number, device in enumerate(honest.devices):  # the same records on the same device, whatever its place in the list
        for one in (honest, small):
            np.savez(one.root / device / "data" / "records.npz", **records(number))
    lies = {"x": 100 * records(4)["x"], "y": 1 - records(4)["y"]}
    np.savez(small.root / LIAR / "data" / "records.npz", **lies)
    small.certify(Signers(tmp_path / "pki", "small"))
    honest.run(1)
    small.run(1)
    start = honest.model(1, 0)
    np.testing.assert_array_equal(start, small.model(1, 0))
    wanted, given = honest.model(1, 1) - start, small.model(1, 1) - start
    assert np.linalg.norm(given - wanted) < 0.2 * np.linalg.norm(wanted), "the plain mean is half the way off"
    scored = bodies(small, "sum_scored")
    assert [len(entry["members"]) for entry in scored] == [2] * 5
    assert {entry["rule"] for entry in scored} == {rule}
    worst = max(scored, key=lambda entry: float(entry["score"]))
    assert LIAR in worst["members"]


def records(number: int) -> dict[str, np.ndarray]:
    x = np.random.default_rng(number).normal(size=(400, 10)).astype(np.float32)
    return {"x": x, "y": (x @ np.random.default_rng(0).normal(size=10) > 0).astype(np.int64)}


def test_homomorphic_sums_of_a_large_model_are_refused(made: Callable[[str], Small], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgefl.site.modes.MOST_VALUES", 10)
    with pytest.raises(RunInvalid, match="homomorphic sums carry at most 10"):
        made("homomorphic").run(1)
