"""The decisions of a run, as tables of values."""

from __future__ import annotations

import math

import pytest

from edgefl.federation.hostconfig import HostConfig
from edgefl.federation.rounds import Measurement, Plan, RunInvalid, Timing, measured, plan, renewed, resumed, stages

DEVICES = [f"edge-{number}" for number in range(1, 9)]


def host(**changes: object) -> HostConfig:
    document = {
        "site": "demo",
        "name": "coordinator",
        "role": "coordinator",
        "coordinator": {"name": "coordinator", "address": "10.77.0.10"},
        "devices": DEVICES,
        "run": {"rounds": 10, "quorum": 0.7, "deadline_s": 60, "seed": 3},
        "aggregation": {"rule": "guard", "byzantine": 0.25},
    }
    return HostConfig.model_validate({**document, **changes})


def test_a_run_without_overrides_does_what_the_host_says() -> None:
    found = plan(host(), {"rounds": 0, "options": "{}", "deadline-s": 0.0, "quorum": 0}, "7")
    assert found == Plan("7", tuple(DEVICES), 10, 1, 6, 60.0, 3, "guard", 0.25)


@pytest.mark.parametrize(
    ("overrides", "field", "value"),
    [
        ({"rounds": 3}, "rounds", 3),
        ({"first-round": 4}, "first_round", 4),
        ({"quorum": 5}, "quorum", 5),
        ({"deadline-s": 5.5}, "deadline_s", 5.5),
        ({"seed": 11}, "seed", 11),
        ({"options": '{"rule": "median"}'}, "rule", "median"),
        ({"options": '{"byzantine": 0}'}, "byzantine", 0.0),
        ({"options": '{"parameters": {"learning_rate": 0.1}}'}, "parameters", {"learning_rate": 0.1}),
        ({"options": '{"devices": ["edge-2", "edge-5"]}'}, "devices", ("edge-2", "edge-5")),
        ({"options": '{"devices": ["edge-2", "edge-5"]}'}, "quorum", 1),
    ],
)
def test_a_run_may_override(overrides: dict[str, object], field: str, value: object) -> None:
    assert getattr(plan(host(), overrides, "7"), field) == value


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"options": "{"}, "not JSON"),
        ({"options": "[]"}, "no JSON object"),
        ({"options": '{"epsilon": 9}'}, "'epsilon' is unknown"),
        ({"options": '{"devices": ["edge-99"]}'}, "edge-99 is no device"),
        ({"quorum": 9}, "needs 9 devices, and only 8"),
        ({"quorum": 4}, "counts with 4 of 8 updates, but guard against 2 malicious devices needs 5"),
        ({"options": '{"rule": "gard"}'}, "no aggregation rule 'gard'"),
        ({"options": '{"rule": "geometric-median"}'}, "geometric-median alone is no defence against a share of 0.25"),
        ({"options": '{"rule": "z-score", "byzantine": 0.1}'}, "cannot fire"),
        ({"options": '{"rule": "krum", "byzantine": 0.4}'}, "krum against 3 malicious of 8 devices needs at least 9 devices"),
        ({"options": '{"rule": "krum", "byzantine": 0.3}'}, "counts with 6 of 8 updates, but krum against 2 malicious"),
        ({"options": '{"byzantine": 0.5}'}, "no rule withstands a share of 0.5"),
        ({"options": '{"byzantine": NaN}'}, "no rule withstands a share of nan"),
    ],
)
def test_a_run_that_makes_no_sense_is_refused_with_the_reason(overrides: dict[str, object], says: str) -> None:
    with pytest.raises(RunInvalid, match=says):
        plan(host(), overrides, "7")


def test_a_site_that_mixes_mixes_before_a_runs_own_rule_and_refuses_what_does_not_go_with_it() -> None:
    mixing = host(aggregation={"rule": "multi-krum", "byzantine": 0.1, "mixing": "nearest"})
    assert plan(mixing, {"options": '{"rule": "geometric-median"}'}, "7").mixing == "nearest"
    with pytest.raises(RunInvalid, match="guard does not go with mixing"):
        plan(mixing, {"options": '{"rule": "guard"}'}, "7")


def test_how_many_sums_there_are_is_not_asked_of_the_number_of_devices() -> None:
    summed = host(secure={"mode": "masked", "group_size": 2}, aggregation={"rule": "median", "byzantine": 0.1})
    assert plan(summed, {"quorum": 1}, "7").quorum == 1
    with pytest.raises(RunInvalid, match="alone is no defence"):
        plan(summed, {"options": '{"rule": "norm-clipping"}'}, "7")


def test_a_resumed_run_begins_after_the_last_saved_round_and_refuses_when_nothing_is_left() -> None:
    planned = plan(host(), {"options": '{"resume": "6"}'}, "7")
    assert resumed(planned, 4).first_round == 5
    with pytest.raises(RunInvalid, match="nothing is left"):
        resumed(planned, 10)


def measurements(*accuracies: float, samples: int = 100) -> list[Measurement]:
    return [Measurement(f"edge-{place}", samples, {"accuracy": value}) for place, value in enumerate(accuracies)]


def test_equal_devices_give_their_mean() -> None:
    assert measured(measurements(0.8, 0.9), excluded=[]) == {"accuracy": pytest.approx(0.85)}


@pytest.mark.parametrize("lie", [math.nan, math.inf, -1e30, 1e30, 0.0])
def test_one_liar_does_not_move_the_measurement(lie: float) -> None:
    found = measured([*measurements(0.90, 0.91, 0.92, 0.93), Measurement("liar", 100, {"accuracy": lie})], excluded=[])
    assert found["accuracy"] == pytest.approx(0.915, abs=0.01)


def test_a_claim_of_many_records_weighs_at_most_three_median_devices() -> None:
    found = measured([*measurements(0.5, 0.5, 0.6, 0.6), Measurement("big", 10**9, {"accuracy": 0.7})], excluded=[])
    assert found["accuracy"] == pytest.approx((2 * 0.5 + 2 * 0.6 + 3 * 0.7) / 7)


def test_flagged_devices_are_not_heard_unless_nobody_else_is() -> None:
    honest, flagged = measurements(0.9, 0.9), Measurement("edge-9", 100, {"accuracy": 0.88})
    assert measured([*honest, flagged], excluded=["edge-9"]) == {"accuracy": pytest.approx(0.9)}
    assert measured([flagged], excluded=["edge-9"]) == {"accuracy": pytest.approx(0.88)}


def test_a_metric_counts_when_most_report_it_and_nothing_comes_of_nothing() -> None:
    odd = Measurement("edge-9", 100, {"accuracy": 0.9, "own": 1.0})
    assert measured([*measurements(0.9, 0.9), odd], excluded=[]).keys() == {"accuracy"}
    assert measured([], excluded=[]) == {}
    assert measured(measurements(0.9, samples=0), excluded=[]) == {}


def test_a_rounds_seconds_are_those_of_the_reply_that_came_last() -> None:
    quick, slow = Timing("a", 2.0, 0.1, 1.0), Timing("b", 9.0, 0.5, 7.0)
    assert stages([quick, slow], send=0.2, score=0.01, aggregate=0.02, evaluate=1.5) == {
        "send": 0.2, "start": 0.5, "train": 7.0, "upload": 1.5, "score": 0.01, "aggregate": 0.02, "evaluate": 1.5,
    }  # fmt: skip


def test_a_device_that_claims_more_time_than_passed_gives_no_negative_transfer() -> None:
    assert Timing("a", 1.0, 5.0, 5.0).transfer_s == 0.0


def test_a_run_follows_the_sites_devices_unless_its_own_were_chosen() -> None:
    site, going = host(), plan(host(), {}, "7")
    assert renewed(going, site, DEVICES) is going
    more = renewed(going, site, [*DEVICES, "edge-9", "edge-10"])
    assert (more.devices[-2:], more.quorum) == (("edge-9", "edge-10"), 7)
    assert renewed(plan(host(), {"quorum": 7}, "7"), site, [*DEVICES, "edge-9"]).quorum == 7
    chosen = plan(host(), {"options": '{"devices": ["edge-2", "edge-5"], "rule": "mean", "byzantine": 0}'}, "7")
    assert renewed(chosen, site, [*DEVICES, "edge-9"]) is chosen
    assert renewed(chosen, site, DEVICES[2:]).devices == ("edge-5",)
    with pytest.raises(RunInvalid, match="needs 6 devices, and the site has 5"):
        renewed(plan(host(), {"quorum": 6}, "7"), site, DEVICES[:5])
    with pytest.raises(RunInvalid):
        renewed(plan(host(), {"options": '{"rule": "krum"}'}, "7"), site, DEVICES[:2])
