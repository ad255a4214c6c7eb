"""Whole runs with privacy of whole devices: what is given out, what it costs, and what a death in between changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefl.events.journal import Journal
from edgefl.events.schema import ModelPrivacySpent, PrivacySpent, RoundFinished, RunStarted
from edgefl.federation.aggregation.reputation import Reputation
from edgefl.federation.aggregation.rules import build
from edgefl.federation.checkpoint import Models
from edgefl.federation.hostconfig import HostConfig
from edgefl.federation.messages import Trained, unpack
from edgefl.federation.optimisers import Optimiser
from edgefl.federation.privacy.clients import Clipping
from edgefl.federation.privacy.ledger import Ledger
from edgefl.federation.privacy.plan import PrivacyPlan, PrivacyTerms
from edgefl.federation.privacy.release import DIRECTORY, ClientPrivacy, ModelsSpent
from edgefl.federation.received import Received, Stack
from edgefl.federation.rounds import Plan, RunInvalid
from edgefl.federation.run import Run
from edgefl.federation.saving import Memory
from edgefl.site.model import ServerOptimiser
from tests.federation.small import DEVICES, Died, InMemory, Small

ROUNDS = 3
MESSAGES = 2 * len(DEVICES)
"""Of one round: each device trains, then measures."""


def small(root: Path, **privacy: Any) -> Small:
    terms = {"mode": "client", "epsilon_per_run": 4.0, "epsilon_limit": 8.0, "delta": 1e-3, **privacy}
    sections = {"run": {"rounds": ROUNDS, "quorum": 1.0}, "privacy": terms, "aggregation": {"rule": "mean"}}
    return Small(root, sections)


def charges(federation: Small) -> list[tuple[str, int]]:
    ledger = Ledger(federation.places("coordinator").models / DIRECTORY / "ledger.db")
    return [(charge.run, charge.round) for charge in ledger.charges()]


def spent(federation: Small) -> list[ModelPrivacySpent]:
    return [event.body for event in federation.events() if isinstance(event.body, ModelPrivacySpent)]


@pytest.mark.slow
def test_each_round_is_charged_to_the_coordinator_and_none_to_a_device(tmp_path: Path) -> None:
    federation = small(tmp_path, clipping="adaptive")
    federation.run(1)
    assert charges(federation) == [("1", 1), ("1", 2), ("1", 3)]
    said = spent(federation)
    assert 3.9 < said[-1].spent <= 4.0
    assert [one.clip for one in said[1:]] == [one.next_clip for one in said[:-1]]
    assert not any(isinstance(event.body, PrivacySpent) for event in federation.events())
    assert not any(federation.places(device).ledger.exists() for device in DEVICES)
    [started] = [event.body for event in federation.events() if isinstance(event.body, RunStarted)]
    assert started.privacy["mode"] == "client"
    versions = Models(federation.places("coordinator").models).versions()
    assert [version.released for version in versions] == [None, *said]


@pytest.mark.slow
def test_what_devices_get_has_the_noise_that_was_charged(tmp_path: Path) -> None:
    federation = small(tmp_path, epsilon_per_run=0.1, clip_norm=0.01)
    federation.run(1, rounds=1)
    models = Models(federation.places("coordinator").models)
    before, after = (models.arrays(models.find(f"1/{round_}")) for round_ in (0, 1))
    moved = np.sqrt(sum(float(np.square(after[name] - before[name]).sum()) for name in before))
    sigma = spent(federation)[0].sigma
    assert sigma > 10, "so that the noise of 22 values is nearly all that moves the model"
    assert 0.4 < moved / (sigma * 0.01 * np.sqrt(22) / len(DEVICES)) < 1.8


@pytest.mark.slow
@pytest.mark.parametrize("heard", [1, len(DEVICES), len(DEVICES) + 1, MESSAGES - 1])
def test_a_death_in_a_round_charges_it_once_and_shows_one_model_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: int
) -> None:
    """It dies after so many of the second round's messages: devices train, then they measure the model that was made."""
    shown: list[np.ndarray] = []
    ask = InMemory.ask

    def watched(self: InMemory, kind: str, content: Any, device: str) -> Any:
        if kind == "evaluate" and len(charges(federation)) == 2:
            shown.append(np.concatenate([array.ravel() for _, array in sorted(unpack(content)[1].items())]))
        return ask(self, kind, content, device)

    federation = small(tmp_path, clipping="adaptive")
    monkeypatch.setattr(InMemory, "ask", watched)
    with pytest.raises(Died):
        federation.run(1, dies_after=MESSAGES + heard)
    federation.run(2, resume="1")
    assert charges(federation) == [("1", 1), ("1", 2), ("1", 3)]
    assert len(shown) >= len(DEVICES) + max(0, heard - len(DEVICES))
    assert all((model == shown[0]).all() for model in shown), "two models of one round would be two draws of noise"
    assert [event.round for event in federation.events() if isinstance(event.body, RoundFinished)] == [1, 2, 3]
    last = spent(federation)[-1]
    assert last.spent == last.run_spent <= 4.0
    assert last.spent == Ledger(federation.places("coordinator").models / DIRECTORY / "ledger.db").spent(1e-3)


@pytest.mark.slow
def test_a_budget_that_ends_in_a_run_ends_the_run_with_the_last_model_that_it_paid_for(tmp_path: Path) -> None:
    federation = small(tmp_path, epsilon_limit=5.0)
    federation.run(1)
    with pytest.raises(ModelsSpent, match="another round would go above it"):
        federation.run(2)
    done = len(charges(federation))
    assert ROUNDS < done < 2 * ROUNDS
    assert Models(federation.places("coordinator").models).versions()[-1].name == f"2/{done - ROUNDS}"
    federation.configure("coordinator", privacy={**federation.sections["privacy"], "epsilon_limit": 8.0})
    federation.run(3, resume="2")
    assert charges(federation)[ROUNDS:] == [("2", 1), ("2", 2), ("2", 3)]


@pytest.mark.slow
def test_an_update_that_began_with_an_older_model_counts_less(tmp_path: Path) -> None:
    plan = Plan("1", ("a", "b"), 3, 1, 2, 0.1, 7, "mean", 0.0)
    noise = PrivacyPlan(PrivacyTerms(8.0, 4.0, 1e-3, 1.0, 3), 2, 1.0, 1, 3.0)
    clients = ClientPrivacy(noise, "1", Clipping(1.0, 1e-9, 2, False), Ledger(tmp_path / "ledger.db"))
    with Journal(tmp_path / "journal.db") as journal:
        run = Run(
            plan=plan, host=None, task=None, exchange=None, witness=None, downlink=None, journal=journal, saving=None, arrays={},
            rule=build("mean", 0.0), memory=Memory(Reputation(), Optimiser(ServerOptimiser())), clients=clients,
        )  # fmt: skip
        received = Received(deltas=Stack(2), weights={"b": 0.25})
        for device, delta in {"a": [0.5, 0], "b": [0, 40]}.items():
            received.updates[device] = Trained(samples=100, metrics={}, start_s=0, train_s=1, cpu_s=1)
            received.deltas.free(2)[:] = delta
            received.deltas.took(device)
        aggregate = run._aggregate(1, received)
    assert aggregate is not None
    np.testing.assert_allclose(aggregate.delta, [0.25, 0.125], atol=1e-5)
    assert [score.norm for score in aggregate.scores] == [0.5, 40], "what is judged is what was sent"
    assert run.memory.released is not None


def test_another_rule_for_one_run_is_refused(tmp_path: Path) -> None:
    federation = small(tmp_path)
    with pytest.raises(RunInvalid, match="guard judges an update by the others") as refused:
        federation.run(1, rule="guard")
    assert "privacy.mode: dp-sgd, with any rule" in refused.value.hint


def test_devices_train_without_noise_of_their_own(tmp_path: Path) -> None:
    federation = small(tmp_path)
    host = HostConfig.load(federation.places("edge-1").host)
    assert host.privacy.mode == "client"
    exchange = federation.run(1, rounds=1)
    assert [kind for kind, _ in exchange.asked] == ["train"] * len(DEVICES) + ["evaluate"] * len(DEVICES)
    assert not federation.places("edge-1").ledger.parent.exists()
