"""Pooled training learns what the federation learns, in as many steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgefl.federation.privacy.audits.baseline import baseline, centralised, federated
from edgefl.federation.privacy.audits.results import Curve
from edgefl.federation.privacy.audits.subject import Subject
from edgefl.federation.privacy.plan import PrivacyTerms
from edgefl.federation.task import load_task
from edgefl.site.model import Aggregation, ServerOptimiser

MEAN = Aggregation(rule="mean", byzantine=0.0)
TASK = Path(__file__).parents[2] / "tiny_task.py"


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    directories = []
    for number in range(3):
        rng = np.random.default_rng(number)
        x = rng.standard_normal((120, 4)).astype(np.float32)
        directories.append(tmp_path / f"edge-{number}")
        directories[-1].mkdir()
        np.savez(directories[-1] / "records.npz", x=x, y=(x[:, 0] + x[:, 1] > 0).astype(np.int64))
    task = load_task(str(TASK))
    return Subject(task, task.settle({}), PrivacyTerms(8.0, 4.0, 1e-5, 1.0, 3), private=False, directories=directories)


def curve(events) -> Curve:
    *_, found = events
    assert isinstance(found, Curve)
    return found


@pytest.mark.slow
def test_without_privacy_both_ways_learn_and_each_round_is_measured(subject):
    found = [curve(federated(subject, MEAN)), curve(centralised(subject, noise=False))]
    for one in found:
        assert len(one.metrics) == 3
        assert one.epsilon is None
        assert one.metrics[-1]["loss"] < one.metrics[0]["loss"]
    result = baseline(subject, found)
    assert (result.devices, result.records) == (3, 360)
    assert set(result.figures) == {"federated", "centralised"}


@pytest.mark.slow
def test_the_sites_own_optimiser_and_layers_are_part_of_its_training(subject):
    still = MEAN.model_copy(update={"optimiser": ServerOptimiser(name="momentum", learning_rate=1e-9)})
    first, *_, last = curve(federated(subject, still)).metrics
    assert last["loss"] == pytest.approx(first["loss"], abs=1e-5), "the coordinator moves the model by next to nothing"
    first, *_, last = curve(federated(subject, still, ["2.*"])).metrics
    assert last["loss"] != pytest.approx(first["loss"], abs=1e-5), "what is each device's own is trained there"


@pytest.mark.slow
def test_noise_costs_and_is_the_claimed_one(subject):
    private = replace(subject, private=True)
    noisy, clean = curve(centralised(private, noise=True)), curve(centralised(private, noise=False))
    assert (noisy.name, noisy.epsilon) == ("centralised, ε 4", 4.0)
    assert (clean.name, clean.epsilon) == ("centralised, no noise", None)
    assert clean.metrics[-1]["loss"] < clean.metrics[0]["loss"]
    assert clean.metrics != noisy.metrics
