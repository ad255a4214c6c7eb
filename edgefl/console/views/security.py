"""Security: what was found about updates, which certificates are valid until when, and whether isolation was proven."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.widget import Widget

from edgefl.console import guarded, summary
from edgefl.console.guarded import CERTIFICATES, FLAGS, PROOFS, Finding, Held, Proof
from edgefl.console.live import Frame
from edgefl.console.pages.device import DevicePage
from edgefl.console.pages.flag import FlagPage
from edgefl.console.pages.whole import Whole
from edgefl.console.rows import Rows
from edgefl.console.view import LOGS, GridView
from edgefl.console.widgets.grid import Grid
from edgefl.monitor.device import Certificate, DeviceRow, Flag
from edgefl.monitor.state import FederationState


class Found:
    """The flags of a fleet, the newest first: put in order again only when there are others, and joined with their devices when
    somebody looks at them.
    """

    def __init__(self) -> None:
        self._flags: list[tuple[str, tuple[Flag, ...]]] = []
        self._sorted: list[tuple[str, Flag]] = []

    def of(self, state: FederationState) -> Sequence[Finding]:
        """Those of this state."""
        flags = [(row.name, row.flags) for row in summary.members(state) if row.flags]
        if flags != self._flags:  # an unchanged tuple is the same one, so that this looks at no flag
            self._flags = flags
            single = ((name, flag) for name, kept in flags for flag in kept)
            self._sorted = sorted(single, key=lambda found: (found[1].at, found[0]), reverse=True)
        return Rows(self._sorted, lambda found: Finding(state.devices[found[0]], found[1]))


class Security(GridView):
    """Flags, certificates and isolation, one table below the other; tab goes from one to the next."""

    NAME = "Security"
    WHAT = (
        "Flags with their evidence, certificates, and the matrix of isolation: open/closed paths by destination. tab goes from "
        "table to table. Enter opens a flag, a certificate's device, a proof."
    )
    OF_DEVICES = True
    BINDINGS: ClassVar[list[BindingType]] = [Binding("tab", "app.focus_next", "Next table"), LOGS]

    def __init__(self) -> None:
        self._flags = Grid[Finding](FLAGS, lambda row: row.key, empty="no update was flagged")
        self._certificates = Grid[Held](
            CERTIFICATES, lambda row: f"{row.certificate.role}/{row.certificate.subject}", empty="no certificate was issued yet"
        )
        self._proofs = Grid[Proof](PROOFS, lambda row: row.name, empty="isolation was not proven yet: `edgefl verify`")
        self._state = FederationState()
        self._found = Found()
        self._held: list[Certificate] = []
        super().__init__(self._flags)

    def below(self) -> Iterable[Widget]:
        """The other two tables."""
        return (self._certificates, self._proofs)

    def show(self, frame: Frame) -> None:
        """Bring the three tables up to this frame."""
        state = frame.state
        if state.certificates is not self._state.certificates:
            self._held = list(state.certificates.values())
        self._state = state
        self._flags.show(self._found.of(state))
        self._certificates.show(Rows(self._held, lambda each: Held(each, frame)))
        hosts: list[str | DeviceRow] = [*state.proofs, *summary.members(state)]
        self._proofs.show(Rows(hosts, lambda host: _proof(host, frame)))

    def begin(self) -> None:
        """The flags have the keyboard: two keys lead to the newest one's evidence, from anywhere."""
        self.grid = self._flags
        self._tell()

    def device_of(self, row: Finding | Held | Proof) -> str:
        """The device that a flag, a certificate or a proof is about; the coordinator is none, and no operator."""
        if isinstance(row, Finding):
            return row.device.name
        return row.name if row.name in self._state.devices else ""

    def action_logs(self) -> None:
        """Read the logs of the chosen rows' hosts, the coordinator's included."""
        gates = {one.subject for one in self._held if one.role == "gate"} | set(self._state.proofs)
        named = (row.device.name if isinstance(row, Finding) else row.name for row in self.chosen)
        hosts = dict.fromkeys(name for name in named if name in self._state.devices or name in gates)
        if hosts:
            self.post_message(self.Logs(list(hosts)))

    def copied(self, row: Finding | Held | Proof) -> str:
        """Of a flag what tells it from others, of a certificate its serial, of a proof its hash."""
        if isinstance(row, Finding):
            return row.key
        if isinstance(row, Held):
            return row.certificate.serial
        return row.isolation.proof_sha256 if row.isolation else row.name

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Filter and sorting act on the table that has the keyboard."""
        if isinstance(event.widget, Grid):
            self.grid = event.widget
            self._tell()

    def on_grid_opened(self, message: Grid.Opened) -> None:
        """Enter: the flag's evidence, the certificate's device, the proof whole."""
        if message.grid is self._flags:
            found = next((row for row in self._flags.rows if row.key == message.key), None)
            if found is not None:
                self.post_message(self.Open(FlagPage(found.device.name, found.flag)))
        elif isinstance(row := message.grid.selected, Proof):
            self.post_message(self.Open(Whole(f"isolation of {row.name}", list(guarded.of_proof(row)))))
        elif isinstance(row, Held):
            name = row.certificate.subject
            is_device = row.certificate.role == "device" and name in self._state.devices
            title = f"certificate of {name}"
            self.post_message(self.Open(DevicePage(name) if is_device else Whole(title, list(guarded.of_certificate(row)))))


def _proof(host: str | DeviceRow, frame: Frame) -> Proof:
    """The row of the coordinator, known by its name, or of a device."""
    if isinstance(host, str):
        return Proof(host, frame.state.proofs[host], frame)
    return Proof(host.name, host.isolation, frame)
