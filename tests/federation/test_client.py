"""One device's part of a round, without Flower's services: its own terms count, and what it cannot do it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefl.federation import client
from edgefl.federation.aggregation.vectors import Template
from edgefl.federation.hostconfig import APP_VARIABLE, HostConfig, Places
from edgefl.federation.local import initial_arrays
from edgefl.federation.messages import EvaluateRequest, KeysRequest, SecureQuestion, SharesRequest, TrainRequest, pack
from edgefl.federation.privacy.ledger import Ledger
from edgefl.federation.secure import masks
from edgefl.federation.secure.signing import Round, packed, signed
from edgefl.federation.task import load_task
from edgefl.federation.updates import incoming
from tests.federation.signers import Signers

TASK = """
import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset
from edgefl.federation.task import Datasets
PARAMETERS = {"batch_size": 16, "learning_rate": 0.1}
METRICS = ("loss",)
def dataset(directory, parameters):
    x = torch.from_numpy(np.load(directory / "x.npy"))
    records = TensorDataset(x, (x.sum(1) > 0).long())
    return Datasets(records, records)
def model(parameters):
    return nn.Linear(4, 2)
def train(model, batches, optimizer, loss, parameters):
    total = 0.0
    for x, y in batches:
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        total = value.item()
    return {"loss": total}
def evaluate(model, batches, parameters):
    return {"loss": float(sum(nn.functional.cross_entropy(model(x), y, reduction="sum") for x, y in batches))}
"""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """A device with 64 records and its task unpacked from the app."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "task.py").write_text(TASK)
    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data" / "x.npy", np.random.default_rng(1).normal(size=(64, 4)).astype(np.float32))
    places = Places(tmp_path / "etc", tmp_path / "var")
    places.config.mkdir()
    places.ledger.parent.mkdir(parents=True)
    monkeypatch.setenv(APP_VARIABLE, str(tmp_path / "app"))
    for name, value in places.as_environment().items():
        monkeypatch.setenv(name, value)
    configure(places)
    return places


def configure(places: Places, **changes: object) -> HostConfig:
    document = {
        "site": "demo",
        "name": "edge-1",
        "role": "device",
        "coordinator": {"name": "coordinator", "address": "10.77.0.10"},
        "task": {"module": "./tasks/task.py"},
        "run": {"rounds": 2},
        "privacy": {"epsilon_limit": 3.0, "epsilon_per_run": 3.0},
        "data": str(places.config.parent / "data"),
    }
    places.host.write_text(json.dumps({**document, **changes}))
    return HostConfig.load(places.host)


def ask(places: Places, request: TrainRequest | EvaluateRequest, expected: type | None = None) -> tuple[Any, Any]:
    arrays = initial_arrays(load_task("./task.py", places.config.parent / "app"), {}, seed=1)
    return client.answer(pack(request, arrays), expected or type(request), places)


def train_request(round_: int = 1, rounds: int = 2, **changes: object) -> TrainRequest:
    return TrainRequest.model_validate({"run": "9", "round": round_, "rounds": rounds, "seed": 1, **changes})


@pytest.mark.slow
def test_a_round_gives_an_update_with_what_it_cost(places: Places) -> None:
    said, arrays = ask(places, train_request())
    assert (said.kind, said.samples, list(said.metrics)) == ("trained", 64, ["loss"])
    assert arrays.keys() == {"weight", "bias"}
    assert said.privacy.spent == pytest.approx(Ledger(places.ledger).spent(1e-5))
    assert said.train_s > 0


@pytest.mark.slow
def test_a_device_whose_site_compresses_sends_a_small_delta_and_keeps_the_rest(places: Places) -> None:
    configure(places, compression={"mode": "top-k", "keep": 0.3})
    said, arrays = ask(places, train_request())
    start = initial_arrays(load_task("./task.py", places.config.parent / "app"), {}, seed=1)
    delta = incoming(said, arrays, start, Template.of(start))
    assert isinstance(delta, np.ndarray)
    assert np.count_nonzero(delta) == 3
    assert places.feedback.exists()


@pytest.mark.slow
def test_a_round_that_the_budget_does_not_cover_is_refused_in_words(places: Places) -> None:
    for round_ in (1, 2):
        assert ask(places, train_request(round_))[0].kind == "trained"
    said, arrays = ask(places, train_request(3))
    assert said.kind == "refused"
    assert said.spent + said.cost > said.limit == 3.0
    assert "above the limit" in said.reason
    assert arrays is None


@pytest.mark.slow
def test_more_rounds_than_the_host_knows_of_only_add_noise(places: Places) -> None:
    planned = ask(places, train_request(rounds=2))[0].privacy.sigma
    places.ledger.unlink()
    for beside in places.ledger.parent.glob("ledger*"):
        beside.unlink()
    longer = ask(places, train_request(rounds=20))[0].privacy.sigma
    assert longer > planned


@pytest.mark.slow
def test_a_coordinator_cannot_lower_the_devices_noise_by_planning_fewer_rounds(places: Places) -> None:
    assert ask(places, train_request(rounds=1))[0].privacy.sigma == ask(places, train_request(rounds=2))[0].privacy.sigma


def test_a_measurement_carries_no_model(places: Places) -> None:
    said, arrays = ask(places, EvaluateRequest(run="9", round=1))
    assert (said.kind, said.samples, list(said.metrics), arrays) == ("evaluated", 64, ["loss"], None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data": "/nowhere"}, "`dataset` failed: FileNotFoundError"),
        ({"task": {"module": "./missing.py"}}, "there is no task file"),
        ({"privacy": {"delta": 0.005, "epsilon_per_run": 9.0}}, ""),
    ],
)
def test_what_fails_is_said_and_does_not_raise(places: Places, changes: dict[str, object], says: str) -> None:
    configure(places, **changes)
    said, _ = ask(places, train_request())
    assert said.kind == ("failed" if says else "trained")
    assert says in getattr(said, "reason", "")


def test_an_unknown_parameter_of_the_run_is_said(places: Places) -> None:
    said, _ = ask(places, train_request(parameters={"learning_rat": 1.0}))
    assert said.kind == "failed"
    assert "did you mean `learning_rate`" in said.reason


def test_a_message_that_asks_for_something_else_is_refused(places: Places) -> None:
    said, _ = ask(places, EvaluateRequest(run="9", round=1), TrainRequest)
    assert said.kind == "failed"
    assert "it asks for something else: it says evaluate" in said.reason


def test_a_damaged_host_json_trains_nothing(places: Places) -> None:
    places.host.write_text("{")
    said, _ = ask(places, train_request())
    assert said.kind == "failed"
    assert not places.ledger.exists()


MASKED: dict[str, object] = {"secure": {"mode": "masked"}, "devices": ["edge-1", "edge-2"], "privacy": {"mode": "none"}}


def agree(places: Places, request: KeysRequest | SharesRequest, arrays: Any = None) -> Any:
    said, _ = client.answer(pack(request, arrays), SecureQuestion, places)
    return said


@pytest.fixture
def signers(places: Places, tmp_path: Path) -> Signers:
    """The device can sign, and knows by whom its peers' keys may be signed."""
    made = Signers(tmp_path / "pki", "demo")
    made("edge-1").rename(places.signing)
    return made


def begin(places: Places, signers: Signers) -> None:
    """This device's keys and shares for round 1, with a peer that it knows by its keys alone."""
    said = agree(places, KeysRequest(run="9", round=1))
    own = [masks.public(masks.fresh()) for _ in range(2)]
    peer = signed(signers("edge-2"), Round("demo", "9", 1), "edge-2", *own)
    request = SharesRequest(run="9", round=1, members=["edge-1", "edge-2"])
    assert agree(places, request, packed([said, peer])).kind == "shares"


def test_a_masked_update_is_words_and_its_plain_form_is_given_to_nobody(places: Places, signers: Signers) -> None:
    configure(places, **MASKED, task={"module": "./tasks/task.py", "parameters": {"batch_size": 16, "local_epochs": 1.0}})
    said, arrays = ask(places, train_request())
    assert said.kind == "failed"
    assert "asks for this device's update alone" in said.reason
    begin(places, signers)
    said, arrays = ask(places, train_request(sums=[["edge-1", "edge-2"]]))
    assert (said.kind, said.encoding) == ("trained", "masked")
    assert arrays.keys() == {"masked"}
    assert (arrays["masked"].dtype, arrays["masked"].shape) == (np.uint32, (10,))
    again, _ = ask(places, train_request(sums=[["edge-1", "edge-2"]]))
    assert "answers nothing twice" in again.reason


@pytest.mark.parametrize(
    ("secure", "parameters", "says"),
    [
        ({"least_records": 65}, {}, "64 records are on this device, and a masked sum needs 65"),
        ({}, {"batch_size": 64}, "takes 1 steps on this device"),
    ],
)
def test_what_rests_on_too_little_is_not_summed_and_costs_no_budget(
    places: Places, signers: Signers, secure: dict[str, object], parameters: dict[str, object], says: str
) -> None:
    changes = {**MASKED, "privacy": {"epsilon_limit": 3.0, "epsilon_per_run": 3.0}, "secure": {"mode": "masked", **secure}}
    configure(places, **changes, task={"module": "./tasks/task.py", "parameters": parameters})
    begin(places, signers)
    said, _ = ask(places, train_request(sums=[["edge-1", "edge-2"]]))
    assert said.kind == "failed"
    assert says in said.reason
    assert Ledger(places.ledger).spent(1e-5) == 0
