"""The coordinator's part of one masked sum: it relays what devices seal to each other, adds what they send, and takes the masks
off the sum with the shares that they reveal.

Whatever a device sends is checked against what it said before: a share against its mark, a secret that was joined against the
mark or the public key that its device gave. So a sum is right, or lost with a reason; a device that lied costs the sum at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefl.federation.messages import MASKED, Arrays, Keys, Shares, SharesRequest, UnmaskRequest
from edgefl.federation.secure import masks, shamir
from edgefl.federation.secure.device import MARKS, PLACES, RANGES, SEALED, SEALS, SHARES, Bytes, mark
from edgefl.federation.secure.encoding import FixedPoint, Vector, WordsWrong
from edgefl.federation.secure.masks import Words
from edgefl.federation.secure.selection import Selection
from edgefl.federation.secure.signing import packed
from edgefl.site.model import Secure

SEED, KEY = 0, 1
"""The two secrets of a device, in the order of its shares and marks."""


class SumLost(Exception):
    """The masks cannot be taken off; the text says why. culprit: the device whose doing it is, where that is certain."""

    def __init__(self, why: str, culprit: str = "") -> None:
        super().__init__(why)
        self.culprit = culprit


class Malformed(Exception):
    """What a device sent is not what it was asked for; the text says why."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """What a device said of its secrets. sealed: (n, SEALED). marks: (n, 2, 32)."""

    seed_mark: bytes
    sealed: Bytes
    marks: Bytes


def checked(keys: Keys, known: Mapping[str, Keys]) -> Keys:
    """A device's keys, where they are keys and nobody else's. known: those of other devices. Raises Malformed."""
    taken = {key for other in known.values() for key in (other.seal, other.mask)}
    if keys.seal == keys.mask or {keys.seal, keys.mask} & taken:
        raise Malformed("its keys are another's")
    try:
        for key in (keys.seal, keys.mask):
            masks.agreed(masks.fresh(), bytes.fromhex(key), "")
    except ValueError as error:
        raise Malformed("its keys are none") from error
    return keys


@dataclass(slots=True)
class Sum:
    """One sum of one round. members: the devices whose keys came, in one order for all. threshold: how many must stay.

    size: of the model. total: the masked words so far.
    """

    run: str
    round: int
    members: tuple[str, ...]
    keys: Mapping[str, Keys]
    threshold: int
    selection: Selection
    size: int
    sharings: dict[str, Sharing] = field(default_factory=dict)
    survivors: list[str] = field(default_factory=list)
    revealed: dict[str, Bytes] = field(default_factory=dict)
    total: Words | None = None

    @property
    def code(self) -> FixedPoint:
        """How its words are written."""
        return self.selection.code(len(self.members))

    @property
    def among(self) -> list[str]:
        """The devices that masked, or were asked to: those that shared their secrets."""
        return [member for member in self.members if member in self.sharings]

    def shares_request(self) -> tuple[SharesRequest, Arrays]:
        """The question to every member."""
        arrays: dict[str, NDArray[Any]] = {**packed([self.keys[member] for member in self.members])}
        if self.selection.places:
            arrays[PLACES] = np.frombuffer(self.selection.places, np.uint8)
        if self.selection.ranges:
            arrays[RANGES] = np.frombuffer(self.selection.ranges, np.uint8)
        return SharesRequest(run=self.run, round=self.round, members=list(self.members)), arrays

    def shared(self, device: str, said: Shares, arrays: Arrays) -> None:
        """Take a member's shares. Raises Malformed."""
        count = len(self.members)
        sealed = _rows(arrays, SEALS, (count, SEALED))
        marks = _rows(arrays, MARKS, (count, 2, masks.KEY))
        self.sharings[device] = Sharing(bytes.fromhex(said.seed_mark), sealed, marks)

    def require(self, there: Sequence[str], what: str) -> None:
        """Raise SumLost where fewer than the threshold are there."""
        if len(there) < self.threshold:
            raise SumLost(f"{len(there)} of {len(self.members)} devices {what}, and {self.threshold} are needed")

    def take(self, device: str, encoding: str, arrays: Arrays) -> None:
        """Add a member's masked update. Raises Malformed."""
        if encoding != "masked" or arrays.keys() != {MASKED}:
            raise Malformed("its update is not masked")
        try:
            words = self.code.unpack(arrays[MASKED], self.selection.count(self.size))
        except WordsWrong as error:
            raise Malformed(str(error)) from error
        if self.total is None:
            self.total = np.zeros(len(words), self.code.dtype)
        self.total += words
        self.survivors.append(device)

    def unmask_request(self, device: str) -> tuple[UnmaskRequest, Arrays]:
        """The question to one survivor: with what the others sealed for it."""
        place = self.members.index(device)
        sealed = np.zeros((len(self.members), SEALED), np.uint8)
        for row, member in enumerate(self.members):
            if member in self.sharings:
                sealed[row] = self.sharings[member].sealed[place]
        return UnmaskRequest(run=self.run, round=self.round, survivors=self.survivors), {SEALS: sealed}

    def reveal(self, device: str, arrays: Arrays) -> None:
        """Take the shares that a survivor reveals. Raises Malformed."""
        self.revealed[device] = _rows(arrays, SHARES, (len(self.members), shamir.SHARE))

    def mean(self, secure: Secure) -> Vector:
        """The mean of the survivors' updates, (size,) float32. Raises SumLost."""
        total = self.selection.decode(self.unmasked(), self.size, secure, len(self.members))
        return total / np.float32(len(self.survivors))

    def unmasked(self) -> Words:
        """The sum of the survivors' words. Raises SumLost."""
        self.require(list(self.revealed), "revealed their shares")
        if self.total is None:
            raise SumLost("no update came")
        for member in self.among:
            if member in self.survivors:
                masks.add(self.total, self._secret(member, SEED), negative=True)
            else:
                self._remove_pairs(member, self._secret(member, KEY))
        return self.total

    def _secret(self, member: str, which: int) -> bytes:
        """What a member shared, from the shares that are those that it marked."""
        sharing, row = self.sharings[member], self.members.index(member)
        shares = {}
        for device, rows in self.revealed.items():
            place, share = self.members.index(device), rows[row].tobytes()
            if mark(share) == sharing.marks[place, which].tobytes():
                shares[place] = share
        try:
            secret = shamir.join(shares, self.threshold)
        except shamir.SharesWrong as error:
            raise SumLost(f"{member}'s secret cannot be joined: {error}", member) from error
        told = mark(secret) if which == SEED else masks.public(secret)
        expected = sharing.seed_mark if which == SEED else bytes.fromhex(self.keys[member].mask)
        if told != expected:
            raise SumLost(f"the shares that {member} gave are not of the secret that it promised", member)
        return secret

    def _remove_pairs(self, dropped: str, secret: bytes) -> None:
        """Take off what the survivors masked with a device that dropped out."""
        assert self.total is not None  # noqa: S101  # `unmasked` looked
        for survivor in self.survivors:
            seed = masks.agreed(
                secret, bytes.fromhex(self.keys[survivor].mask), masks.pair(self.run, self.round, survivor, dropped)
            )
            # The survivor subtracted where it comes later in the members' order: give back what it took.
            masks.add(self.total, seed, negative=self.members.index(survivor) < self.members.index(dropped))


def _rows(arrays: Arrays, name: str, shape: tuple[int, ...]) -> Bytes:
    array = arrays.get(name)
    if arrays.keys() - {SEALS, MARKS, SHARES} or array is None or array.dtype != np.uint8 or array.shape != shape:
        raise Malformed(f"it has no `{name}` of shape {shape}")
    return array
