"""Nothing is isolated until it is proven: every host tries what it must and must not reach, as every user who might."""

from __future__ import annotations

import asyncio
import errno
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from edgefl.errors import EdgeflError, ExitCode
from edgefl.fleet import evidence, ssh
from edgefl.fleet.dial import dial
from edgefl.fleet.evidence import Proof, Result
from edgefl.fleet.probes import LISTENER_PORT, OPERATOR, Probe, matrix
from edgefl.fleet.remote import started
from edgefl.infra.inventory import Host, Inventory
from edgefl.progress import Failed, Finished, Progress, Started, Warned
from edgefl.site.model import Site

STAGE = "proof"
PATIENCE_S = 15.0
"""A path that must be open may need this long: services are starting."""
_DIAL_TIMEOUT_S = 2.0


class NotIsolated(EdgeflError):
    """A path is open that must be closed, or closed that must be open."""

    exit_code = ExitCode.NOT_ISOLATED

    def __init__(self, breaches: Sequence[Result], shown: int = 6) -> None:
        rest = f"; and {len(breaches) - shown} more" if len(breaches) > shown else ""
        super().__init__(
            f"{len(breaches)} paths are not as the site says: {'; '.join(map(str, breaches[:shown]))}{rest}",
            hint="edgefl up closes them; edgefl verify shows the whole matrix",
        )
        self.breaches = tuple(breaches)


async def verify(site: Site, inventory: Inventory, limit: Sequence[str] | None = None) -> AsyncIterator[Progress]:
    """Probe every host (or the named ones), sign and keep what was seen.

    The last event's detail has `proof` (its file) and `sha256`. Raises NotIsolated, after the proof is stored, when a path is not
    as the site says, and the errors of `ssh` when a host cannot be probed: then there is no proof.
    """
    began = time.monotonic()
    hosts = tuple(host for host in inventory.hosts if limit is None or host.name in limit)
    yield Started(STAGE, "", "try every path", total=len(hosts))
    events: asyncio.Queue[Progress | None] = asyncio.Queue()
    work = asyncio.create_task(_Verification(site, inventory, hosts, events).run())
    work.add_done_callback(lambda _: events.put_nowait(None))
    try:
        while (event := await events.get()) is not None:
            yield event
        results = await work
    finally:
        work.cancel()
    before = evidence.latest(site.state)
    proof = Proof(site.name, evidence.now(), results, before.sha256 if before else "")
    path = await asyncio.to_thread(evidence.save, proof, site.state)
    for probe, was, observed in evidence.changes(before, proof) if before else ():
        yield Warned(STAGE, probe.host, f"{probe.id} was {was} and is {observed}")
    if proof.breaches:
        raise NotIsolated(proof.breaches)
    allowed = sum(result.probe.expected != "closed" for result in results)
    detail = {"proof": str(path), "sha256": proof.sha256, "probes": len(results), "open": allowed}
    what = f"{allowed} paths are open, {len(results) - allowed} are closed, as the site says"
    yield Finished(STAGE, "", what, seconds=time.monotonic() - began, detail=detail)


class _Verification:
    """One verification: all hosts listen before any probes, and all have probed before any stops listening."""

    def __init__(self, site: Site, inventory: Inventory, hosts: tuple[Host, ...], events: asyncio.Queue[Progress | None]) -> None:
        self._site, self._inventory, self._hosts, self._events = site, inventory, hosts, events
        self._addresses6: dict[str, list[str]] = {}
        self._probes: dict[str, list[Probe]] = defaultdict(list)
        self._ready = asyncio.Barrier(len(hosts) + 1)
        self._done = asyncio.Barrier(len(hosts) + 1)

    async def run(self) -> tuple[Result, ...]:
        """Every result, in the matrix's order."""
        probing = [asyncio.create_task(self._on_host(host)) for host in self._hosts]
        probing.append(asyncio.create_task(self._as_operator()))
        try:
            results = [result for found in await asyncio.gather(*probing) for result in found]
        finally:
            for task in probing:
                task.cancel()
            await asyncio.gather(*probing, return_exceptions=True)
        return tuple(results)

    async def _on_host(self, host: Host) -> list[Result]:
        start, source = started("probe")
        began = time.monotonic()
        async with ssh.converse(host, start, timeout_s=PATIENCE_S + 30) as talk:
            await talk.send(source + _line({"listen": LISTENER_PORT, "patience_s": PATIENCE_S}))
            self._addresses6[host.name] = json.loads(await talk.line())["addresses6"]
            await self._ready.wait()
            probes = self._planned()[host.name]
            await talk.send(_line([asdict(probe) | {"id": probe.id} for probe in probes]))
            said = {entry["id"]: entry for entry in json.loads(await talk.line())}
            await self._done.wait()
            await talk.send(b"\n")
            callers = json.loads(await talk.line())
        results = [Result(probe, said[probe.id]["observed"], said[probe.id]["evidence"]) for probe in probes]
        results += [Result(_caught(host, caller), "open", "the host accepted it") for caller in callers]
        self._report(host.name, results, time.monotonic() - began)
        return results

    async def _as_operator(self) -> list[Result]:
        await self._ready.wait()
        probes = self._planned()[OPERATOR]
        with ThreadPoolExecutor(max_workers=64, thread_name_prefix="dial") as pool:
            results = await asyncio.gather(*(self._dial(probe, pool) for probe in probes))
        await self._done.wait()
        self._report(OPERATOR, results, 0.0)
        return results

    def _planned(self) -> dict[str, list[Probe]]:
        """The matrix by the host that probes; made when every host has told its addresses."""
        if not self._probes:
            names = {host.name for host in self._hosts}
            for probe in matrix(self._site, self._inventory, self._addresses6):
                if probe.host in names or (probe.host == OPERATOR and probe.target in names):
                    self._probes[probe.host].append(probe)
        return self._probes

    async def _dial(self, probe: Probe, pool: ThreadPoolExecutor) -> Result:
        """Try a port of a host from the operator's place."""
        host = self._inventory.host(probe.target)
        deadline = time.monotonic() + (PATIENCE_S if probe.expected == "open" else 0)
        while True:
            result = await asyncio.get_running_loop().run_in_executor(pool, _dialled, host, probe)
            if result.is_as_expected or time.monotonic() >= deadline:
                return result
            await asyncio.sleep(0.2)  # between two tries of a path that must open

    def _report(self, host: str, results: Sequence[Result], seconds: float) -> None:
        wrong = [result for result in results if not result.is_as_expected]
        detail = {"probes": len(results), "breaches": [result.probe.id for result in wrong]}
        if wrong:
            self._events.put_nowait(Failed(STAGE, host, "is not isolated", why="; ".join(map(str, wrong[:3])), detail=detail))
        else:
            what = f"{len(results)} paths are as the site says"
            self._events.put_nowait(Finished(STAGE, host, what, seconds=seconds, detail=detail))


def _dialled(host: Host, probe: Probe) -> Result:
    try:
        dial(host, probe.port, _DIAL_TIMEOUT_S).close()
    except TimeoutError:
        return Result(probe, "closed", "no answer")
    except OSError as error:
        return _refused(probe, error)
    return Result(probe, "open", "answered")


def _refused(probe: Probe, error: OSError) -> Result:
    """A refusal comes from the host's kernel where nobody listens, so the packet came in; where it listens, from its firewall."""
    if error.errno == errno.ECONNREFUSED and probe.port != LISTENER_PORT:
        return Result(probe, "refused", "the host answered that nobody listens, so its firewall let it in")
    return Result(probe, "closed", error.strerror or str(error))


def _caught(host: Host, caller: str) -> Probe:
    """A connection that arrived where none may, whoever made it; the caller stands in the user's place."""
    return Probe(host.name, caller, "tcp", host.name, host.address, LISTENER_PORT, "closed", "peers")


def _line(said: object) -> bytes:
    return json.dumps(said).encode() + b"\n"
