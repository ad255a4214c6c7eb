"""A device's part of a homomorphic round. One device, the keeper, makes the round's key and seals it for each of the others; the
coordinator relays it, adds what it cannot read, and has some of the devices decrypt the sum.

Every device holds the key: whoever has the coordinator and one device, or has a device decrypt a single update as if it were the
sum, reads updates. So this protects from a coordinator that keeps to the protocol. Masked sums (device.py) protect from more, and
cost less.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edgefl.federation.hostconfig import HostConfig
from edgefl.federation.messages import (
    Arrays,
    Context,
    ContextRequest,
    Holding,
    HoldRequest,
    KeysRequest,
    Opened,
    OpenRequest,
    Reply,
    SecureQuestion,
    SharesRequest,
    TrainRequest,
)
from edgefl.federation.secure import ckks, device, masks
from edgefl.federation.secure.device import NONCE, SEALS, Purpose, members_keys, raw, rows_of
from edgefl.federation.secure.encoding import Vector, bounded
from edgefl.federation.secure.vault import Secrets, SecureRefused, Vault

SEALED_KEY: Final = NONCE + masks.KEY + 16
"""Bytes of the key that opens the context, sealed for one member."""
CONTEXT, SUM = "context", "sum"


def answer(request: SecureQuestion, arrays: Arrays, host: HostConfig, vault: Vault, signing: Path) -> tuple[Reply, Arrays | None]:
    """The reply to a question of a round of secure sums. signing: as for `device.advertise`. Raises SecureRefused."""
    match request:
        case KeysRequest():
            return device.advertise(request, host, vault, signing), None
        case ContextRequest():
            return make(request, arrays, host, vault, signing)
        case HoldRequest():
            return hold(request, arrays, host, vault, signing), None
        case OpenRequest():
            return decrypt(request, arrays, host, vault)
        case SharesRequest():
            return device.share(request, arrays, host, vault, signing)
        case _:
            return device.reveal(request, arrays, host, vault)


def make(request: ContextRequest, arrays: Arrays, host: HostConfig, vault: Vault, signing: Path) -> tuple[Context, Arrays]:
    """The round's key, sealed for every member. Raises SecureRefused."""
    mine, keys = _begun(request, arrays, host, vault, signing)
    context, key, nonce = ckks.fresh_context(), masks.fresh(), masks.fresh()[:NONCE]
    purpose = Purpose(request.run, request.round)
    sealed = [
        purpose.seal(mine.seal, keys[place, 0].tobytes(), host.name, member, key) for place, member in enumerate(request.members)
    ]
    vault.keep(request.run, request.round, _shared(mine, request.members, context))
    whole = np.frombuffer(nonce + AESGCM(key).encrypt(nonce, context, None), np.uint8)
    return Context(), {SEALS: np.frombuffer(b"".join(sealed), np.uint8).reshape(-1, SEALED_KEY), CONTEXT: whole}


def hold(request: HoldRequest, arrays: Arrays, host: HostConfig, vault: Vault, signing: Path) -> Holding:
    """Open the round's key and keep it. Raises SecureRefused where the keeper did not seal it for this device."""
    mine, keys = _begun(request, arrays, host, vault, signing)
    if request.keeper not in request.members:
        raise SecureRefused("the keeper of the round's key is no member of its sum")
    sealed = rows_of(arrays, SEALS, (len(request.members), SEALED_KEY))[request.members.index(host.name)].tobytes()
    public = keys[request.members.index(request.keeper), 0].tobytes()
    key = Purpose(request.run, request.round).open(mine.seal, public, request.keeper, host.name, sealed)
    whole = raw(arrays, CONTEXT)
    try:
        context = AESGCM(key).decrypt(whole[:NONCE], whole[NONCE:], None)
    except (InvalidTag, ValueError) as error:
        raise SecureRefused(f"the round's key is not one that {request.keeper} sealed for this device") from error
    vault.keep(request.run, request.round, _shared(mine, request.members, context))
    return Holding()


def encrypt(delta: Vector, request: TrainRequest, host: HostConfig, vault: Vault) -> Arrays:
    """The update as ciphertexts. delta: (p,) float32. Raises SecureRefused."""
    mine, among = device.check(request, host, vault)
    if not np.isfinite(delta).all():
        raise SecureRefused("training diverged on this device: what it learnt is not finite")
    vault.keep(request.run, request.round, mine.model_copy(update={"stage": "masked", "among": tuple(among)}))
    return ckks.encrypt(bounded(delta, host.secure.clip), mine.context)


def decrypt(request: OpenRequest, arrays: Arrays, host: HostConfig, vault: Vault) -> tuple[Opened, Arrays]:
    """The sum as numbers, once a round. Raises SecureRefused for survivors that are too few or were not among the sum."""
    mine = vault.read(request.run, request.round, "masked")
    survivors = set(request.survivors)
    if not survivors <= set(mine.among) or len(survivors) < host.secure.needed(len(mine.members)):
        raise SecureRefused(f"{len(survivors)} of {len(mine.members)} updates are to be summed: too few, or others than before")
    vault.end(request.run, request.round)
    beside = {name: arrays[name] for name in (ckks.CIPHER, ckks.LENGTHS) if name in arrays}
    try:
        return Opened(), {SUM: ckks.decrypt(beside, request.size, mine.context)}
    except ckks.CipherWrong as error:
        raise SecureRefused(f"the sum cannot be decrypted: {error}") from error


def _begun(
    request: ContextRequest | HoldRequest, arrays: Arrays, host: HostConfig, vault: Vault, signing: Path
) -> tuple[Secrets, device.Bytes]:
    if host.secure.mode != "homomorphic":
        raise SecureRefused("this device's host.json asks for no homomorphic sums", hint="edgefl up")
    mine = vault.read(request.run, request.round, "keys")
    return mine, members_keys(request, arrays, mine, host, signing)


def _shared(mine: Secrets, members: list[str], context: bytes) -> Secrets:
    return mine.model_copy(update={"stage": "shared", "members": tuple(members), "context": context})
