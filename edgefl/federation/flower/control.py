"""The coordinator's own hand on its SuperLink: Flower's Control API on the loopback.

Only services of the coordinator use it. Flower answers anyone who reaches it; that nobody else does is the firewall's and
the gate's to see to.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from edgefl import layout
from edgefl.errors import EdgeflError, ExitCode
from edgefl.federation.flower import contract, patches
from edgefl.federation.hostconfig import Places
from edgefl.layout import SUPERLINK_PORT

Value = bool | int | float | str


class ControlFailed(EdgeflError):
    """The SuperLink did not do what it was asked, or is not there."""

    exit_code = ExitCode.RUN_FAILED


class SuperLinkAway(ControlFailed):
    """The SuperLink does not answer; it may be starting."""


class RunNotFound(ControlFailed):
    """The SuperLink knows no run of that number."""


@dataclass(frozen=True, slots=True)
class Node:
    """A SuperNode as the SuperLink lists it. name: the device's, as registered."""

    node_id: int
    name: str
    state: Literal["registered", "online", "offline", "unregistered"]
    public_key: bytes = b""


@dataclass(frozen=True, slots=True)
class FlowerRun:
    """A run as the SuperLink lists it. outcome: `completed`, `failed`, `stopped`, or empty while it is not finished."""

    run: str
    state: Literal["pending", "starting", "running", "finished"]
    outcome: str
    details: str


class Control:
    """A connection to the Control API; a context manager."""

    def __init__(self, places: Places | None = None, *, port: int = SUPERLINK_PORT) -> None:
        places = places or Places.from_environment()
        try:
            context = ssl.create_default_context(cafile=str(places.authority))
        except (OSError, ssl.SSLError) as error:
            raise ControlFailed(
                f"the site's authority in {places.authority} cannot be used: {error}", hint="edgefl up"
            ) from error
        patches.quiet()
        contract.require("control")
        self._client = patches.control_client(f"https://localhost:{port}", context)
        self._messages = patches.control_messages()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def start_run(self, fab: Path, config: Mapping[str, Value]) -> int:
        """Start the app in `fab` with this run configuration; returns Flower's run id."""
        try:
            request = patches.start_run_request(fab, dict(config))
        except OSError as error:
            raise ControlFailed(f"the app {fab} cannot be read: {error.strerror}", hint="edgefl up") from error
        with _translated("start the run"):
            response = self._client.StartRun(request)
        if not response.HasField("run_id"):
            raise ControlFailed("the SuperLink took the app but started no run; its log says why")
        return int(response.run_id)

    def stop_run(self, run: int) -> bool:
        """Stop a run; False when it was over already."""
        with _translated(f"stop run {run}"):
            if self.run(run).state == "finished":
                return False
            return bool(self._client.StopRun(self._messages.StopRunRequest(run_id=run)).success)

    def runs(self, limit: int = 100) -> list[FlowerRun]:
        """The latest runs, newest first."""
        with _translated("list its runs"):
            listed = self._client.ListRuns(self._messages.ListRunsRequest(limit=limit)).run_dict
        return [_run(run) for run in sorted(listed.values(), key=lambda run: run.pending_at, reverse=True)]

    def run(self, run: int) -> FlowerRun:
        """One run; RunNotFound when there is none of that number."""
        with _translated(f"find run {run}"):
            listed = self._client.ListRuns(self._messages.ListRunsRequest(run_id=run)).run_dict
        if run not in listed:
            raise RunNotFound(f"the SuperLink knows no run {run}", hint="edgefl rounds")
        return _run(listed[run])

    def nodes(self) -> list[Node]:
        """Every SuperNode that is registered, or was."""
        with _translated("list its nodes"):
            listed = self._client.ListNodes(self._messages.ListNodesRequest()).nodes_info
        return [Node(node.node_id, node.name, node.status, bytes(node.public_key)) for node in listed]

    def register(self, name: str, public_key: str) -> int:
        """Register a device's SuperNode key (OpenSSH text, ECDSA on a NIST curve); returns its node id."""
        with _translated(f"register {name}"):
            response = self._client.RegisterNode(
                self._messages.RegisterNodeRequest(public_key=key_bytes(name, public_key), name=name)
            )
        return int(response.node_id)

    def unregister(self, node_id: int) -> None:
        """Remove a SuperNode; its key can never be registered again."""
        with _translated(f"unregister node {node_id}"):
            self._client.UnregisterNode(self._messages.UnregisterNodeRequest(node_id=node_id))


def key_bytes(name: str, public_key: str) -> bytes:
    """An OpenSSH public key as Flower keeps it; ControlFailed when it is not ECDSA on a NIST curve."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    try:
        key = load_ssh_public_key(public_key.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ControlFailed(
            f"the SuperNode key of {name} cannot be read: {error}",
            hint=f"on {name}: rm {layout.IDENTITY}/node.*, then edgefl up",
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ControlFailed(
            f"the SuperNode key of {name} is not ECDSA, and Flower takes nothing else", hint="ssh-keygen -t ecdsa -b 384"
        )
    return patches.node_key_bytes(key)


def _run(run: Any) -> FlowerRun:
    return FlowerRun(str(run.run_id), run.status.status, run.status.sub_status, run.status.details)


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn what the HTTP client raises into ControlFailed with Flower's own reason."""
    import httpx

    try:
        yield
    except httpx.HTTPStatusError as error:
        reason = patches.refusal(error.response.text)
        raise ControlFailed(f"the SuperLink did not {what}: {reason}", hint="edgefl logs coordinator") from error
    except httpx.HTTPError as error:
        raise SuperLinkAway(f"the SuperLink could not be asked to {what}: {error}", hint="edgefl doctor coordinator") from error


def start_run(fab: Path, config: Mapping[str, Value]) -> int:
    """Start the app in `fab` at this host's SuperLink; returns Flower's run id."""
    with Control() as control:
        return control.start_run(fab, config)


def stop_run(run: int) -> bool:
    """Stop a run at this host's SuperLink; False when it was over already."""
    with Control() as control:
        return control.stop_run(run)


def nodes() -> list[Node]:
    """Every SuperNode that this host's SuperLink lists."""
    with Control() as control:
        return control.nodes()


def runs() -> list[FlowerRun]:
    """The latest runs of this host's SuperLink, newest first."""
    with Control() as control:
        return control.runs()


def register(name: str, public_key: str) -> int:
    """Register a device's SuperNode key at this host's SuperLink; returns its node id."""
    with Control() as control:
        return control.register(name, public_key)
