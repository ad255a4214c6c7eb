"""The state as Prometheus metrics: a standing exporter that reads what the journal says, so a run never needs a port.

Names follow Prometheus' conventions (base units, `_total` for counters); labels take only the site's own names and closed lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from edgefl.monitor.families import communication, security, system, training
from edgefl.monitor.status import Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class FederationCollector(Collector):
    """Turns the current status into samples whenever Prometheus asks."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        """Every metric of the federation."""
        status = self._status()
        for room in (training, communication, security, system):
            yield from room.families(status)


def exposition(status: Callable[[], Status]) -> bytes:
    """The text that a scrape gets."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FederationCollector(status))
    return generate_latest(registry)
