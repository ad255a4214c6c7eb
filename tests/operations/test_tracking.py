"""Which figures of a round are MLflow's metrics, and what a record of a run says."""

from __future__ import annotations

from math import inf, nan

import pytest
from pydantic_core import to_json

from edgefl.events.schema import Event, RoundFinished, RunFinished, RunStarted, UpdateScored
from edgefl.monitor.evolve import evolve
from edgefl.monitor.state import FederationState
from edgefl.operations.delivery import NotDelivered
from edgefl.operations.tracking import metrics, parameters, record, tracker
from edgefl.site.model import Site
from tests.monitor.happened import DEVICES, happened, started

from .collector import collecting


def test_parameters_are_flat_and_what_is_empty_is_none() -> None:
    said = parameters(started(secure={"mode": "masked", "group_size": None}, policy={"window": 5, "deep": {"er": True}}))
    assert said["devices"] == " ".join(DEVICES)
    assert (said["privacy.mode"], said["privacy.epsilon_limit"]) == ("dp-sgd", "8.0")
    assert (said["secure.mode"], said["policy.window"], said["policy.deep.er"]) == ("masked", "5", "True")
    assert not {"secure.group_size", "resumes", "start"} & said.keys()


def figures(state: FederationState) -> dict[str, float]:
    row = state.rounds[-1]
    found = list(metrics(row, state, row.started))
    assert {one["step"] for one in found} == {row.number}
    return {one["key"]: one["value"] for one in found}


def told(**scores: float) -> FederationState:
    """The state after the first round, in which these devices (`edge_01`) had these scores."""
    events = [scored(event, scores) for event in happened()]
    end = next(place for place, event in enumerate(events) if isinstance(event.body, RoundFinished))
    return FederationState().apply_all(events[: end + 1])


def scored(event: Event, scores: dict[str, float]) -> Event:
    body = event.body
    if not isinstance(body, UpdateScored) or (name := body.device.replace("-", "_")) not in scores:
        return event
    return event.model_copy(update={"body": body.model_copy(update={"score": scores[name]})})


def test_a_round_has_its_figures_and_each_devices() -> None:
    found = figures(told())
    assert (found["accuracy"], found["seconds.train"], found["ratio.up"], found["epsilon.most"]) == (0.8, 6.0, 3.5, 1.5)
    assert (found["participants"], found["dropped"], found["flagged"], found["skipped"]) == (2, 1, 1, 0)
    assert (found["edge-01/epsilon"], found["edge-02/weight"], found["edge-02/score"]) == (1.5, 0.0, 9.0)
    assert not [name for name in found if name.startswith("edge-03/")]
    assert "edge-02/epsilon" not in found, "its ledger said nothing"


def test_what_is_not_finite_is_no_metric() -> None:
    found = figures(told(edge_01=nan, edge_02=inf))
    assert not {"edge-01/score", "edge-02/score"} & found.keys()


def test_a_tasks_own_metric_has_a_name_that_mlflow_takes() -> None:
    state = told()
    row = evolve(state.rounds[-1], metrics={"top-5 (%)": 0.9, "../up": 1.0})
    found = {one["key"]: one["value"] for one in metrics(row, state, row.started)}
    assert (found["top-5 ___"], found[".._up"]) == (0.9, 1.0)


def test_a_record_names_its_event_and_keeps_an_absurd_score() -> None:
    events = happened()
    state = FederationState().apply_all(events)
    flagged = state.devices["edge-02"]
    absurd = evolve(flagged, flags=tuple(evolve(flag, score=inf) for flag in flagged.flags))
    state = evolve(state, devices={**state.devices, "edge-02": absurd})
    ended = events[-1]
    assert isinstance(ended.body, RunFinished)
    said = record(state, ended)
    assert said["journal"] == {"seq": ended.seq, "hash": ended.hash}
    assert list(said["privacy"]["devices"]) == ["edge-01"]
    assert said["robustness"]["devices"]["edge-03"]["dropped"] == 1
    assert b'"score":"Infinity"' in to_json(said, inf_nan_mode="strings")


async def test_a_server_that_is_no_mlflow_is_said_so() -> None:
    with collecting() as other:
        server = other.address.removesuffix("/v1/traces")
        said = {"name": "clinic", "devices": [{"name": "edge-01"}], "observability": {"mlflow": {"server": server}}}
        async with tracker(Site.model_validate(said)) as tracking:
            begun = next(event for event in happened() if isinstance(event.body, RunStarted))
            with pytest.raises(NotDelivered, match=f"{server} refuses with 501"):
                await tracking.take(begun, is_new=True)
            with pytest.raises(NotDelivered, match="answers as no tracking server"):
                tracking._part({"experiment": None}, "experiment", "experiment_id")
