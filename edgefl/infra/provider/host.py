"""`edgefl_lab_host`: one host of the lab as a Terraform resource.

Rules that keep hosts from being lost: an error after a side effect is reported together with what exists, so that the host
is in the state (tainted) and never orphaned; creation is idempotent, so a host that exists without being in the state is
taken over; what differs from the state is found on every plan.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tf import schema, types
from tf.iface import (
    CreateContext,
    DeleteContext,
    ImportContext,
    PlanContext,
    ReadContext,
    Resource,
    UpdateContext,
)
from tf.utils import Diagnostics

from edgefl.errors import EdgeflError
from edgefl.infra.provider.provider import EdgeflProvider
from edgefl.lab.spec import HostSpec, HostState

State = dict[str, Any]


class Quantity(types.Number):  # type: ignore[misc]  # tf has no types
    """A number that survives the wire: Terraform sends 0.3 as text, since no float is exactly that (cty's msgpack form)."""

    def decode(self, value: Any) -> Any:
        """Wire to Python: always a float."""
        return value if value is None or value is types.Unknown else float(value)

    def encode(self, value: Any) -> Any:
        """Python to wire: whole numbers as such, others in their shortest decimal form."""
        if value is None or value is types.Unknown:
            return value
        return int(value) if float(value).is_integer() else repr(float(value))


class LabHost(Resource):  # type: ignore[misc]  # tf has no types
    """One host of the lab."""

    def __init__(self, provider: EdgeflProvider) -> None:
        self.provider = provider

    @classmethod
    def get_name(cls) -> str:
        """`edgefl_lab_host` without the provider's prefix."""
        return "lab_host"

    @classmethod
    def get_schema(cls) -> schema.Schema:
        """The attributes; the host's key is its public one."""

        def given(name: str, kind: types.TfType, description: str, *, replace: bool = False, required: bool = True) -> Any:
            return schema.Attribute(name, kind, description, required=required, optional=not required, requires_replace=replace)

        def found(name: str, kind: types.TfType, description: str, **default: Any) -> Any:
            return schema.Attribute(name, kind, description, computed=True, **default)

        return schema.Schema(
            version=1,
            attributes=[
                given("name", types.String(), "Host name.", replace=True),
                given("role", types.String(), "coordinator, device or watcher."),
                given("address", types.String(), "IPv4 address in the lab's network.", replace=True),
                given("cpu", Quantity(), "Cores."),
                given("memory_mb", Quantity(), "Memory in MiB."),
                given("uplink_mbit", Quantity(), "Rate from the host, in Mbit/s; null is unlimited.", required=False),
                given("downlink_mbit", Quantity(), "Rate to the host, in Mbit/s; null is unlimited.", required=False),
                given("latency_ms", Quantity(), "Delay in each direction, in ms."),
                given("data", types.String(), "Directory copied to the host at its creation.", replace=True, required=False),
                given("preloaded", types.Bool(), "Whether the host starts on the lab's layer.", replace=True),
                found("id", types.String(), "The host's name."),
                found("host_key", types.String(), "Public SSH host key."),
                found("running", types.Bool(), "Whether the host runs; one that does not is booted.", default=True),
            ],
        )

    def create(self, ctx: CreateContext, planned: State) -> State | None:
        """Make and boot the host, or take over the one that exists."""
        if self.provider.stop.is_set():
            ctx.diagnostics.add_error(f"{planned['name']} was not begun", "stopped")
            return None
        return self._have(ctx.diagnostics, planned, otherwise=None)

    def read(self, ctx: ReadContext, current: State) -> State | None:
        """The host as it is; None when it is gone, so that the plan makes it again."""
        try:
            host = self.provider.hosts.read(current["name"])
        except (EdgeflError, OSError) as error:
            _report(ctx.diagnostics, current["name"], "cannot be read", error)
            return current
        return None if host is None else _state(host)

    def plan(self, ctx: PlanContext, current: State | None, planned: State) -> State:
        """A host that stands still is to run."""
        return {**planned, "running": True}

    def update(self, ctx: UpdateContext, current: State, planned: State) -> State | None:
        """Change limits and link while it runs; boot it where it does not."""
        return self._have(ctx.diagnostics, planned, otherwise=current)

    def delete(self, ctx: DeleteContext, current: State) -> State | None:
        """End the host; it stays in the state when that fails."""
        return self._attempt(ctx.diagnostics, current, "cannot be removed", self._end, otherwise=current)

    def import_(self, ctx: ImportContext, id: str) -> State | None:  # noqa: A002 - tf's word
        """Take over a host of the lab by its name."""
        host = self.provider.hosts.read(id)
        if host is None:
            ctx.diagnostics.add_error(f"the lab has no host {id}", "edgefl lab list")
        return None if host is None else _state(host)

    def _have(self, diagnostics: Diagnostics, planned: State, *, otherwise: State | None) -> State | None:
        """Bring the host to `planned`. After a failure, what there is of it."""

        def bring(wanted: State) -> State:
            host = self.provider.hosts.create(_spec(wanted))
            return {**wanted, "id": host.spec.name, "host_key": host.host_key, "running": host.running}

        return self._attempt(diagnostics, planned, "does not come up", bring, otherwise=otherwise)

    def _end(self, current: State) -> None:
        self.provider.hosts.delete(current["name"])

    def _attempt(
        self,
        diagnostics: Diagnostics,
        state: State,
        failed: str,
        action: Callable[[State], State | None],
        *,
        otherwise: State | None,
    ) -> State | None:
        """Act on a host. Whatever is raised becomes an error with what exists, never a host that nobody knows of."""
        try:
            return action(state)
        except Exception as error:  # noqa: BLE001 - an exception that leaves here loses the host from the state
            _report(diagnostics, state["name"], failed, error)
        try:
            host = self.provider.hosts.read(state["name"])
        except (EdgeflError, OSError):
            return otherwise
        return None if host is None else _state(host)


def _report(diagnostics: Diagnostics, name: str, failed: str, error: Exception) -> None:
    if isinstance(error, EdgeflError):
        diagnostics.add_error(error.what, error.hint)
    else:
        diagnostics.add_error(f"{name} {failed}", f"{type(error).__name__}: {error}")


def _spec(state: State) -> HostSpec:
    """The host that a planned state asks for."""
    return HostSpec(
        name=state["name"],
        address=state["address"],
        role=state["role"],
        cpu=state["cpu"],
        memory_mb=int(state["memory_mb"]),
        uplink_mbit=state["uplink_mbit"],
        downlink_mbit=state["downlink_mbit"],
        latency_ms=state["latency_ms"],
        data=None if state["data"] is None else Path(state["data"]),
        preloaded=state["preloaded"],
    )


def _state(host: HostState) -> State:
    """A host as Terraform's state has it."""
    return {**host.spec.as_dict(), "id": host.spec.name, "host_key": host.host_key, "running": host.running}
