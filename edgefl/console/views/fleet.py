"""The fleet: a row per device, what it does, how well, and what it has left to spend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from textual.binding import BindingType

from edgefl.console import figures, summary
from edgefl.console.ink import Ink, Tone, ink
from edgefl.console.live import Frame
from edgefl.console.pages.device import DevicePage
from edgefl.console.rows import Rows
from edgefl.console.view import LOGS, GridView
from edgefl.console.widgets.columns import Column
from edgefl.console.widgets.grid import Grid
from edgefl.console.widgets.states import URGENCY, certificate_ink, epsilon_ink, state_ink
from edgefl.monitor.device import DeviceRow


@dataclass(frozen=True, slots=True)
class Line:
    """A device at a frame's moment: ages change while the device does not."""

    device: DeviceRow
    frame: Frame = field(compare=False)

    @property
    def seen_s(self) -> float | None:
        """Since it last gave a sign of life."""
        return self.frame.age_s(self.device.seen)

    @property
    def certificate_s(self) -> float | None:
        """How long its certificate still lasts; negative once it has expired, None without one."""
        certificate = self.device.certificate
        return (certificate.not_after - self.frame.now).total_seconds() if certificate else None


class Fleet(GridView):
    """All devices, live."""

    NAME = "Fleet"
    WHAT = "Every device: state, last update, privacy budget, trust, certificate, link and load. Enter opens the device."
    OF_DEVICES = True
    BINDINGS: ClassVar[list[BindingType]] = [LOGS]

    def __init__(self) -> None:
        super().__init__(Grid[Line](COLUMNS, lambda line: line.device.name, empty="no devices yet: `edgefl up` brings them in"))

    def show(self, frame: Frame) -> None:
        """Bring the rows up to this frame."""
        self.grid.show(Rows(summary.members(frame.state), lambda row: Line(row, frame)))

    def on_grid_opened(self, message: Grid.Opened) -> None:
        """Enter: the device's page."""
        self.post_message(self.Open(DevicePage(message.key)))


def _certificate(shown: Line, _: int) -> Ink:
    certificate, left_s = shown.device.certificate, shown.certificate_s
    return ink(figures.NOTHING, Tone.MUTED) if certificate is None or left_s is None else certificate_ink(certificate, left_s)


def _trust(shown: Line, _: int) -> Ink:
    trust = shown.device.reputation
    if not shown.device.updates:
        return ink(figures.NOTHING, Tone.MUTED)
    return ink(figures.number(trust), Tone.PLAIN if trust >= 0.7 else Tone.WARN if trust >= 0.4 else Tone.BAD)


def _link(row: DeviceRow) -> str:
    return _known(f"{figures.size(row.update_bytes_up)}/{figures.size(row.update_bytes_down)}", row.updates)


def _plain(text: str) -> Ink:
    return ink(text, Tone.MUTED if text == figures.NOTHING else Tone.PLAIN)


def _column(
    key: str, title: str, cells: int, text: Callable[[DeviceRow], str], order: str, *, importance: int = 0
) -> Column[Line]:
    """A number of a device, the largest first when it sorts."""
    return Column(
        key,
        title,
        cells,
        lambda shown, _: _plain(text(shown.device)),
        lambda shown: getattr(shown.device, order),
        importance,
        descending=True,
    )


def _known(value: str, known: object) -> str:
    return value if known else figures.NOTHING


_DEVICE: Column[Line] = Column(
    "device", "DEVICE", 8, lambda it, _: ink(it.device.name, Tone.STRONG), lambda it: it.device.name, right=False, whole=True
)
_ARCHITECTURE: Column[Line] = Column(
    "arch",
    "ARCH",
    8,
    lambda it, _: _plain(it.device.architecture or figures.NOTHING),
    lambda it: it.device.architecture or None,
    importance=4,
    right=False,
)
_STATE: Column[Line] = Column(
    "state",
    "STATE",
    13,
    lambda it, _: state_ink(it.device.state),
    lambda it: URGENCY[it.device.state],
    right=False,
    descending=True,
    raw=lambda it: it.device.state,
)
_EPSILON: Column[Line] = Column(
    "epsilon",
    "ε SPENT/LIMIT",
    13,
    lambda it, cells: epsilon_ink(it.device.epsilon, cells),
    lambda it: it.device.epsilon.share,
    right=False,
    most=24,
    descending=True,
    raw=lambda it: it.device.epsilon.spent,
)
COLUMNS: tuple[Column[Line], ...] = (
    _DEVICE,
    _ARCHITECTURE,
    _STATE,
    _column("round", "ROUND", 5, lambda row: _known(str(row.round), row.updates), "round"),
    _column("acc", "ACC", 4, lambda row: figures.number(row.accuracy), "accuracy"),
    _column("loss", "LOSS", 5, lambda row: figures.number(row.loss), "loss", importance=1),
    _column("samples", "SAMPLES", 7, lambda row: figures.count(row.samples), "samples", importance=5),
    _EPSILON,
    Column("trust", "TRUST", 5, _trust, lambda it: it.device.reputation if it.device.updates else None, importance=2),
    Column("cert", "CERT", 7, _certificate, lambda it: it.certificate_s, importance=3, ages=True),
    _column("link", "LINK ↑/↓", 9, _link, "update_bytes_up", importance=7),
    _column("cpu", "CPU", 4, lambda row: figures.percent(row.cpu), "cpu", importance=6),
    Column("seen", "SEEN", 4, lambda it, _: _plain(figures.age(it.seen_s)), lambda it: it.seen_s, descending=True, ages=True),
)
