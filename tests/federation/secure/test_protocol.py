"""Whole masked sums without Flower: devices with files of their own, and a coordinator that relays."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefl.federation.compression.feedback import Feedback
from edgefl.federation.hostconfig import HostConfig
from edgefl.federation.messages import MASKED, Arrays, KeysRequest, Said, Shares, TrainRequest, pack, unpack
from edgefl.federation.secure import device, shamir
from edgefl.federation.secure.selection import Selection
from edgefl.federation.secure.signing import KEYS
from edgefl.federation.secure.sums import Malformed, Sum, SumLost, checked
from edgefl.federation.secure.vault import SecureRefused, Vault
from edgefl.site.model import Secure
from tests.federation.signers import Signers

P = 300
GENERATOR = np.random.default_rng(5)


def travelled(said: Said, arrays: Arrays | None = None) -> tuple[Any, Arrays]:
    return unpack(pack(said, arrays))


@dataclass
class Fleet:
    """Devices that answer, and the sum that their coordinator makes. deltas: what each has trained."""

    root: Path
    signers: Signers
    names: list[str]
    secure: dict[str, Any] = field(default_factory=dict)
    selection: Selection = field(default_factory=Selection)
    round: int = 1

    def __post_init__(self) -> None:
        self.deltas = {name: GENERATOR.normal(size=P).astype(np.float32) for name in self.names}

    def host(self, name: str) -> HostConfig:
        return HostConfig.model_validate({
            "site": "s", "name": name, "role": "device", "coordinator": {"name": "c", "address": "192.0.2.1"},
            "devices": self.names, "run": {"quorum": 0.3}, "secure": {"mode": "masked", "clip": 100.0, **self.secure},
        })  # fmt: skip

    def vault(self, name: str) -> Vault:
        return Vault(self.root / name / "secure")

    def advertise(self, names: Collection[str]) -> Sum:
        keys = {}
        for name in names:
            request = KeysRequest(run="r", round=self.round)
            said, _ = travelled(device.advertise(request, self.host(name), self.vault(name), self.signers(name)))
            keys[name] = checked(said, keys)
        terms = self.host(self.names[0]).secure
        return Sum("r", self.round, tuple(names), keys, terms.needed(len(keys)), self.selection, P)

    def share(self, made: Sum, names: Collection[str]) -> None:
        request, arrays = travelled(*made.shares_request())
        for name in names:
            answer = device.share(request, arrays, self.host(name), self.vault(name), self.signers(name))
            made.shared(name, *travelled(*answer))

    def mask(self, made: Sum, names: Collection[str]) -> None:
        request = TrainRequest(run="r", round=self.round, rounds=3, seed=1, sums=[made.among])
        for name in names:
            feedback = Feedback(self.root / name / "feedback")
            sent = device.mask(self.deltas[name], request, self.host(name), self.vault(name), feedback)
            made.take(name, "masked", sent)

    def reveal(self, made: Sum, names: Collection[str]) -> None:
        for name in names:
            request, arrays = travelled(*made.unmask_request(name))
            made.reveal(name, travelled(*device.reveal(request, arrays, self.host(name), self.vault(name)))[1])

    def total(self, made: Sum) -> np.ndarray:
        return self.selection.decode(made.unmasked(), P, self.host(self.names[0]).secure, len(made.members))


def names(count: int) -> list[str]:
    return [f"edge-{n}" for n in range(count)]


KEYS_ONLY, SHARED, SENT, STAYED = 1, 2, 3, 4
"""The last stage that a device answers; 0 is none."""


@st.composite
def stages(draw: st.DrawFn, *, enough: bool) -> list[int]:
    """Each device's last stage. As many stay to the end as a sum needs, or fewer; the others leave anywhere before it."""
    members = draw(st.integers(2, 7))
    need = Secure().needed(members)
    stay = draw(st.integers(need, members) if enough else st.integers(0, need - 1))
    others = draw(st.lists(st.sampled_from([KEYS_ONLY, SHARED, SENT]), min_size=members - stay, max_size=members - stay))
    absent = draw(st.lists(st.just(0), max_size=1))
    return list(draw(st.permutations([STAYED] * stay + others + absent)))


def lived(fleet: Fleet, last: list[int]) -> tuple[Sum, np.ndarray]:
    """A round as the coordinator leads it: its sum, and what the sum must be. Raises SumLost."""
    alive = [[name for name, stage in zip(fleet.names, last, strict=True) if stage >= at] for at in range(5)]
    made = fleet.advertise(alive[KEYS_ONLY])
    fleet.share(made, alive[SHARED])
    made.require(made.among, "shared")
    fleet.mask(made, alive[SENT])
    made.require(made.survivors, "sent")
    fleet.reveal(made, alive[STAYED])
    return made, np.sum([fleet.deltas[name] for name in alive[SENT]], axis=0)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(stages(enough=True))
def test_the_masks_cancel_for_every_set_of_dropouts_that_leaves_the_threshold(signers: Signers, last: list[int]) -> None:
    with TemporaryDirectory() as root:
        fleet = Fleet(Path(root), signers, names(len(last)))
        made, expected = lived(fleet, last)
        found = fleet.total(made)
        step = 100.0 / made.code.levels
        np.testing.assert_allclose(found, expected, atol=len(last) * step + 1e-5)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(stages(enough=False))
def test_below_the_threshold_there_is_no_sum_whenever_the_others_left(signers: Signers, last: list[int]) -> None:
    with TemporaryDirectory() as root:
        fleet = Fleet(Path(root), signers, names(len(last)))
        with pytest.raises(SumLost, match="are needed"):
            lived(fleet, last)[0].unmasked()


def begun(tmp_path: Path, signers: Signers, count: int = 5, **secure: Any) -> tuple[Fleet, Sum]:
    fleet = Fleet(tmp_path, signers, names(count), secure)
    made = fleet.advertise(fleet.names)
    fleet.share(made, fleet.names)
    return fleet, made


def test_a_masked_update_alone_is_noise_and_the_files_are_gone_afterwards(tmp_path: Path, signers: Signers) -> None:
    fleet, made = begun(tmp_path, signers)
    fleet.deltas = {name: np.zeros(P, np.float32) for name in fleet.names}
    request = TrainRequest(run="r", round=1, rounds=3, seed=1, sums=[made.among])
    sent = [
        device.mask(fleet.deltas[n], request, fleet.host(n), fleet.vault(n), Feedback(tmp_path / n))[MASKED] for n in fleet.names
    ]
    for words in sent:
        assert abs(words.astype(np.float64).mean() / 2**32 - 0.5) < 0.1
        assert len(np.unique(words)) == P
    for name, words in zip(fleet.names, sent, strict=True):
        made.take(name, "masked", {MASKED: words})
    [secrets] = fleet.vault("edge-0").directory.iterdir()
    assert secrets.stat().st_mode & 0o777 == 0o600
    fleet.reveal(made, fleet.names)
    assert not fleet.total(made).any()
    assert list(fleet.vault("edge-0").directory.iterdir()) == []


def test_no_stage_is_answered_twice_and_no_other_list_of_survivors(tmp_path: Path, signers: Signers) -> None:
    fleet, made = begun(tmp_path, signers)
    with pytest.raises(SecureRefused, match="answers nothing twice"):
        fleet.share(made, ["edge-0"])
    fleet.mask(made, fleet.names[:4])
    with pytest.raises(SecureRefused, match="answers nothing twice"):
        fleet.mask(made, ["edge-1"])
    fleet.reveal(made, ["edge-0"])
    made.survivors = fleet.names[1:]
    with pytest.raises(SecureRefused, match="has no secrets"):
        fleet.reveal(made, ["edge-0"])


def test_a_device_reveals_nothing_for_too_few_survivors_or_strangers(tmp_path: Path, signers: Signers) -> None:
    fleet, made = begun(tmp_path, signers)
    fleet.mask(made, fleet.names)
    made.survivors = fleet.names[:3]
    with pytest.raises(SecureRefused, match="3 of 5 updates"):
        fleet.reveal(made, ["edge-0"])
    made.survivors = ["edge-0", "edge-1", "edge-2", "stranger"]
    with pytest.raises(SecureRefused, match="others than before"):
        fleet.reveal(made, ["edge-0"])


def test_a_device_joins_no_sum_smaller_than_its_own_terms_allow(tmp_path: Path, signers: Signers) -> None:
    fleet = Fleet(tmp_path, signers, names(10), {"group_size": 4})
    made = fleet.advertise(fleet.names[:3])
    with pytest.raises(SecureRefused, match="takes part in sums of 4"):
        fleet.share(made, ["edge-0"])
    with pytest.raises(SecureRefused, match="asks for no secure sums"):
        device.advertise(KeysRequest(run="r", round=1), HostConfig.model_validate(
            {**json.loads(fleet.host("edge-0").model_dump_json()), "secure": None}), fleet.vault("edge-0"),
            signers("edge-0"))  # fmt: skip


@pytest.mark.parametrize("change", ["own", "copied", "low order"])
def test_keys_that_a_lying_coordinator_puts_in_are_refused(tmp_path: Path, signers: Signers, change: str) -> None:
    fleet = Fleet(tmp_path, signers, names(4))
    made = fleet.advertise(fleet.names)
    request, arrays = travelled(*made.shares_request())
    keys = arrays[KEYS].copy()
    if change == "own":
        keys[0, 1, 3] ^= 1
    elif change == "copied":
        keys[1] = keys[2]
    else:
        keys[2] = 0
    with pytest.raises(SecureRefused, match="keys"):
        device.share(request, {**arrays, KEYS: keys}, fleet.host("edge-0"), fleet.vault("edge-0"), signers("edge-0"))


def test_shares_that_a_device_lies_about_are_left_out_while_enough_are_true(tmp_path: Path, signers: Signers) -> None:
    fleet, made = begun(tmp_path, signers, threshold=0.6)
    fleet.mask(made, fleet.names[:4])
    fleet.reveal(made, fleet.names[:4])
    made.revealed["edge-1"] = np.full((5, shamir.SHARE), 7, np.uint8)
    expected = np.sum([fleet.deltas[name] for name in fleet.names[:4]], axis=0)
    np.testing.assert_allclose(fleet.total(made), expected, atol=1e-5)
    made.revealed["edge-2"] = made.revealed["edge-1"]
    with pytest.raises(SumLost, match="2 shares are there, and 3 are needed"):
        made.unmasked()


def test_a_device_whose_shares_give_another_secret_is_named(tmp_path: Path, signers: Signers) -> None:
    fleet = Fleet(tmp_path, signers, names(4))
    made = fleet.advertise(fleet.names)
    fleet.share(made, fleet.names[:3])
    request, arrays = travelled(*made.shares_request())
    _, sent = device.share(request, arrays, fleet.host("edge-3"), fleet.vault("edge-3"), signers("edge-3"))
    made.shared("edge-3", Shares(seed_mark="ab" * 32), sent)
    fleet.mask(made, fleet.names)
    fleet.reveal(made, fleet.names)
    with pytest.raises(SumLost, match="edge-3 gave are not of the secret") as lost:
        made.unmasked()
    assert lost.value.culprit == "edge-3"


def test_seals_that_do_not_open_are_no_shares(tmp_path: Path, signers: Signers) -> None:
    fleet = Fleet(tmp_path, signers, names(4))
    made = fleet.advertise(fleet.names)
    fleet.share(made, fleet.names)
    made.sharings["edge-3"].sealed.setflags(write=True)
    made.sharings["edge-3"].sealed[:] = 0
    fleet.mask(made, fleet.names)
    fleet.reveal(made, fleet.names)
    with pytest.raises(SumLost, match="edge-3's secret cannot be joined: 0 shares") as lost:
        made.unmasked()
    assert lost.value.culprit == "edge-3"


def test_malformed_answers_are_said_to_be_so(tmp_path: Path, signers: Signers) -> None:
    _, made = begun(tmp_path, signers)
    for packed in (np.zeros(P - 1, np.uint32), np.zeros(P, np.float32), np.zeros((P, 1), np.uint32)):
        with pytest.raises(Malformed, match="it sent"):
            made.take("edge-0", "masked", {MASKED: packed})
    with pytest.raises(Malformed, match="no `shares`"):
        made.reveal("edge-0", {device.SHARES: np.zeros((4, 33), np.uint8)})
    with pytest.raises(Malformed, match="no `sealed`"):
        made.shared("edge-0", Shares(seed_mark="00" * 32), {})
    keys = made.keys["edge-0"]
    with pytest.raises(Malformed, match="another's"):
        checked(keys, {"edge-1": keys})
    with pytest.raises(Malformed, match="are none"):
        checked(keys.model_copy(update={"mask": "00" * 32}), {})


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 32])
def test_values_that_the_coordinator_chose_add_up_and_the_rest_is_sent_later(tmp_path: Path, signers: Signers, bits: int) -> None:
    fleet = Fleet(tmp_path, signers, names(4), {"bits": bits, "keep": 0.2})
    whole = np.sum([fleet.deltas[name] for name in fleet.names], axis=0)
    received = np.zeros(P, np.float64)
    last = None
    for round_ in range(1, 41):
        fleet.round = round_
        if round_ > 1:
            fleet.deltas = {name: np.zeros(P, np.float32) for name in fleet.names}
        fleet.selection = Selection.choose(fleet.host("edge-0").secure, last, P, 4, GENERATOR)
        made = fleet.advertise(fleet.names)
        fleet.share(made, fleet.names)
        fleet.mask(made, fleet.names)
        fleet.reveal(made, fleet.names)
        total = fleet.total(made)
        assert np.count_nonzero(total) <= 60
        received += total
        last = (total / 4).astype(np.float32)
    assert np.linalg.norm(received - whole) < 0.35 * np.linalg.norm(whole)
