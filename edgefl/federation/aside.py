"""Whom the operator keeps out of rounds, as the journal says at the moment when it is asked: also in a run that is going."""

from __future__ import annotations

from collections.abc import Iterable

from edgefl.events.journal import Journal

LEFT_OUT = "put in quarantine by the operator"
"""What is said of a device that was set aside while something was expected of it."""


class Aside:
    """Reads on in the journal whenever it is asked; between two answers only what was appended."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._read = 0
        self._out: set[str] = set()
        self._leaving: set[str] = set()
        self._returned: set[str] = set()
        self._catch_up()
        self._returned.clear()  # what came before this run, its memory has heard of

    @property
    def devices(self) -> frozenset[str]:
        """Who is kept out now, with whatever is expected of it."""
        self._catch_up()
        return frozenset(self._out)

    def without(self, devices: Iterable[str]) -> list[str]:
        """Those of the devices that are not kept out, do not leave and are not drained: the last two finish what they began."""
        out = self.devices | self._leaving
        return [device for device in devices if device not in out]

    def returned(self) -> list[str]:
        """Who was taken back since this was asked last."""
        self._catch_up()
        found = sorted(self._returned)
        self._returned.clear()
        return found

    def _catch_up(self) -> None:
        head = self._journal.head().seq
        if head == self._read:
            return
        for record in self._journal.records(self._read, until=head, kind="device_state"):
            device, state = str(record["body"]["device"]), record["body"]["state"]
            if state in {"quarantined", "drained", "removed"}:
                (self._out if state == "quarantined" else self._leaving).add(device)
                self._returned.discard(device)
            elif state == "undrained":  # as it was: what the policy holds against it counts on
                self._leaving.discard(device)
            elif state == "enrolled":
                self._out.discard(device)
                self._leaving.discard(device)
                self._returned.add(device)
        self._read = head
