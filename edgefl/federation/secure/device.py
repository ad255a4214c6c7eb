"""A device's part of a masked round (Bonawitz et al., 2017, doi:10.1145/3133956.3133982): four questions, each answered once.

1. `advertise`: new public keys, signed. 2. `share`: the mask key and the seed of the device's own mask, in shares sealed for each
member. 3. `mask`: the update under its own mask and one for each pair. 4. `reveal`: for each survivor a share of its seed, for
each device that dropped out a share of its mask key; never both of one device.

The device's own terms count, whatever the coordinator asks: how many devices a sum has at least, how many must stay until its
end (more than half, so that no two lists of survivors can both be answered by enough devices), that the members are the
site's devices, and that each signed its own keys (signing.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from edgefl.federation.compression.feedback import Feedback
from edgefl.federation.hostconfig import HostConfig
from edgefl.federation.messages import (
    MASKED,
    Arrays,
    ContextRequest,
    HoldRequest,
    Keys,
    KeysRequest,
    Shares,
    SharesRequest,
    TrainRequest,
    Unmasked,
    UnmaskRequest,
)
from edgefl.federation.secure import masks, shamir
from edgefl.federation.secure.encoding import Vector
from edgefl.federation.secure.selection import Selection
from edgefl.federation.secure.signing import KEYS, Round, signed, verify_peers
from edgefl.federation.secure.vault import Secrets, SecureRefused, Vault
from edgefl.site.model import Secure

NONCE: Final = 12
SEALED: Final = NONCE + 2 * shamir.SHARE + 16
"""Bytes of a seed's and a key's share, sealed for one member."""
SEALS, MARKS, SHARES, PLACES, RANGES = "sealed", "marks", "shares", "places", "ranges"
"""The arrays beside the messages, besides the signed keys: (n, SEALED) sealed shares, (n, 2, 32) marks, (n, SHARE) shares, each
with a row for each member in the message's order; the selection's bytes.
"""
MOST_MEMBERS: Final = 256

Bytes = NDArray[np.uint8]


def advertise(request: KeysRequest, host: HostConfig, vault: Vault, signing: Path) -> Keys:
    """New keys for the round, signed. signing: this device's signing key and what it checks others by.

    Raises SecureRefused where this device's site knows no masked rounds, or it cannot sign.
    """
    if host.secure.mode == "none":
        raise SecureRefused("this device's host.json asks for no secure sums", hint="edgefl up")
    secrets = Secrets(stage="keys", seal=masks.fresh(), mask=masks.fresh())
    round_ = Round(host.site, request.run, request.round)
    keys = signed(signing, round_, host.name, masks.public(secrets.seal), masks.public(secrets.mask))
    vault.begin(request.run, request.round, secrets)
    return keys


def share(request: SharesRequest, arrays: Arrays, host: HostConfig, vault: Vault, signing: Path) -> tuple[Shares, Arrays]:
    """Sealed shares for every member, with their marks. Raises SecureRefused."""
    mine, members = vault.read(request.run, request.round, "keys"), request.members
    keys = members_keys(request, arrays, mine, host, signing)
    seed, threshold = masks.fresh(), host.secure.needed(len(members))
    parts = list(zip(shamir.split(seed, threshold, len(members)), shamir.split(mine.mask, threshold, len(members)), strict=True))
    purpose = Purpose(request.run, request.round)
    sealed = [
        purpose.seal(mine.seal, keys[place, 0].tobytes(), host.name, member, b"".join(parts[place]))
        for place, member in enumerate(members)
    ]
    selection = Selection(raw(arrays, PLACES), raw(arrays, RANGES))
    shared = mine.model_copy(
        update={
            "stage": "shared",
            "seed": seed,
            "members": tuple(members),
            "keys": keys.tobytes(),
            "places": selection.places,
            "ranges": selection.ranges,
        }
    )
    vault.keep(request.run, request.round, shared)
    rows = np.frombuffer(b"".join(sealed), np.uint8).reshape(-1, SEALED)
    marks = np.frombuffer(b"".join(mark(part) for both in parts for part in both), np.uint8).reshape(-1, 2, masks.KEY)
    return Shares(seed_mark=mark(seed).hex()), {SEALS: rows, MARKS: marks}


def check(request: TrainRequest, host: HostConfig, vault: Vault) -> tuple[Secrets, list[str]]:
    """Whether the update will be masked: the round's secrets, and the devices of the sum. Raises SecureRefused."""
    among = next((members for members in request.sums if host.name in members), [])
    if not among:
        raise SecureRefused("the coordinator asks for this device's update alone, and the site sums masked ones")
    mine = vault.read(request.run, request.round, "shared")
    if not set(among) <= set(mine.members) or len(set(among)) < host.secure.needed(len(mine.members)):
        raise SecureRefused(f"{len(among)} of {len(mine.members)} devices are to be in the sum: too few, or others than before")
    return mine, among


def mask(delta: Vector, request: TrainRequest, host: HostConfig, vault: Vault, feedback: Feedback) -> Arrays:
    """The update, so that it means nothing alone. delta: (p,) float32. Raises SecureRefused."""
    mine, among = check(request, host, vault)
    if not np.isfinite(delta).all():
        raise SecureRefused("training diverged on this device: what it learnt is not finite")
    selection, count = Selection(mine.places, mine.ranges), len(mine.members)
    if mine.places or mine.ranges:
        words = feedback.carry(
            delta,
            lambda whole: selection.encode(whole, host.secure, count),
            request.training,
            request.round,
        )
    else:
        words, _ = selection.encode(delta, host.secure, count)
    vault.keep(request.run, request.round, mine.model_copy(update={"stage": "masked", "among": tuple(among)}))
    masks.add(words, mine.seed)
    keys = _keys(mine)
    for peer in among:
        if peer != host.name:
            seed = masks.agreed(
                mine.mask, keys[mine.members.index(peer)][1], masks.pair(request.run, request.round, host.name, peer)
            )
            masks.add(words, seed, negative=mine.members.index(host.name) > mine.members.index(peer))
    return {MASKED: selection.code(count).pack(words)}


def reveal(request: UnmaskRequest, arrays: Arrays, host: HostConfig, vault: Vault) -> tuple[Unmasked, Arrays]:
    """One share for each member that shared its secrets; zeros where its seal does not open. The round is over then.

    Raises SecureRefused for survivors that are too few or were not among the sum.
    """
    mine = vault.read(request.run, request.round, "masked")
    survivors = set(request.survivors)
    if not survivors <= set(mine.among) or len(survivors) < host.secure.needed(len(mine.members)):
        raise SecureRefused(f"{len(survivors)} of {len(mine.members)} updates are to be summed: too few, or others than before")
    sealed = rows_of(arrays, SEALS, (len(mine.members), SEALED))
    # Gone before anything is told: no second list of survivors will be answered.
    vault.end(request.run, request.round)
    purpose, keys = Purpose(request.run, request.round), _keys(mine)
    rows = np.zeros((len(mine.members), shamir.SHARE), np.uint8)
    for place, member in enumerate(mine.members):
        if member in mine.among:
            opened = purpose.open(mine.seal, keys[place][0], member, host.name, sealed[place].tobytes())
            part = opened[: shamir.SHARE] if member in survivors else opened[shamir.SHARE :]
            rows[place] = np.frombuffer(part or bytes(shamir.SHARE), np.uint8)
    return Unmasked(), {SHARES: rows}


def mark(secret: bytes) -> bytes:
    """By which a secret or a share is known when it is told; it says nothing of it before."""
    return hashlib.sha256(b"edgefl mark\n" + secret).digest()


class Purpose:
    """What a key is for: one round, one direction between two devices."""

    def __init__(self, run: str, round_: int) -> None:
        self._round = f"edgefl seal\n{run}\n{round_}"

    def seal(self, secret: bytes, peer: bytes, sender: str, receiver: str, plain: bytes) -> bytes:
        """NONCE + ciphertext + tag (AES-256-GCM)."""
        nonce = masks.fresh()[:NONCE]
        return nonce + self._cipher(secret, peer, sender, receiver).encrypt(nonce, plain, None)

    def open(self, secret: bytes, peer: bytes, sender: str, receiver: str, sealed: bytes) -> bytes:
        """What was sealed; nothing where it was not sealed by that device for this one in this round."""
        try:
            return self._cipher(secret, peer, sender, receiver).decrypt(sealed[:NONCE], sealed[NONCE:], None)
        except InvalidTag:
            return b""

    def _cipher(self, secret: bytes, peer: bytes, sender: str, receiver: str) -> AESGCM:
        return AESGCM(masks.agreed(secret, peer, f"{self._round}\n{sender}\n{receiver}"))


def least(secure: Secure, quorum: float, devices: int) -> int:
    """The fewest devices that a sum may have: a group's, or the site's quorum."""
    return secure.group_size or max(2, round(quorum * devices))


def members_keys(
    request: SharesRequest | ContextRequest | HoldRequest, arrays: Arrays, mine: Secrets, host: HostConfig, signing: Path
) -> Bytes:
    """The members' public keys, (n, 2, 32), once it is known that they are theirs. Raises SecureRefused."""
    members = request.members
    keys = rows_of(arrays, KEYS, (len(members), 2, masks.KEY))
    check_members(members, keys, mine, host)
    verify_peers(signing, Round(host.site, request.run, request.round), host.name, members, arrays)
    return keys


def check_members(members: Sequence[str], keys: Bytes, mine: Secrets, host: HostConfig) -> None:
    """Raise SecureRefused unless a sum of these devices, with these keys, is one that this device takes part in."""
    if len(set(members)) != len(members) or not set(members) <= set(host.devices) or host.name not in members:
        raise SecureRefused("the sum's devices are not this one and others of the site, each once", hint="edgefl up")
    fewest = least(host.secure, host.run.quorum, len(host.devices))
    if not fewest <= len(members) <= MOST_MEMBERS:
        raise SecureRefused(f"a sum of {len(members)} devices: this one takes part in sums of {fewest} to {MOST_MEMBERS}")
    own = masks.public(mine.seal) + masks.public(mine.mask)
    if (
        keys[members.index(host.name)].tobytes() != own
        or len({row.tobytes() for row in keys.reshape(-1, masks.KEY)}) < keys.size // masks.KEY
    ):
        raise SecureRefused("the sum's keys are not this device's and a different one for each other")
    for place, member in enumerate(members):
        if member != host.name:
            _check_key(keys[place], mine, member)


def _check_key(keys: Bytes, mine: Secrets, member: str) -> None:
    try:
        for key in keys:
            masks.agreed(mine.mask, key.tobytes(), "")
    except ValueError as error:
        raise SecureRefused(f"{member}'s keys are none") from error


def _keys(mine: Secrets) -> list[tuple[bytes, bytes]]:
    size = masks.KEY
    return [(mine.keys[at : at + size], mine.keys[at + size : at + 2 * size]) for at in range(0, len(mine.keys), 2 * size)]


def rows_of(arrays: Arrays, name: str, shape: tuple[int, ...]) -> Bytes:
    """An array that the coordinator sent, of the shape that it must have. Raises SecureRefused."""
    array = arrays.get(name)
    if array is None or array.dtype != np.uint8 or array.shape != shape:
        raise SecureRefused(f"the coordinator's message has no `{name}` of shape {shape}")
    return array


def raw(arrays: Arrays, name: str) -> bytes:
    """The bytes of an array that may be missing."""
    array = arrays.get(name)
    return b"" if array is None else np.ascontiguousarray(array).tobytes()
