"""What every host of a site says of itself, whatever it is for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, StringConstraints

from edgefl.site.section import Address, Model, Port

Name = Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$")]
"""A DNS label: it becomes a host name, a certificate's common name and a metric's label."""
Role = Literal["coordinator", "device", "watcher"]
"""What a host is for."""


class Limits(Model):
    """What a lab host gets of the machine; only the `lab` module reads these."""

    cpu: PositiveFloat = 1.0
    """Cores, e.g. 0.5."""
    memory_mb: Annotated[int, Field(ge=256)] = 1536
    """Memory in MiB."""
    uplink_mbit: PositiveFloat | None = None
    """Rate from the host to the network, in Mbit/s; none means unlimited."""
    downlink_mbit: PositiveFloat | None = None
    """Rate from the network to the host, in Mbit/s; none means unlimited."""
    latency_ms: Annotated[float, Field(ge=0)] = 0.0
    """Delay added in each direction, in ms."""


class HostBase(Model):
    """How a host is reached over SSH."""

    role: ClassVar[Role]
    name: Name
    """Unique in the site; it is the host's identity in certificates, events and the console."""
    address: Address | None = None
    """IP address; required by `static`, chosen by `lab` where it is left out."""
    ssh_user: str = "root"
    """Account with root rights by itself or by passwordless sudo."""
    ssh_port: Port = 22
    """TCP port of the host's SSH server."""
    ssh_key: Path | None = None
    """Private key file for SSH; none means the operator's agent and default keys. The lab makes its own."""
    host_key: str | None = None
    """The host's public SSH key (`ssh-ed25519 AAAA…`); none means that it stands in the operator's known_hosts."""
    limits: Limits = Limits()
    """What a lab host gets of this machine."""


class Watcher(HostBase):
    """A host for Prometheus and Alertmanager alone: it trains nothing, coordinates nothing, and runs no code of the task's."""

    role: ClassVar[Role] = "watcher"
    name: Name = "watch"
    """The host's name."""
