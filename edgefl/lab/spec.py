"""What a lab host is to be, and what it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

from edgefl.lab.network import Link, ula


@dataclass(frozen=True, slots=True)
class HostSpec:
    """One host as it is wanted.

    address: IPv4, within the lab's network. cpu: cores. memory_mb: MiB. Rates in Mbit/s, None is unlimited; latency in each
    direction. data: a local directory (or file) that is copied to /srv/edgefl/data when the host is created, and never again.
    preloaded: the host starts on the lab's layer (`Lab.use_layer`) where there is one, else on the bare image.
    """

    name: str
    address: str
    role: str = "device"
    cpu: float = 1.0
    memory_mb: int = 1536
    uplink_mbit: float | None = None
    downlink_mbit: float | None = None
    latency_ms: float = 0.0
    data: Path | None = None
    preloaded: bool = True

    @property
    def link(self) -> Link:
        """The host's link."""
        return Link(self.uplink_mbit, self.downlink_mbit, self.latency_ms)

    def as_dict(self) -> dict[str, Any]:
        """The host as JSON has it."""
        return {**asdict(self), "data": None if self.data is None else str(self.data)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HostSpec:
        """What `as_dict` gave."""
        return cls(**{**values, "data": None if values.get("data") is None else Path(values["data"])})


@dataclass(frozen=True, slots=True)
class HostState:
    """One host as it is. host_key: its public SSH key, `ssh-ed25519 AAAA…`, known before it first booted."""

    spec: HostSpec
    host_key: str
    running: bool

    @property
    def address6(self) -> IPv6Address:
        """The host's IPv6 address in the lab."""
        return ula(IPv4Address(self.spec.address))

    def as_dict(self) -> dict[str, Any]:
        """The host as `--json` prints it."""
        return {**self.spec.as_dict(), "address6": str(self.address6), "host_key": self.host_key, "running": self.running}
