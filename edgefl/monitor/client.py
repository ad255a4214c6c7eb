"""The operator's side of the monitor: typed answers over mutual TLS, and a stream that survives the network."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from edgefl import layout
from edgefl.events.chain import JournalBroken, Walked
from edgefl.events.schema import Body, Event
from edgefl.infra.inventory import Host, Inventory
from edgefl.monitor.errors import MonitorUnreachable, Refused
from edgefl.monitor.identity import Identity, why_refused
from edgefl.monitor.line import HEARTBEAT_S, read_line
from edgefl.monitor.logs import LogLine, Wanted
from edgefl.monitor.past import Past
from edgefl.monitor.status import Status
from edgefl.monitor.walk import Walk

if TYPE_CHECKING:
    from socket import socket

    import httpx

    from edgefl.events.replay import Header

_TIMEOUT_S = 10.0
_PATIENCE_S = 15.0
"""How long a monitor that has too much to do is asked again."""
_MODELS_S = 120.0
"""Reading and comparing large models takes the coordinator a while."""
_SILENCE_S = HEARTBEAT_S * 4
"""A stream that says nothing for so long is dead, whatever TCP believes."""
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0

Dialler = Callable[[Host, int, float], "socket"]
"""(host, port, timeout in seconds) → a connected socket; `edgefl.fleet.dial.dial` is the usual one."""


class MonitorClient:
    """Talks to one site's monitor. Use as `async with MonitorClient.open(site.state, inventory) as monitor`.

    Every method raises MonitorUnreachable when there is no answer, and Refused (with the exit code that fits) when the
    answer is no. heard: monotonic time of the last sign of life, in seconds; None before the first.
    """

    def __init__(self, coordinator: Host, identity: Identity, dial: Dialler, *, port: int = layout.API_PORT) -> None:
        import httpx

        from edgefl.monitor.wire import Wire

        self._coordinator = coordinator
        self._http = httpx.AsyncClient(
            transport=Wire(lambda at, timeout_s: dial(coordinator, at, timeout_s), identity),
            base_url=f"https://{coordinator.name}:{port}",
            timeout=_TIMEOUT_S,
            trust_env=False,
        )
        self.heard: float | None = None

    @classmethod
    def open(
        cls, state_dir: Path, inventory: Inventory, *, dial: Dialler | None = None, port: int = layout.API_PORT
    ) -> MonitorClient:
        """The client for a site's working state (`.edgefl`). Nothing is sent yet."""
        if dial is None:
            from edgefl.fleet import dial as fleet

            dial = fleet.dial
        return cls(inventory.coordinator, Identity(state_dir / "operator"), dial, port=port)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def status(self, *, updates: bool = True) -> Status:
        """The federation now; `updates=False` leaves out each round's single updates."""
        answer = await self._request("GET", "/v1/status", params={"updates": updates})
        return Status.from_json(answer.content)

    async def metrics(self) -> str:
        """Prometheus' text format."""
        return str((await self._request("GET", "/metrics")).text)

    async def start_run(self, overrides: Mapping[str, Any] | None = None, why: str = "") -> str:
        """Start a run and return its id; `overrides` are fields of the site's `run` section."""
        answer = await self._request("POST", "/v1/runs", json={"overrides": dict(overrides or {}), "why": why}, timeout=60.0)
        return str(answer.json()["run"])

    async def stop_run(self, run: str, why: str = "") -> bool:
        """Stop a run; False when it was over already."""
        return bool((await self._request("POST", f"/v1/runs/{run}/stop", json={"why": why}, timeout=60.0)).json()["stopped"])

    async def models(self) -> dict[str, Any]:
        """Every version of the global model, oldest first, and what the next run starts from."""
        return dict((await self._request("GET", "/v1/models", timeout=_MODELS_S)).json())

    async def model(self, name: str) -> dict[str, Any]:
        """One version's card. Raises Refused with the nearest name where there is none."""
        return dict((await self._request("GET", "/v1/models/card", params={"model": name}, timeout=_MODELS_S)).json())

    async def compare_models(self, a: str, b: str) -> dict[str, Any]:
        """Two versions side by side: metrics, layers, lineage."""
        return dict((await self._request("GET", "/v1/models/compare", params={"a": a, "b": b}, timeout=_MODELS_S)).json())

    async def export_model(self, name: str) -> dict[str, Any]:
        """The card of a version that leaves the coordinator, which keeps it from now on."""
        return dict((await self._request("POST", "/v1/models/export", json={"model": name}, timeout=_MODELS_S)).json())

    async def choose_model(self, name: str, why: str = "") -> dict[str, Any]:
        """Have the next run start from a version; an empty name: from the task's own model."""
        return dict((await self._request("POST", "/v1/models/start", json={"model": name, "why": why}, timeout=_MODELS_S)).json())

    async def model_file(self, name: str) -> AsyncIterator[bytes]:
        """A version's safetensors, in parts."""
        with self._translated():
            async with self._http.stream("GET", "/v1/models/file", params={"model": name}, timeout=_MODELS_S) as answer:
                if not answer.is_success:
                    await answer.aread()
                async for part in _accepted(answer).aiter_bytes():
                    self.heard = time.monotonic()
                    yield part

    async def append(self, *bodies: Body) -> int:
        """Write what an operator did or found, all or none; the seq of the last. The monitor fills in who."""
        said = [body.model_dump(mode="json") for body in bodies]
        return int((await self._request("POST", "/v1/actions", json=said)).json()["last"])

    async def stream(self, after: int = 0, *, follow: bool = True) -> AsyncIterator[Event | None]:
        """One connection's events after `after`, and None for each heartbeat, until it is lost (MonitorUnreachable).

        Raises JournalBroken when the coordinator's journal is not the one that was read before.
        """
        params: dict[str, Any] = {"after": after, "follow": follow}
        async with self._streamed("/v1/events", params, silence_s=_SILENCE_S) as lines:
            async for line in lines:
                record = _understood(line)
                if record is None:
                    yield None
                    continue
                event = Event.model_validate(record)
                if event.seq != after + 1:
                    raise JournalBroken(after + 1, f"the monitor sent {event.seq} next", source="the event stream")
                after = event.seq
                yield event

    async def events(self, after: int = 0, *, follow: bool = True, patience_s: float | None = 60.0) -> AsyncIterator[Event]:
        """Events after `after`, in order, each once, across lost connections.

        patience_s: how long to go on without any sign of life before MonitorUnreachable; None means for ever.
        """
        silent_since, pause_s, last_hash = time.monotonic(), _FIRST_PAUSE_S, ""
        while True:
            try:
                async for event in self.stream(after, follow=follow):
                    silent_since, pause_s = time.monotonic(), _FIRST_PAUSE_S
                    if event is None:
                        continue
                    if last_hash and event.previous != last_hash:
                        raise JournalBroken(event.seq, "it does not follow from the event before it", source="the event stream")
                    after, last_hash = event.seq, event.hash
                    yield event
                if not follow:
                    return
            except MonitorUnreachable:
                if patience_s is not None and time.monotonic() - silent_since > patience_s:
                    raise
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 — spreads reconnections, hides nothing
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    async def records(self, after: int = 0) -> AsyncGenerator[dict[str, object], None]:
        """Events after `after` as they are written, for who checks or keeps them. Refused where the journal ends before."""
        async with self._streamed("/v1/events", {"after": after, "follow": False}, silence_s=_SILENCE_S) as lines:
            async for line in lines:
                if (record := _understood(line)) is not None:
                    yield record

    async def past(self, kinds: Sequence[str], *, before: int = 0, most: int = 200) -> Past:
        """A page of past events of these kinds, the newest first; `before` is where the last page said to go on."""
        answer = await self._request("GET", "/v1/past", params={"kind": list(kinds), "before": before, "most": most})
        try:
            return Past.from_json(answer.content)
        except (ValueError, KeyError, TypeError) as error:
            raise MonitorUnreachable(_NO_MONITOR, hint="edgefl up") from error

    async def walk(self, seen: Mapping[int, str] | None = None) -> AsyncGenerator[Walked, None]:
        """Read the whole journal and check every event's hash, saying now and then how far it holds; the last says where it ends.

        seen: hashes, by seq, of events that were shown before: they must be the same. Raises JournalBroken at the first event
        that does not verify.
        """
        walk = Walk(seen or {})
        async with self._streamed("/v1/events", {"after": 0, "follow": False}, silence_s=_SILENCE_S) as lines:
            async for line in lines:
                if walk.hear(line):
                    yield await asyncio.to_thread(walk.check)
        yield await asyncio.to_thread(walk.end)

    async def record(self, path: Path, run: str = "") -> Header:
        """Write a run (or the whole journal) to a file that `edgefl.events.replay` reads, and verify it.

        Raises Refused when there is no such run, JournalBroken when what came does not verify.
        """
        from edgefl.events import replay

        partial = path.with_name(f"{path.name}.part")
        async with self._streamed("/v1/recording", {"run": run}, silence_s=_TIMEOUT_S) as lines:
            with await asyncio.to_thread(partial.open, "w", encoding="utf-8") as file:
                async for line in lines:
                    file.write(line + "\n")
        await asyncio.to_thread(lambda: sum(1 for _ in replay.replay(partial)))
        partial.replace(path)
        return replay.header_of(path)

    async def logs(self, wanted: Wanted) -> AsyncIterator[LogLine]:
        """The coordinator's service logs, oldest first."""
        params: dict[str, Any] = {"follow": wanted.follow, "level": wanted.level, "lines": wanted.lines, "text": wanted.text}
        if wanted.since is not None:
            params["since"] = wanted.since.isoformat()
        async with self._streamed("/v1/logs", params, silence_s=None if wanted.follow else _TIMEOUT_S) as found:
            async for line in found:
                try:
                    said = LogLine.from_json(line)
                except (ValueError, KeyError, TypeError) as error:
                    raise MonitorUnreachable(f"{_NO_MONITOR}: {line[:60]!r}", hint="edgefl up") from error
                yield said

    async def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        until = time.monotonic() + _PATIENCE_S
        while True:
            with self._translated():
                answer = await self._http.request(method, path, **arguments)
            self.heard = time.monotonic()
            again_s = _again_s(answer)
            if again_s is None or self.heard + again_s > until:
                return _accepted(answer)
            await asyncio.sleep(again_s * random.uniform(1.0, 1.5))  # noqa: S311 — not all at the same moment

    @asynccontextmanager
    async def _streamed(
        self, path: str, params: Mapping[str, Any], *, silence_s: float | None
    ) -> AsyncIterator[AsyncIterator[str]]:
        import httpx

        timeout = httpx.Timeout(_TIMEOUT_S, read=silence_s)
        with self._translated():
            async with self._http.stream("GET", path, params=dict(params), timeout=timeout) as answer:
                if not answer.is_success:
                    await answer.aread()
                _accepted(answer)
                yield self._heard_lines(answer)

    async def _heard_lines(self, answer: httpx.Response) -> AsyncIterator[str]:
        async for line in answer.aiter_lines():
            self.heard = time.monotonic()
            yield line

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """What httpx raises as MonitorUnreachable, with what it means for the operator."""
        import httpx

        try:
            yield
        except httpx.HTTPError as error:
            who = f"the monitor on {self._coordinator.name} ({self._coordinator.address})"
            tls = why_refused(error)
            if tls is not None:
                raise MonitorUnreachable(f"{who} cannot be asked: {tls[0]}", hint=tls[1]) from error
            why = str(error) or type(error).__name__
            raise MonitorUnreachable(f"{who} does not answer: {why}", hint=f"edgefl doctor {self._coordinator.name}") from error


def _accepted(answer: httpx.Response) -> httpx.Response:
    """The answer when it is a yes. Raises Refused, or MonitorUnreachable when not the monitor but the gate said no."""
    if answer.is_success:
        return answer
    try:
        said = answer.json()
    except ValueError:
        said = None
    if isinstance(said, dict) and "what" in said:
        raise Refused.read(said)
    why = _GATE_SAYS.get(answer.status_code, f"the gate answered {answer.status_code}")
    raise MonitorUnreachable(why, hint="edgefl doctor coordinator")


def _again_s(answer: httpx.Response) -> float | None:
    """When a monitor that has too much to do wants to be asked again, in seconds: it did nothing of what was asked. Else None."""
    said = answer.headers.get("Retry-After", "")
    return float(said) if answer.status_code == 429 and said.isdecimal() else None


_NO_MONITOR = "what answers is no monitor of this version"
_GATE_SAYS = {
    403: "the gate does not let this operator's certificate in",
    503: "the gate stands, but the monitor behind it does not answer",
}


def _understood(line: str) -> dict[str, object] | None:
    try:
        return read_line(line)
    except ValueError as error:
        raise MonitorUnreachable(f"{_NO_MONITOR}: {line[:60]!r}", hint="edgefl up") from error
