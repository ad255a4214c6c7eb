"""Devices mask and seal with keys that their peers signed, and with no others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgefl.federation.hostconfig import HostConfig
from edgefl.federation.loopback import certify
from edgefl.federation.messages import Arrays, ContextRequest, HoldRequest, Keys, KeysRequest, SecureQuestion, SharesRequest
from edgefl.federation.secure import device, keeper, masks
from edgefl.federation.secure.signing import CERTIFICATES, KEYS, LENGTHS, SIGNATURES, Round, packed, signed, unpacked, verify
from edgefl.federation.secure.vault import SecureRefused, Vault
from edgefl.pki.anchors import Anchors
from edgefl.pki.errors import CertificateRefused, PkiError
from tests.federation.signers import Signers

NAMES = ["edge-0", "edge-1", "edge-2"]
HERE = Round("s", "r", 1)
Forged = Callable[[Keys, Signers, Path], Keys]


def host(name: str, mode: str = "masked") -> HostConfig:
    return HostConfig.model_validate({
        "site": "s", "name": name, "role": "device", "coordinator": {"name": "c", "address": "192.0.2.1"},
        "devices": NAMES, "secure": {"mode": mode},
    })  # fmt: skip


def advertised(root: Path, signers: Signers, mode: str = "masked") -> dict[str, Keys]:
    request = KeysRequest(run="r", round=1)
    return {name: device.advertise(request, host(name, mode), Vault(root / name), signers(name)) for name in NAMES}


def share(root: Path, signers: Signers, arrays: Arrays, name: str = "edge-0") -> None:
    device.share(SharesRequest(run="r", round=1, members=NAMES), arrays, host(name), Vault(root / name), signers(name))


def fresh(round_: Round, name: str, directory: Path) -> Keys:
    """Keys of the coordinator's own, signed by whatever lies in the directory."""
    return signed(directory, round_, name, masks.public(masks.fresh()), masks.public(masks.fresh()))


def swapped(keys: Keys, _: Signers, __: Path) -> Keys:
    return keys.model_copy(update={"seal": masks.public(masks.fresh()).hex(), "mask": masks.public(masks.fresh()).hex()})


def signed_by_another_member(_: Keys, signers: Signers, __: Path) -> Keys:
    return fresh(HERE, "edge-2", signers("edge-1"))


def of_another_round(_: Keys, signers: Signers, __: Path) -> Keys:
    return fresh(replace(HERE, number=2), "edge-2", signers("edge-2"))


def of_another_run(_: Keys, signers: Signers, __: Path) -> Keys:
    return fresh(replace(HERE, run="r2"), "edge-2", signers("edge-2"))


def of_another_authority(_: Keys, __: Signers, root: Path) -> Keys:
    return fresh(HERE, "edge-2", Signers(root / "other")("edge-2"))


def by_a_tls_certificate(_: Keys, signers: Signers, root: Path) -> Keys:
    certify(root, "device", "device", "edge-2", signers.authority)
    for end in ("key", "crt"):
        (root / f"device.{end}").rename(root / f"signer.{end}")
    return fresh(HERE, "edge-2", root)


def by_no_certificate(keys: Keys, _: Signers, __: Path) -> Keys:
    return keys.model_copy(update={"certificate": "00" * 700})


def by_no_signature(keys: Keys, _: Signers, __: Path) -> Keys:
    return keys.model_copy(update={"signature": "00" * 64})


@pytest.mark.parametrize(
    ("forged", "why"),
    [
        (swapped, "its signature is not of these keys"),
        (signed_by_another_member, "it is of 'edge-1' as 'signer'"),
        (of_another_round, "its signature is not of these keys"),
        (of_another_run, "its signature is not of these keys"),
        (of_another_authority, "it is from another authority"),
        (by_a_tls_certificate, "it is of 'edge-2' as 'device'"),
        (by_no_certificate, "it is no certificate"),
        (by_no_signature, "its signature is not of these keys"),
    ],
)
@pytest.mark.parametrize("mode", ["masked", "homomorphic"])
def test_a_key_that_the_coordinator_put_in_a_devices_place_is_refused_by_its_peers(
    tmp_path: Path, signers: Signers, forged: Forged, why: str, mode: str
) -> None:
    keys = advertised(tmp_path, signers, mode)
    (tmp_path / "forger").mkdir()
    keys["edge-2"] = forged(keys["edge-2"], signers, tmp_path / "forger")
    arrays = packed(list(keys.values()))
    for name in ("edge-0", "edge-1"):
        vault = Vault(tmp_path / name)
        request: SecureQuestion = SharesRequest(run="r", round=1, members=NAMES)
        if mode == "homomorphic" and name == "edge-0":
            request = ContextRequest(run="r", round=1, members=NAMES)
        elif mode == "homomorphic":
            request = HoldRequest(run="r", round=1, members=NAMES, keeper="edge-0")
        with pytest.raises(SecureRefused, match=f"the keys that came as edge-2's are not known to be its own: {why}"):
            keeper.answer(request, arrays, host(name, mode), vault, signers(name))
        assert vault.read("r", 1, "keys").seed == b"", "nothing was shared, and nothing was sealed"


def test_signed_keys_are_taken_by_every_peer(tmp_path: Path, signers: Signers) -> None:
    arrays = packed(list(advertised(tmp_path, signers).values()))
    for name in NAMES:
        share(tmp_path, signers, arrays, name)
        assert Vault(tmp_path / name).read("r", 1, "shared").members == tuple(NAMES)


def test_a_device_whose_certificate_was_revoked_is_in_no_sum(tmp_path: Path) -> None:
    signers = Signers(tmp_path / "pki")
    keys = advertised(tmp_path, signers)
    [entry] = [entry for entry in signers.authority.certificates() if entry.subject == "edge-2"]
    signers.authority.revoke(entry.serial, "stolen")
    (signers("edge-0") / "crl.pem").write_bytes(signers.authority.crl())
    with pytest.raises(SecureRefused, match="not known to be its own: it is from another authority, or was revoked"):
        share(tmp_path, signers, packed(list(keys.values())))


@pytest.mark.parametrize("missing", ["ca.crt", "crl.pem"])
def test_a_device_that_cannot_check_takes_part_in_nothing(tmp_path: Path, missing: str) -> None:
    signers = Signers(tmp_path / "pki")
    keys = advertised(tmp_path, signers)
    (signers("edge-0") / missing).unlink()
    with pytest.raises(SecureRefused, match="cannot check the others' keys") as refused:
        share(tmp_path, signers, packed(list(keys.values())))
    assert refused.value.hint == "edgefl up"


def test_a_list_that_another_authority_signed_revokes_nothing_and_counts_as_none(tmp_path: Path) -> None:
    signers, others = Signers(tmp_path / "pki"), Signers(tmp_path / "other")
    keys = advertised(tmp_path, signers)
    (signers("edge-0") / "crl.pem").write_bytes(others.authority.crl())
    with pytest.raises(SecureRefused, match="no authority that serves now, with its revocation list"):
        share(tmp_path, signers, packed(list(keys.values())))


@pytest.mark.parametrize("change", ["no key", "another's key"])
def test_a_device_that_cannot_sign_says_so_and_begins_nothing(tmp_path: Path, change: str) -> None:
    signers = Signers(tmp_path / "pki")
    directory = signers("edge-0")
    if change == "no key":
        (directory / "signer.key").unlink()
    else:
        (directory / "signer.key").write_bytes((signers("edge-1") / "signer.key").read_bytes())
    with pytest.raises(SecureRefused, match=r"no signing key|not of the key beside it"):
        device.advertise(KeysRequest(run="r", round=1), host("edge-0"), Vault(tmp_path / "vault"), directory)
    assert not (tmp_path / "vault").exists()


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.integers(0, 10_000))
@example(place=73, value=128, cut=0)  # an issuer that is none, which is read late
def test_whatever_a_device_sends_as_its_certificate_is_refused_and_ends_nothing(
    signers: Signers, place: int, value: int, cut: int
) -> None:
    anchors, keys = Anchors.load(signers("edge-1"), datetime.now(UTC)), fresh(HERE, "edge-0", signers("edge-0"))
    der = bytearray.fromhex(keys.certificate)
    changed = der[: 1 + cut % len(der)] if place % 4 == 0 else der.copy()
    changed[place % len(changed)] = value
    if changed != der:
        with pytest.raises(CertificateRefused):
            verify(anchors, HERE, "edge-0", keys.model_copy(update={"certificate": changed.hex()}))


@pytest.mark.parametrize("days", [-1, 91])
def test_a_certificate_counts_in_its_time_alone(signers: Signers, days: int) -> None:
    keys = fresh(HERE, "edge-0", signers("edge-0"))
    now = datetime.now(UTC)
    verify(Anchors.load(signers("edge-1"), now), HERE, "edge-0", keys)
    anchors = replace(Anchors.load(signers("edge-1"), now), now=now + timedelta(days=days))
    with pytest.raises(CertificateRefused, match="does not serve now"):
        verify(anchors, HERE, "edge-0", keys)


@pytest.mark.parametrize("days", [-1, 10_000])
def test_authorities_count_in_their_time_alone(signers: Signers, days: int) -> None:
    with pytest.raises(PkiError, match="no authority that serves now"):
        Anchors.load(signers("edge-1"), datetime.now(UTC) + timedelta(days=days))


@pytest.mark.parametrize(
    "change",
    [
        {CERTIFICATES: np.zeros(0, np.uint8)},
        {LENGTHS: np.array([2**32 - 1, 1, 1], np.uint32)},
        {LENGTHS: np.zeros(3, np.uint32)},
        {LENGTHS: np.zeros((3, 1), np.uint32)},
        {SIGNATURES: np.zeros((3, 63), np.uint8)},
        {SIGNATURES: np.zeros((3, 64), np.float32)},
        {KEYS: np.zeros((2, 2, 32), np.uint8)},
    ],
)
def test_arrays_that_are_no_signed_keys_are_refused(tmp_path: Path, signers: Signers, change: Arrays) -> None:
    keys = list(advertised(tmp_path, signers).values())
    assert unpacked(packed(keys), 3) == keys
    with pytest.raises(SecureRefused, match="coordinator"):
        unpacked({**packed(keys), **change}, 3)
    with pytest.raises(SecureRefused, match="no `signatures`"):
        unpacked({name: array for name, array in packed(keys).items() if name != SIGNATURES}, 3)
