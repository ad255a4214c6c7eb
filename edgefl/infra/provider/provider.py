"""The provider: where the lab lies, and its one resource."""

from __future__ import annotations

import threading
from collections.abc import Callable
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any, Protocol

from tf import schema, types
from tf.iface import Provider, Resource
from tf.utils import Diagnostics

from edgefl.errors import EdgeflError
from edgefl.lab.spec import HostSpec, HostState


class Hosts(Protocol):
    """What makes hosts: `edgefl.lab.hosts.Lab`. Called from several threads at once."""

    def create(self, spec: HostSpec) -> HostState:
        """Have the host as `spec` says, and running; EdgeflError when it does not come up."""

    def read(self, name: str) -> HostState | None:
        """The host as it is; None when there is none."""

    def delete(self, name: str) -> None:
        """End the host and erase it; nothing happens when there is none."""


class EdgeflProvider(Provider):  # type: ignore[misc]  # tf has no types
    """`open_hosts` gives what makes the hosts of a lab's directory and network. `stop` is set when Terraform was interrupted."""

    def __init__(self, open_hosts: Callable[[Path, IPv4Interface], Hosts]) -> None:
        self._open_hosts = open_hosts
        self._hosts: Hosts | None = None
        self.stop = threading.Event()

    @property
    def hosts(self) -> Hosts:
        """What makes hosts; RuntimeError before Terraform configured the provider."""
        if self._hosts is None:
            raise RuntimeError("Terraform has not configured the provider")
        return self._hosts

    def get_model_prefix(self) -> str:
        """What the names of all resources begin with."""
        return "edgefl_"

    def full_name(self) -> str:
        """The provider's address."""
        return "edgefl.local/edgefl/edgefl"

    def get_provider_schema(self, diags: Diagnostics) -> schema.Schema:
        """The provider block."""
        return schema.Schema(
            attributes=[
                schema.Attribute("directory", types.String(), required=True, description="Where the lab's hosts lie."),
                schema.Attribute("network", types.String(), required=True, description="The lab's network, as 10.77.0.1/24."),
            ]
        )

    def validate_config(self, diags: Diagnostics, config: dict[str, Any]) -> None:
        """Everything is checked when the provider is configured."""

    def configure_provider(self, diags: Diagnostics, config: dict[str, Any]) -> None:
        """Open the lab."""
        try:
            self._hosts = self._open_hosts(Path(config["directory"]), IPv4Interface(config["network"]))
        except (ValueError, OSError, EdgeflError) as error:
            diags.add_error("the lab cannot be opened", str(error))

    def get_data_sources(self) -> list[Any]:
        """None."""
        return []

    def get_resources(self) -> list[type[Resource]]:
        """The lab host."""
        from edgefl.infra.provider.host import LabHost

        return [LabHost]
