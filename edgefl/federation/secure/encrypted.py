"""A round of homomorphic sums on the coordinator: one device makes the key, the others open it, three decrypt the sum."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, ClassVar, cast

from edgefl.federation.messages import Context, Holding, Opened, pack
from edgefl.federation.rounds import RunInvalid
from edgefl.federation.secure.ciphers import OPENERS, CipherSum
from edgefl.federation.secure.round import SecureRounds, Turn
from edgefl.federation.secure.sums import Malformed, Sum
from edgefl.site import modes

if TYPE_CHECKING:
    from edgefl.federation.run import Run

log = logging.getLogger("edgefl")


class EncryptedRounds(SecureRounds):
    """A run's homomorphic rounds."""

    kind: ClassVar[type[Sum]] = CipherSum
    growth: ClassVar[int] = 3

    def check(self, run: Run) -> None:
        """Raise RunInvalid where the model is too large, too."""
        SecureRounds.check(self, run)
        values = sum(array.size for array in run.arrays.values())
        if values > modes.MOST_VALUES:
            what, hint = modes.too_large(values)
            raise RunInvalid(what, hint=hint)

    def _shares(self, turn: Turn) -> None:
        for made in cast("list[CipherSum]", self._sums):
            self._make_key(turn, made)
            if made.keeper:
                others = [member for member in made.members if member != made.keeper and member not in turn.received.dropped]
                for arrival in self._ask(turn, dict.fromkeys(others, pack(*made.hold_request())), Holding):
                    made.holders.append(arrival.device)
        self._require(turn, "hold the round's key", lambda made: made.among)

    def _make_key(self, turn: Turn, made: CipherSum) -> None:
        """Ask one member after another for the round's key, until one gives it."""
        content = pack(*made.context_request())
        for member in made.members:
            for arrival in self._ask(turn, {member: content}, Context):
                try:
                    made.kept(member, arrival.arrays)
                except Malformed as error:
                    turn.reject(member, str(error))
            if made.keeper:
                return

    def _reveal(self, turn: Turn) -> None:
        for made in cast("list[CipherSum]", self._sums):
            content = pack(*made.open_request())
            for arrival in self._ask(turn, dict.fromkeys(self._openers(made), content), Opened):
                try:
                    made.open(arrival.device, arrival.arrays)
                except Malformed as error:
                    log.warning("round %s: %s's sum cannot be read: %s", turn.round, arrival.device, error)

    def _openers(self, made: CipherSum) -> list[str]:
        """Other devices each round, so that one that lies does not decide whether there is a sum."""
        drawn = self._generator.permutation(len(made.survivors))[:OPENERS]
        return [made.survivors[place] for place in drawn]
