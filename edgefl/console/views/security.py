"""Security: what was found about updates, which certificates are valid until when, and whether isolation was proven."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.widget import Widget

from edgefl.console import figures, summary
from edgefl.console.ink import Ink, Tone, ink, plain
from edgefl.console.live import Frame
from edgefl.console.pages.device import DevicePage
from edgefl.console.pages.flag import FlagPage
from edgefl.console.rows import Rows
from edgefl.console.view import GridView
from edgefl.console.widgets.columns import Column
from edgefl.console.widgets.grid import Grid
from edgefl.console.widgets.states import certificate_ink, state_ink
from edgefl.monitor.device import Certificate, DeviceRow, Flag, Isolation
from edgefl.monitor.state import FederationState


@dataclass(frozen=True, slots=True)
class Finding:
    """A flag, and the device that it is about as it stands now."""

    device: DeviceRow
    flag: Flag

    @property
    def key(self) -> str:
        """What tells it from every other: `edge-07/4/12/guard`."""
        return f"{self.device.name}/{self.flag.run}/{self.flag.round}/{self.flag.rule}"


@dataclass(frozen=True, slots=True)
class Held:
    """A certificate at a frame's moment."""

    certificate: Certificate
    frame: Frame = field(compare=False)

    @property
    def issued_s(self) -> float | None:
        """Since it was issued."""
        return self.frame.age_s(self.certificate.not_before)

    @property
    def left_s(self) -> float:
        """Until it ends; negative once it has."""
        return (self.certificate.not_after - self.frame.now).total_seconds()


@dataclass(frozen=True, slots=True)
class Proof:
    """A host's last proof at a frame's moment; None where there was none."""

    host: str
    isolation: Isolation | None
    frame: Frame = field(compare=False)

    @property
    def age_s(self) -> float | None:
        """Since it was proven."""
        return self.frame.age_s(self.isolation.at if self.isolation else None)


class Security(GridView):
    """Flags, certificates and isolation, one table below the other; tab goes from one to the next."""

    NAME = "Security"
    WHAT = (
        "Flags with their evidence, certificates, isolation proofs; tab goes from table to table. Enter opens a flag or device."
    )
    BINDINGS: ClassVar[list[BindingType]] = [Binding("tab", "app.focus_next", "Next table")]

    def __init__(self) -> None:
        self._flags = Grid[Finding](FLAGS, lambda row: row.key, empty="no update was flagged")
        self._certificates = Grid[Held](
            CERTIFICATES, lambda row: f"{row.certificate.role}/{row.certificate.subject}", empty="no certificate was issued yet"
        )
        self._proofs = Grid[Proof](PROOFS, lambda row: row.host, empty="isolation was not proven yet: `edgefl verify`")
        self._state = FederationState()
        super().__init__(self._flags)

    def below(self) -> Iterable[Widget]:
        """The other two tables."""
        return (self._certificates, self._proofs)

    def show(self, frame: Frame) -> None:
        """Bring the three tables up to this frame."""
        state = frame.state
        self._state = state
        self._flags.show(findings(state))
        self._certificates.show(Rows(list(state.certificates.values()), lambda each: Held(each, frame)))
        self._proofs.show(Rows(list(_proofs(state)), lambda each: Proof(*each, frame)))

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Filter and sorting act on the table that has the keyboard."""
        if isinstance(event.widget, Grid):
            self.grid = event.widget
            self._tell()

    def on_grid_opened(self, message: Grid.Opened) -> None:
        """Enter: the flag's evidence; of a certificate or a proof the device."""
        if message.grid is self._flags:
            found = next((row for row in self._flags.rows if row.key == message.key), None)
            if found is not None:
                self.post_message(self.Open(FlagPage(found.device.name, found.flag)))
            return
        name = message.key.removeprefix("device/")
        if any(row.name == name for row in summary.members(self._state)):
            self.post_message(self.Open(DevicePage(name)))


def findings(state: FederationState) -> list[Finding]:
    """Every flag that is kept, the newest first."""
    found = [Finding(row, flag) for row in summary.members(state) if row.flags for flag in row.flags]
    return sorted(found, key=lambda finding: (finding.flag.at, finding.device.name), reverse=True)


def _proofs(state: FederationState) -> Iterator[tuple[str, Isolation | None]]:
    yield from state.proofs.items()
    for row in summary.members(state):
        yield row.name, row.isolation


def _result(row: Proof, _: int) -> Ink:
    if row.isolation is None:
        return ink("! not proven", Tone.WARN)
    if row.isolation.drift is not None and not row.isolation.open_forbidden:
        return ink("! changed", Tone.WARN) if row.isolation.drift.healed else ink("✖ changed", Tone.BAD)
    return ink("✓ holds", Tone.GOOD) if row.isolation.holds else ink("✖ broken", Tone.BAD)


def _paths(names: Sequence[str]) -> Ink:
    return ink(", ".join(names), Tone.BAD) if names else ink("·", Tone.MUTED)


def _status(row: Held, _: int) -> Ink:
    if row.certificate.revoked:
        return ink(f"✖ revoked: {row.certificate.revoked}", Tone.BAD)
    return ink("✓ valid", Tone.GOOD) if row.left_s > 0 else ink("✖ expired", Tone.BAD)


_PEERS: Column[Finding] = Column(
    "peers",
    "SCORE AMONG PEERS",
    18,
    lambda row, cells: figures.strip(row.flag.score, row.flag.threshold, row.flag.peers, cells),
    lambda row: row.flag.score,
    importance=1,
    right=False,
    most=32,
    descending=True,
    raw=lambda row: row.flag.peers,
)
FLAGS: tuple[Column[Finding], ...] = (
    Column(
        "flag", "⚑ FLAG", 8, lambda row, _: ink(row.device.name, Tone.STRONG), lambda row: row.device.name,
        right=False, whole=True,
    ),
    Column("round", "ROUND", 5, lambda row, _: ink(str(row.flag.round)), lambda row: row.flag.round, descending=True),
    Column("rule", "RULE", 6, lambda row, _: ink(row.flag.rule), lambda row: row.flag.rule, 4, right=False),
    Column(
        "score", "SCORE", 5, lambda row, _: ink(figures.number(row.flag.score), Tone.BAD), lambda row: row.flag.score,
        descending=True,
    ),
    Column("limit", "LIMIT", 5, lambda row, _: ink(figures.number(row.flag.threshold)), lambda row: row.flag.threshold),
    _PEERS,
    Column("now", "NOW", 13, lambda row, _: state_ink(row.device.state), lambda row: row.device.state, 2, right=False),
    Column(
        "why", "WHY", 8, lambda row, _: ink(row.flag.reason, Tone.MUTED), lambda row: row.flag.reason, 3,
        right=False, most=60,
    ),
)  # fmt: skip
CERTIFICATES: tuple[Column[Held], ...] = (
    Column(
        "subject", "CERTIFICATE", 11, lambda row, _: ink(row.certificate.subject, Tone.STRONG),
        lambda row: row.certificate.subject, right=False, whole=True,
    ),
    Column("role", "ROLE", 9, lambda row, _: ink(row.certificate.role), lambda row: row.certificate.role, 1, right=False),
    Column(
        "ends", "ENDS IN", 7, lambda row, _: certificate_ink(row.certificate, row.left_s), lambda row: row.left_s, ages=True
    ),
    Column(
        "status", "STATUS", 10, _status, lambda row: row.certificate.revoked, right=False, most=40,
        raw=lambda row: plain(_status(row, 0))[2:], ages=True,
    ),
    Column("issued", "ISSUED", 6, lambda row, _: ink(figures.age(row.issued_s)), lambda row: row.issued_s, 2, ages=True),
    Column(
        "serial", "SERIAL", 16, lambda row, _: ink(row.certificate.serial, Tone.MUTED), lambda row: row.certificate.serial, 3,
        right=False, most=40,
    ),
)  # fmt: skip
PROOFS: tuple[Column[Proof], ...] = (
    Column("host", "ISOLATION", 11, lambda row, _: ink(row.host, Tone.STRONG), lambda row: row.host, right=False, whole=True),
    Column("result", "RESULT", 12, _result, lambda row: row.isolation.holds if row.isolation else None, right=False),
    Column(
        "probes", "PROBES", 6, lambda row, _: ink(str(row.isolation.probes) if row.isolation else figures.NOTHING),
        lambda row: row.isolation.probes if row.isolation else None, 2,
    ),
    Column("age", "PROVEN", 6, lambda row, _: ink(figures.age(row.age_s)), lambda row: row.age_s, 1, ages=True),
    Column(
        "open", "OPEN, THOUGH FORBIDDEN", 10, lambda row, _: _paths(row.isolation.open_forbidden if row.isolation else ()),
        lambda row: len(row.isolation.open_forbidden) if row.isolation else None, right=False, most=40, descending=True,
        raw=lambda row: row.isolation.open_forbidden if row.isolation else None,
    ),
    Column(
        "closed", "CLOSED, THOUGH NEEDED", 10, lambda row, _: _paths(row.isolation.closed_required if row.isolation else ()),
        lambda row: len(row.isolation.closed_required) if row.isolation else None, 3, right=False, most=40, descending=True,
        raw=lambda row: row.isolation.closed_required if row.isolation else None,
    ),
)  # fmt: skip
