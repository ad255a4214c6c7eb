"""The coordinator's part of one homomorphic sum: it adds ciphertexts, and believes what at least two devices decrypt alike."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgefl.federation.messages import Arrays, ContextRequest, HoldRequest, OpenRequest
from edgefl.federation.secure import ckks
from edgefl.federation.secure.device import SEALS, Bytes
from edgefl.federation.secure.encoding import Vector
from edgefl.federation.secure.keeper import CONTEXT, SEALED_KEY, SUM
from edgefl.federation.secure.sums import Malformed, Sum, SumLost
from edgefl.site.model import Secure

OPENERS = 3
"""How many devices decrypt a sum: two that agree outvote one that lies."""
TOLERANCE = 1e-5
"""By how much two decryptions of one sum may differ."""
MOST_CONTEXT = 1024 * 1024
"""Bytes of a sealed key; an honest one has 131 kB."""


@dataclass(slots=True)
class CipherSum(Sum):
    """One homomorphic sum. keeper: who made its key. holders: who can read it. sealed: the key, for each member."""

    keeper: str = ""
    holders: list[str] = field(default_factory=list)
    sealed: Bytes | None = None
    context: Bytes | None = None
    encrypted: ckks.Total = field(init=False)
    opened: dict[str, Vector] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.encrypted = ckks.Total(self.size)

    @property
    def among(self) -> list[str]:
        """The devices that hold the key."""
        return [member for member in self.members if member in self.holders]

    def context_request(self) -> tuple[ContextRequest, Arrays]:
        """The question to the keeper."""
        _, arrays = self.shares_request()
        return ContextRequest(run=self.run, round=self.round, members=list(self.members)), arrays

    def kept(self, keeper: str, arrays: Arrays) -> None:
        """Take the round's sealed key. Raises Malformed."""
        sealed, context = arrays.get(SEALS), arrays.get(CONTEXT)
        if sealed is None or context is None or sealed.dtype != np.uint8 or sealed.shape != (len(self.members), SEALED_KEY):
            raise Malformed(f"it has no key sealed for {len(self.members)} devices")
        if context.dtype != np.uint8 or context.ndim != 1 or len(context) > MOST_CONTEXT:
            raise Malformed("its key is none")
        self.keeper, self.sealed, self.context = keeper, sealed, context
        self.holders.append(keeper)

    def hold_request(self) -> tuple[HoldRequest, Arrays]:
        """The question to every other member. Raises SumLost where nobody made a key."""
        if self.sealed is None or self.context is None:
            raise SumLost("no device made the round's key")
        _, arrays = self.shares_request()
        request = HoldRequest(run=self.run, round=self.round, members=list(self.members), keeper=self.keeper)
        return request, {**arrays, SEALS: self.sealed, CONTEXT: self.context}

    def take(self, device: str, encoding: str, arrays: Arrays) -> None:
        """Add a member's encrypted update. Raises Malformed."""
        if encoding != "encrypted":
            raise Malformed("its update is not encrypted")
        try:
            self.encrypted.add(arrays)
        except ckks.CipherWrong as error:
            raise Malformed(str(error)) from error
        self.survivors.append(device)

    def open_request(self) -> tuple[OpenRequest, Arrays]:
        """The question to those that decrypt."""
        request = OpenRequest(run=self.run, round=self.round, survivors=self.survivors, size=self.size)
        return request, self.encrypted.arrays()

    def open(self, device: str, arrays: Arrays) -> None:
        """Take what a device decrypted. Raises Malformed."""
        total = arrays.get(SUM)
        if total is None or total.dtype != np.float32 or total.shape != (self.size,) or not np.isfinite(total).all():
            raise Malformed(f"it decrypted to no {self.size} finite numbers")
        self.opened[device] = total

    def mean(self, secure: Secure) -> Vector:
        """The mean of the survivors' updates, as two devices decrypt it alike. Raises SumLost."""
        self.require(self.survivors, "sent their updates")
        found = list(self.opened.values())
        for place, total in enumerate(found):
            if any(np.abs(total - other).max() <= TOLERANCE for other in found[place + 1 :]):
                return total / np.float32(len(self.survivors))
        raise SumLost(f"{len(found)} devices decrypted the sum, and no two of them alike")
