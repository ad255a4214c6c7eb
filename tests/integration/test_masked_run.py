"""Masked rounds over real Flower: every service is the real one, and devices leave a round at each of its stages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from edgefl.federation.aggregation.vectors import Template
from edgefl.federation.loopback import Loopback

from .conftest import Made, bodies, federations, records, site_of

pytestmark = pytest.mark.slow

NAMES = [f"edge-{n}" for n in range(1, 6)]

LEAVES = '''
"""Preloaded on every device: writes down what it trained, and leaves the round at a stage, as TEST_LEAVES says."""
import json, os, signal
from pathlib import Path
import numpy as np
from edgefl.federation.hostconfig import HostConfig, Places
from edgefl.federation.secure import device
from edgefl.federation.secure.vault import SecureRefused

LEAVES = json.loads(os.environ["TEST_LEAVES"])  # {round: {stage: [devices]}}

def leaving(stage, honest, request_at):
    def answer(*arguments):
        request = arguments[request_at]
        name = HostConfig.load(Places.from_environment().host).name
        if stage == "mask":
            np.save(Path(os.environ["TEST_TOLD"]) / f"{request.round}-{name}.npy", arguments[0])
        if name in LEAVES.get(str(request.round), {}).get(stage, []):
            leave(stage)
        return honest(*arguments)
    return answer

def leave(stage):
    if stage == os.environ["TEST_DIES_AT"]:
        os.kill(os.getpid(), signal.SIGKILL)
    raise SecureRefused(f"the test leaves at {stage}")

device.advertise = leaving("advertise", device.advertise, 0)
device.share = leaving("share", device.share, 0)
device.mask = leaving("mask", device.mask, 1)
device.reveal = leaving("reveal", device.reveal, 0)
'''

HOSTILE = '''
"""Preloaded on a device that somebody took over: each round another lie."""
import dataclasses
import numpy as np
from edgefl.federation.secure import device

share, mask, reveal, advertise = device.share, device.mask, device.reveal, device.advertise

def lying_keys(request, *others):
    said = advertise(request, *others)
    return said.model_copy(update={"mask": "00" * 32}) if request.round == 1 else said

def lying_shares(request, *others):
    said, arrays = share(request, *others)
    if request.round == 2:
        return said, {"sealed": arrays["sealed"][:-1], "marks": arrays["marks"]}
    if request.round == 6:
        return said.model_copy(update={"seed_mark": "ab" * 32}), arrays
    return said, arrays

def lying_update(delta, request, *others):
    sent = mask(delta, request, *others)
    if request.round == 3:
        return {"masked": sent["masked"][:-1]}
    if request.round == 4:
        return {"masked": np.random.default_rng(1).integers(0, 2**32, len(sent["masked"]), np.uint32)}
    return sent

def lying_reveal(request, *others):
    said, arrays = reveal(request, *others)
    return said, {"shares": np.full_like(arrays["shares"], 9)} if request.round == 5 else arrays

device.advertise, device.share, device.mask, device.reveal = lying_keys, lying_shares, lying_update, lying_reveal
'''

BETWEEN = '''
"""Preloaded on a coordinator that somebody took over: in the first round it puts keys of its own in a device's place."""
from edgefl.federation.secure import masks, sums

honest = sums.Sum.shares_request

def lying(self):
    if self.round == 1:
        own = {name: masks.public(masks.fresh()).hex() for name in ("seal", "mask")}
        self.keys["edge-2"] = self.keys["edge-2"].model_copy(update=own)
    return honest(self)

sums.Sum.shares_request = lying
'''


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return records(tmp_path_factory, NAMES)


@pytest.fixture
def federation(tmp_path: Path, data: dict[str, Path]) -> Iterator[Made]:
    with federations(tmp_path, data) as make:

        def masked(environment: dict[str, dict[str, str]], rounds: int, secure: dict[str, Any], **aggregation: Any) -> Loopback:
            site = site_of(
                tmp_path,
                NAMES,
                {
                    "run": {"rounds": rounds, "deadline_s": 120, "quorum": 0.6},
                    "aggregation": {"rule": "mean", "byzantine": 0.0, **aggregation},
                    "secure": {"mode": "masked", **secure},
                },
            )
            return make(site, environment=environment)

        yield masked


def test_devices_that_leave_at_any_stage_cost_their_own_update_and_the_sum_stays_right(federation: Made, tmp_path: Path) -> None:
    leaves = {
        1: {"advertise": ["edge-1"]},
        2: {"share": ["edge-2"]},
        3: {"mask": ["edge-3"]},
        4: {"reveal": ["edge-4"]},
        5: {"advertise": ["edge-1"], "share": ["edge-2", "edge-3"]},
    }
    (tmp_path / "leaves.py").write_text(LEAVES)
    (tmp_path / "told").mkdir()
    chosen = {"TEST_LEAVES": json.dumps(leaves), "TEST_TOLD": str(tmp_path / "told"), "TEST_DIES_AT": "mask"}
    chosen |= {"EDGEFL_PRELOAD": "leaves", "PYTHONPATH": str(tmp_path)}
    fed = federation(dict.fromkeys(NAMES, chosen), 6, {})
    run = fed.start_run()
    assert fed.finish(run).outcome == "completed", fed.log("superexec")
    events = fed.events(run)

    dropped = {(entry["round"], entry["device"]) for entry in bodies(events, "device_dropped")}
    assert {(1, "edge-1"), (2, "edge-2"), (3, "edge-3")} <= dropped
    assert (4, "edge-4") not in dropped, "its update was in the sum already"
    unmasked = {entry["round"]: entry for entry in bodies(events, "sum_unmasked")}
    assert [len(unmasked[round_]["survivors"]) for round_ in (1, 2, 3, 4, 6)] == [4, 4, 4, 5, 5]
    [lost] = bodies(events, "sum_lost")
    assert (lost["round"], lost["reason"]) == (5, "2 of 4 devices shared their secrets, and 3 are needed")
    [skipped] = bodies(events, "round_skipped")
    assert skipped["round"] == 5
    assert not bodies(events, "update_scored")
    assert not bodies(events, "flag_raised")
    assert {entry["secure"] for entry in bodies(events, "round_started")} == {"masked"}

    # The model moved by the mean of what the survivors trained, each round.
    models = fed.places("coordinator").models / str(run)
    before = None
    for round_ in (1, 2, 3, 4, 6):
        arrays = load_file(models / f"{round_}.safetensors")
        if before is not None:
            told = [np.load(tmp_path / "told" / f"{round_}-{name}.npy") for name in unmasked[round_]["survivors"]]
            moved = Template.of(arrays).delta(arrays, before)
            np.testing.assert_allclose(moved, np.mean(told, axis=0), atol=1e-6)
        before = arrays
    assert bodies(events, "round_finished")[-1]["accuracy"] > 0.6
    left = [path for name in NAMES for path in fed.places(name).secure.glob("*")]
    assert all(path.name.endswith(("-5", "-6")) for path in left), "secrets go with their round"


def test_a_hostile_device_costs_a_round_at_most_and_is_left_out_once_it_is_certain(federation: Made, tmp_path: Path) -> None:
    (tmp_path / "hostile.py").write_text(HOSTILE)
    fed = federation({"edge-2": {"EDGEFL_PRELOAD": "hostile", "PYTHONPATH": str(tmp_path)}}, 7, {})
    run = fed.start_run()
    assert fed.finish(run).outcome == "completed", fed.log("superexec")
    events = fed.events(run)
    rejected = [(entry["round"], entry["device"], entry["detail"]) for entry in bodies(events, "update_rejected")]
    assert [(round_, device) for round_, device, _ in rejected] == [(1, "edge-2"), (2, "edge-2"), (3, "edge-2")]
    assert "its keys are none" in rejected[0][2]
    assert "no `sealed` of shape (5, 94)" in rejected[1][2]
    assert "it sent uint32" in rejected[2][2]
    lost = {entry["round"]: entry for entry in bodies(events, "sum_lost")}
    assert "a device sent what is none" in lost[4]["reason"]
    assert "shares that edge-2 gave are not of the secret" in lost[6]["reason"]
    assert lost[6]["culprit"] == "edge-2"
    assert set(lost) == {4, 6}, "false shares at the end are left out of round 5"
    left_out = [entry for entry in bodies(events, "device_dropped") if entry["round"] == 7]
    assert [entry["device"] for entry in left_out] == ["edge-2"]
    assert "left out" in left_out[0]["reason"]
    assert [entry["round"] for entry in bodies(events, "round_finished")] == [1, 2, 3, 5, 7]


@pytest.mark.parametrize("mode", ["masked", "homomorphic"])
def test_devices_refuse_keys_that_the_coordinator_put_between_them(federation: Made, tmp_path: Path, mode: str) -> None:
    (tmp_path / "between.py").write_text(BETWEEN)
    fed = federation({"coordinator": {"EDGEFL_PRELOAD": "between", "PYTHONPATH": str(tmp_path)}}, 2, {"mode": mode})
    run = fed.start_run()
    assert fed.finish(run).outcome == "completed", fed.log("superexec")
    events = fed.events(run)
    refused = {entry["device"]: entry["reason"] for entry in bodies(events, "device_dropped") if entry["round"] == 1}
    for peer in ("edge-1", "edge-3", "edge-4", "edge-5"):
        assert "the keys that came as edge-2's are not known to be its own" in refused[peer]
    assert "not this device's" in refused["edge-2"]
    assert [entry["round"] for entry in bodies(events, "sum_lost")] == [1]
    assert [len(entry["survivors"]) for entry in bodies(events, "sum_unmasked")] == [5], (
        "the second round's keys are the devices'"
    )


def test_homomorphic_sums_outlive_a_device_that_drops_out(federation: Made, tmp_path: Path) -> None:
    (tmp_path / "leaves.py").write_text(
        "from edgefl.federation.secure import keeper\n"
        "from edgefl.federation.secure.vault import SecureRefused\n"
        "honest = keeper.encrypt\n"
        "def encrypt(delta, request, *others):\n"
        "    if request.round == 2:\n"
        "        raise SecureRefused('the test leaves')\n"
        "    return honest(delta, request, *others)\n"
        "keeper.encrypt = encrypt\n"
    )
    fed = federation(
        {"edge-1": {"EDGEFL_PRELOAD": "leaves", "PYTHONPATH": str(tmp_path)}}, 2, {"mode": "homomorphic", "threshold": 0.6}
    )
    run = fed.start_run()
    assert fed.finish(run).outcome == "completed", fed.log("superexec")
    events = fed.events(run)
    assert [len(entry["survivors"]) for entry in bodies(events, "sum_unmasked")] == [5, 4]
    assert not bodies(events, "sum_lost")
    assert {entry["secure"] for entry in bodies(events, "round_started")} == {"homomorphic"}
    assert bodies(events, "round_finished")[-1]["accuracy"] > 0.6


def test_groups_are_judged_by_their_means(federation: Made) -> None:
    fed = federation({}, 2, {"group_size": 2, "bits": 8, "keep": 0.9}, rule="median")
    run = fed.start_run()
    assert fed.finish(run).outcome == "completed", fed.log("superexec")
    events = fed.events(run)
    scored = [entry for entry in bodies(events, "sum_scored") if entry["round"] == 2]
    assert {entry["rule"] for entry in scored} == {"median"}
    groups = [entry["members"] for entry in scored]
    assert sorted(map(len, groups)) == [2, 3]
    assert sorted(name for group in groups for name in group) == NAMES
    assert bodies(events, "round_finished")[-1]["accuracy"] > 0.6
