"""Families from values: what is not known has no sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

Labels = TypeVar("Labels", bound=str | tuple[str, ...])
"""The one label's value, or those of all labels."""


def gauge(name: str, text: str, value: float | None) -> GaugeMetricFamily:
    """One value that rises and falls."""
    return gauges(name, text, (), {(): value})


def gauges(name: str, text: str, labels: tuple[str, ...], samples: Mapping[Labels, float | None]) -> GaugeMetricFamily:
    """Values that rise and fall."""
    family = GaugeMetricFamily(name, text, labels=labels)
    _fill(family, samples)
    return family


def counters(name: str, text: str, labels: tuple[str, ...], samples: Mapping[Labels, float | None]) -> CounterMetricFamily:
    """Values that only ever grow; `_total` is added to the name."""
    family = CounterMetricFamily(name, text, labels=labels)
    _fill(family, samples)
    return family


def _fill(family: CounterMetricFamily | GaugeMetricFamily, samples: Mapping[Labels, float | None]) -> None:
    for labels, value in samples.items():
        if value is not None:
            family.add_metric([labels] if isinstance(labels, str) else list(labels), value)
