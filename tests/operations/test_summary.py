"""What came of a run as a value: the exact shape of result.json, from events as a coordinator records them."""

from __future__ import annotations

import json
from datetime import datetime
from types import NoneType
from typing import Any

import pytest

from edgefl.monitor.state import FederationState
from edgefl.operations.summary import Stage, Summary
from tests.console.conftest import ATTACKER, story

ACCURACY = (float, NoneType)


def summary_of(state: FederationState, **changes: Any) -> Summary:
    fields: dict[str, Any] = {
        "stages": (Stage("bundle", 1.25), Stage("run", 80.5)),
        "state": state,
        "compromised": (ATTACKER,),
        "clean_floor": 0.81,
        "model": "/site/.edgefl/models/4.safetensors",
        "journal": "coordinator:/var/lib/edgefl/monitor/journal.db",
    }
    return Summary(**{**fields, **changes})


@pytest.fixture(scope="module")
def state() -> FederationState:
    return FederationState().apply_all(story(rounds=5, of=5))


SHAPE = {
    "stages": [{"name": str, "seconds": float}],
    "run": {"id": str, "rounds": int, "accuracy": ACCURACY, "clean_floor": ACCURACY},
    "devices": [
        {
            "name": str,
            "state": str,
            "isolation": bool,
            "cert_expires_at": (str, NoneType),
            "epsilon": {"spent": float, "limit": float},
            "flags": [{"round": int, "rule": str, "score": float}],
        }
    ],
    "compromised": [str],
}


def check(value: Any, shape: Any, where: str = "result") -> None:
    """The value has exactly this shape: at every level the same keys, and values of these types."""
    match shape:
        case dict():
            assert isinstance(value, dict), where
            assert list(value) == list(shape), where
            for key, inner in shape.items():
                check(value[key], inner, f"{where}.{key}")
        case [inner]:
            assert isinstance(value, list), where
            for place, item in enumerate(value):
                check(item, inner, f"{where}[{place}]")
        case _:
            kinds = shape if isinstance(shape, tuple) else (shape,)
            assert type(value) in kinds, f"{where} is {value!r}"


def test_the_result_has_exactly_the_promised_shape(state: FederationState) -> None:
    result = json.loads(json.dumps(summary_of(state).result()))
    check(result, SHAPE)
    assert len(result["devices"]) == 10
    assert all(device["cert_expires_at"] for device in result["devices"])
    assert [device["name"] for device in result["devices"] if device["flags"]] == [ATTACKER]


def test_the_result_of_a_site_on_which_nothing_ran_has_the_same_shape() -> None:
    result = summary_of(FederationState(), stages=(), compromised=(), clean_floor=None).result()
    check(result, SHAPE)
    assert result["run"] == {"id": "", "rounds": 0, "accuracy": None, "clean_floor": None}


def test_the_result_says_what_the_events_say(state: FederationState) -> None:
    result = summary_of(state).result()
    assert (result["run"]["id"], result["run"]["rounds"], result["compromised"]) == ("4", 5, [ATTACKER])
    attacker = next(device for device in result["devices"] if device["name"] == ATTACKER)
    assert [flag["round"] for flag in attacker["flags"]] == [3, 4]
    assert attacker["isolation"] is True
    assert datetime.fromisoformat(attacker["cert_expires_at"]).tzinfo is not None


def test_flags_of_an_earlier_run_are_not_this_runs(state: FederationState) -> None:
    earlier = next(row for row in state.devices.values() if row.name == ATTACKER)
    assert {flag.run for flag in earlier.flags} == {"4"}
    newer = FederationState().apply_all(story(rounds=5, of=5))
    assert newer.run is not None
    from dataclasses import replace

    other = replace(newer, run=replace(newer.run, id="5"))
    assert all(device["flags"] == [] for device in summary_of(other).result()["devices"])
