"""Homomorphic sums without Flower: devices with files of their own, and a coordinator that adds what it cannot read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefl.federation.hostconfig import HostConfig
from edgefl.federation.messages import Arrays, KeysRequest, Said, TrainRequest, pack, unpack
from edgefl.federation.secure import ckks, keeper
from edgefl.federation.secure.ciphers import CipherSum
from edgefl.federation.secure.keeper import SUM
from edgefl.federation.secure.selection import Selection
from edgefl.federation.secure.sums import Malformed, SumLost, checked
from edgefl.federation.secure.vault import SecureRefused, Vault
from tests.federation.signers import Signers

P = 5000
NAMES = ["edge-0", "edge-1", "edge-2", "edge-3"]
GENERATOR = np.random.default_rng(5)


def travelled(said: Said, arrays: Arrays | None = None) -> tuple[Any, Arrays]:
    return unpack(pack(said, arrays))


class Fleet:
    def __init__(self, root: Path, signers: Signers, **secure: Any) -> None:
        self.root, self.signers, self.secure = root, signers, {"mode": "homomorphic", "clip": 100.0, **secure}
        self.deltas = {name: GENERATOR.normal(size=P).astype(np.float32) for name in NAMES}

    def host(self, name: str) -> HostConfig:
        return HostConfig.model_validate({
            "site": "s", "name": name, "role": "device", "coordinator": {"name": "c", "address": "192.0.2.1"},
            "devices": NAMES, "secure": self.secure,
        })  # fmt: skip

    def ask(self, name: str, said: Said, arrays: Arrays | None = None) -> tuple[Any, Arrays]:
        request, beside = travelled(said, arrays)
        return travelled(*keeper.answer(request, beside, self.host(name), Vault(self.root / name), self.signers(name)))

    def begin(self) -> CipherSum:
        """Everyone has keys, edge-0 makes the round's, the others hold it."""
        keys: dict[str, Any] = {}
        for name in NAMES:
            keys[name] = checked(self.ask(name, KeysRequest(run="r", round=1))[0], keys)
        made = CipherSum("r", 1, tuple(NAMES), keys, self.host("edge-0").secure.needed(4), Selection(), P)
        made.kept("edge-0", self.ask("edge-0", *made.context_request())[1])
        for name in NAMES[1:]:
            assert self.ask(name, *made.hold_request())[0].kind == "holding"
            made.holders.append(name)
        return made

    def encrypt(self, made: CipherSum, *names: str) -> None:
        request = TrainRequest(run="r", round=1, rounds=1, seed=1, sums=[made.among])
        for name in names:
            made.take(name, "encrypted", keeper.encrypt(self.deltas[name], request, self.host(name), Vault(self.root / name)))


def test_the_coordinator_adds_what_it_cannot_read_and_devices_decrypt_the_sum(tmp_path: Path, signers: Signers) -> None:
    fleet = Fleet(tmp_path, signers)
    made = fleet.begin()
    fleet.encrypt(made, "edge-0", "edge-1", "edge-3")  # edge-2 drops out
    for name in ("edge-0", "edge-3"):
        made.open(name, fleet.ask(name, *made.open_request())[1])
    expected = np.mean([fleet.deltas[name] for name in ("edge-0", "edge-1", "edge-3")], axis=0)
    np.testing.assert_allclose(made.mean(fleet.host("edge-0").secure), expected, atol=1e-6)
    assert list((tmp_path / "edge-0").iterdir()) == [], "the key is gone with the round"
    with pytest.raises(ckks.CipherWrong):
        ckks.decrypt(made.encrypted.arrays(), P + 1, ckks.fresh_context())
    other = ckks.decrypt(made.encrypted.arrays(), P, ckks.fresh_context())
    assert not np.allclose(other, expected * 3, atol=1.0), "another key opens nothing"


def test_a_device_that_decrypts_a_lie_is_outvoted_and_two_liars_lose_the_sum(tmp_path: Path, signers: Signers) -> None:
    fleet = Fleet(tmp_path, signers)
    made = fleet.begin()
    fleet.encrypt(made, *NAMES)
    made.open("edge-1", {SUM: np.ones(P, np.float32)})
    with pytest.raises(SumLost, match="1 devices decrypted the sum, and no two"):
        made.mean(fleet.host("edge-0").secure)
    for name in ("edge-0", "edge-2"):
        made.open(name, fleet.ask(name, *made.open_request())[1])
    np.testing.assert_allclose(made.mean(fleet.host("edge-0").secure), np.mean(list(fleet.deltas.values()), axis=0), atol=1e-6)
    with pytest.raises(Malformed):
        made.open("edge-3", {SUM: np.full(P, np.nan, np.float32)})


def test_nothing_is_decrypted_twice_or_for_too_few(tmp_path: Path, signers: Signers) -> None:
    fleet = Fleet(tmp_path, signers)
    made = fleet.begin()
    fleet.encrypt(made, "edge-0", "edge-1")
    with pytest.raises(SecureRefused, match="2 of 4 updates"):
        fleet.ask("edge-0", *made.open_request())
    with pytest.raises(SumLost, match="2 of 4 devices sent their updates"):
        made.mean(fleet.host("edge-0").secure)
    fleet.encrypt(made, "edge-2")
    fleet.ask("edge-0", *made.open_request())
    with pytest.raises(SecureRefused, match="has no secrets"):
        fleet.ask("edge-0", *made.open_request())


def test_a_key_that_was_sealed_by_nobody_is_not_kept(tmp_path: Path, signers: Signers) -> None:
    fleet = Fleet(tmp_path, signers)
    keys: dict[str, Any] = {}
    for name in NAMES:
        keys[name] = checked(fleet.ask(name, KeysRequest(run="r", round=1))[0], keys)
    made = CipherSum("r", 1, tuple(NAMES), keys, 3, Selection(), P)
    with pytest.raises(SumLost, match="no device made"):
        made.hold_request()
    made.kept("edge-0", fleet.ask("edge-0", *made.context_request())[1])
    made.keeper = "edge-2"
    with pytest.raises(SecureRefused, match="not one that edge-2 sealed"):
        fleet.ask("edge-1", *made.hold_request())


@pytest.mark.parametrize("change", ["empty", "short", "lengths", "zeros", "damaged", "other scale"])
def test_hostile_ciphertexts_are_refused_and_do_not_end_the_coordinator(change: str) -> None:
    total, secret = ckks.Total(P), ckks.fresh_context()
    honest = ckks.encrypt(np.ones(P, np.float32), secret)
    total.add(honest)
    arrays = {name: array.copy() for name, array in honest.items()}
    if change == "empty":
        arrays = {}
    elif change == "short":
        arrays[ckks.CIPHER] = arrays[ckks.CIPHER][:-1]
    elif change == "lengths":
        arrays[ckks.LENGTHS] = np.array([2**32 - 1, 5], np.uint32)
    elif change == "zeros":
        arrays[ckks.CIPHER][:] = 0
    elif change == "damaged":
        arrays[ckks.CIPHER][:40] ^= 0xFF
    else:
        import tenseal

        context = tenseal.context_from(secret)
        context.global_scale = 2.0**30
        pieces = [tenseal.ckks_vector(context, [1.0] * count).serialize() for count in (ckks.SLOTS, P - ckks.SLOTS)]
        arrays = dict(ckks.packed(pieces))
    with pytest.raises(ckks.CipherWrong):
        total.add(arrays)
    np.testing.assert_allclose(ckks.decrypt(total.arrays(), P, secret), 1.0, atol=1e-6)
