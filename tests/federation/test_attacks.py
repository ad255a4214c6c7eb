"""The lab's attacks: what they make of a reply, and that one can be planted in a client from outside."""

import subprocess
import sys

import numpy as np
import pytest

from edgefl.lab import attacks

START = {"w": np.ones((2, 3), np.float32)}
HONEST = attacks.Sent({"w": np.full((2, 3), 1.5, np.float32)}, 100, {"loss": 0.1})
RNG = np.random.default_rng(0)


def test_flipping_scaling_and_noise_keep_the_reply_well_formed() -> None:
    for attack, expected in ((attacks.sign_flip, 0.5), (attacks.scaling, 6.0), (attacks.reversal, -4.0)):
        sent = attack(HONEST, START, RNG)
        np.testing.assert_allclose(sent.arrays["w"], expected)
        assert sent.arrays["w"].dtype == np.float32
    noise = attacks.gaussian(HONEST, START, RNG).arrays["w"] - START["w"]
    assert 0.2 < np.linalg.norm(noise) / np.linalg.norm(HONEST.arrays["w"] - START["w"]) < 3


def test_poisoned_data_keep_their_shape() -> None:
    pictures, labels = np.zeros((20, 1, 28, 28), np.float32), np.arange(20) % 10
    assert list(attacks.flip_labels(pictures, labels)[1][:3]) == [9, 8, 7]
    poisoned, taught = attacks.backdoor(pictures + np.eye(28, dtype=np.float32), labels)
    assert (taught[:10] == 0).all()
    assert (taught[10:] == labels[10:]).all()
    assert (poisoned[:10, 0, :4, :4] == 1).all()


@pytest.mark.parametrize(("text", "expected"), [("sign_flip:3", (attacks.sign_flip, 3)), ("nan", (attacks.not_a_number, 1))])
def test_an_attack_is_named_with_its_first_round(text: str, expected: tuple[object, int]) -> None:
    assert attacks.parse(text) == expected


def test_an_unknown_attack_is_refused() -> None:
    with pytest.raises(ValueError, match="no attack 'tickle'; one of sign_flip"):
        attacks.parse("tickle:2")


@pytest.mark.slow
def test_a_compromised_clients_updates_are_bent_from_the_first_round_on() -> None:
    """In a process of its own, as the warm executor loads it: importing the module with the variable set plants the attack."""
    code = """
import numpy as np, sys, types
from edgefl.federation import local
honest = local.LocalUpdate({"w": np.full(2, 1.5, np.float32)}, 10, {"loss": 0.1}, None, 0.0, 0.0)
def train_locally(task, arrays, parameters, directory, privacy, ledger, run, round, seed): return honest
client = types.ModuleType("edgefl.federation.client"); client.train_locally = train_locally
sys.modules["edgefl.federation.client"] = client
import edgefl.lab.attacks
start = {"w": np.ones(2, np.float32)}
sent = [client.train_locally(None, start, {}, None, None, None, "run", number, 7).arrays["w"][0] for number in (1, 2, 3, 4)]
print([float(value) for value in sent])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"EDGEFL_ATTACK": "sign_flip:3", "PATH": "/usr/bin"},
        check=False,
    )
    assert done.stdout.strip() == "[1.5, 1.5, 0.5, 0.5]", done.stderr
