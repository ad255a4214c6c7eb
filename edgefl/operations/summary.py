"""What came of a run on a site, as one value: for result.json, for the CLI's picture, for tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from edgefl import layout
from edgefl.monitor.device import DeviceRow
from edgefl.monitor.state import FederationState
from edgefl.operations.state import inventory_of
from edgefl.operations.watch import watching
from edgefl.progress import Finished, Progress
from edgefl.site.model import Site

if TYPE_CHECKING:
    from edgefl.fleet.evidence import Proof


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the chain and how long it took."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Summary:
    """A run and the fleet that it ran on.

    clean_floor: the accuracy that it had to reach, None when nothing was compared. proof: the last signed matrix of isolation.
    model: the file on this machine. journal: where the coordinator keeps it.
    """

    stages: tuple[Stage, ...]
    state: FederationState
    compromised: tuple[str, ...]
    clean_floor: float | None
    model: str
    journal: str
    proof: Proof | None = None

    @property
    def curve(self) -> list[float]:
        """Accuracy round by round."""
        return [row.accuracy for row in self.state.rounds if row.accuracy is not None]

    @property
    def accuracy(self) -> float | None:
        """The run's last accuracy."""
        return self.state.run.accuracy if self.state.run else None

    def result(self) -> dict[str, Any]:
        """The content of result.json."""
        run = self.state.run
        return {
            "stages": [{"name": stage.name, "seconds": stage.seconds} for stage in self.stages],
            "run": {
                "id": run.id if run else "",
                "rounds": sum(row.state == "finished" for row in self.state.rounds),
                "accuracy": self.accuracy,
                "clean_floor": self.clean_floor,
            },
            "devices": [self._device(row) for row in self.state.devices.values()],
            "compromised": list(self.compromised),
        }

    def _device(self, row: DeviceRow) -> dict[str, Any]:
        run = self.state.run.id if self.state.run else ""
        return {
            "name": row.name,
            "state": row.state,
            "isolation": row.isolation is not None and row.isolation.holds,
            "cert_expires_at": _text(row.certificate.not_after if row.certificate else None),
            "epsilon": {"spent": row.epsilon.spent, "limit": row.epsilon.limit},
            "flags": [{"round": flag.round, "rule": flag.rule, "score": flag.score} for flag in row.flags if flag.run == run],
        }


async def summarise(
    site: Site, events: Iterable[Progress], *, compromised: Sequence[str] = (), clean_floor: float | None = None
) -> Summary:
    """Gather the summary of the site's last run. events: what `up` and `run` said. Raises MonitorUnreachable."""
    from edgefl.fleet import evidence

    inventory = inventory_of(site)
    async with watching(site) as monitor:
        state = (await monitor.status()).state
    stages = tuple(
        Stage(event.stage, round(event.seconds, 2)) for event in events if isinstance(event, Finished) and not event.subject
    )
    run = state.run.id if state.run else ""
    model = str(site.state / "models" / f"{run}.safetensors")
    journal = f"{inventory.coordinator.name}:{layout.JOURNAL}"
    return Summary(stages, state, tuple(compromised), clean_floor, model, journal, evidence.latest(site.state))


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
