"""The SuperNode of a device, with a client certificate of its own and an honest life.

`python -m edgefl.federation.flower.supernode`. Against Flower's own command it adds: mutual TLS with live reload of a renewed
certificate, short polls while a run is on, a reason in the log when the coordinator refuses it, a watchdog fed only by
heartbeats that succeed, and an end (never 0) whenever Flower's main returns, so that the supervisor starts it anew.
"""

from __future__ import annotations

import argparse
import email.utils
import logging
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgefl import voice
from edgefl.errors import EdgeflError
from edgefl.federation import drift
from edgefl.federation.flower import contract, patches, say, tls
from edgefl.federation.flower.notify import keep_watchdog, notify
from edgefl.federation.hostconfig import HostConfig, Places
from edgefl.layout import DRIFT, FLEET_PORT, SUPERNODE_PORT

STALE_S = 150.0
"""Without a heartbeat that succeeds for this long the watchdog is not fed; one goes out every 30 s at most."""
HEARTBEATS = ("/SendNodeHeartbeat", "/ActivateNode")
"""What keeps a device online. Pulls alone do not: Flower's heartbeat thread can end on one error while they go on."""
IDLE_POLL_S = 1.0
"""How often the device asks for messages when none came lately."""
BUSY_POLL_S = 0.2
"""How often it asks while a run is on."""
BUSY_FOR_S = 90.0
"""How long after a message a run counts as on."""
REPLY_POLL_S = 0.03
"""How often the SuperNode looks, in its own memory, whether the ClientApp has replied."""
TASK_WAIT_S = 5.0
"""How long the SuperExec's question for a task is kept until there is one."""
RETRY_S = 5.0
"""Longest pause between attempts to reach a coordinator that was away."""
RENEWED_FOR_S = 40.0
"""How long after a renewal connections are closed after each request, so that none lives on with the old certificate."""

DRAINED = "drained: no message is under way, and none is taken"
"""What systemd shows of a SuperNode that may be restarted without loss."""
DRAINED_FOR_S = 120.0
"""How long a device that was asked to pause takes no message; whoever asked restarts it long before."""

log = logging.getLogger("edgefl")


class Certificate:
    """The device's client certificate as a TLS context, whose connections take it anew once its file has changed."""

    def __init__(self, places: Places) -> None:
        self._chain, self._key, self._anchors = places.identity / "device.crt", places.identity / "device.key", places.authority
        self._reloading = threading.Lock()
        try:
            self._stamp = self._stamped()
            self.context = tls.client(self._made())
        except (OSError, ssl.SSLError) as error:
            raise EdgeflError(f"the device's identity in {places.identity} cannot be used: {error}", hint="edgefl up") from error
        self.renewed_at = -RENEWED_FOR_S

    def _stamped(self) -> tuple[int, ...]:
        return tuple(path.stat().st_mtime_ns for path in (self._chain, self._key, self._anchors))

    def _made(self) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(self._anchors))
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        made.load_cert_chain(self._chain, self._key)
        return made

    def reload(self) -> bool:
        """Take what is in the files if they changed; a pair that does not fit yet is left for the next time."""
        with self._reloading:
            try:
                stamp = self._stamped()
                if stamp == self._stamp:
                    return False
                self.context.newest = self._made()
            except (OSError, ssl.SSLError):
                return False
            self._stamp, self.renewed_at = stamp, time.monotonic()
        log.info("the renewed certificate is in use")
        return True


class Witness:
    """Sees every exchange with the Fleet API: feeds the watchdog, paces the polls, says why the coordinator refuses."""

    def __init__(
        self, certificate: Certificate, clock: Callable[[], float] = time.monotonic, *, stale_s: float = STALE_S
    ) -> None:
        self._certificate, self._clock, self._stale_s = certificate, clock, stale_s
        self.last_heartbeat = clock()
        self.last_message = -BUSY_FOR_S

    def intercept(self, context: Any, call_next: Callable[[Any], Any]) -> Any:
        """Flower's interceptor protocol: pass the request on and look at the response."""
        self._certificate.reload()
        if self._clock() - self._certificate.renewed_at < RENEWED_FOR_S:
            context.request.headers["connection"] = "close"
        response = call_next(context)
        if response.is_success:
            if context.rpc_method.endswith(HEARTBEATS):
                self.last_heartbeat = self._clock()
            if context.rpc_method.endswith("/PushMessages"):
                self.last_message = self._clock()
        else:
            log.warning("%s", explained(response.status_code, response.headers.get("date"), time.time()))
        return response

    def is_alive(self) -> bool:
        """Whether a heartbeat succeeded lately; a wedged SuperNode has none."""
        return self._clock() - self.last_heartbeat < self._stale_s

    def pace(self, asked: float) -> float:
        """How long to sleep where Flower would sleep `asked` seconds."""
        if asked < 1:
            return REPLY_POLL_S
        return BUSY_POLL_S if self._clock() - self.last_message < BUSY_FOR_S else IDLE_POLL_S


class Pause:
    """A SuperNode that is about to be restarted finishes the message that it works on, and takes no other (`request`).

    What it works on is answered, and the answer is sent, when Flower asks whether it `may_pull` the next.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, limit_s: float = DRAINED_FOR_S) -> None:
        self._clock, self._limit_s = clock, limit_s
        self._until: float | None = None
        self._told = False

    def request(self, *_: object) -> None:
        """Pause from the next message on, for a while: nobody may be there any more who would restart it."""
        self._until, self._told = self._clock() + self._limit_s, False

    def may_pull(self) -> bool:
        """Whether the next message may be taken; the first no tells the supervisor that nothing is under way."""
        if self._until is None:
            return True
        if self._clock() < self._until:
            if not self._told:
                self._told = True
                notify(STATUS=DRAINED)
            return False
        self._until = None
        log.warning("it was asked to pause for a restart that did not come; it goes on")
        notify(STATUS="it goes on after a pause")
        return True


def explained(status: int, date: str | None, now: float) -> str:
    """What a refused exchange means for this device; `date` is the response's header, `now` seconds since the epoch."""
    if status == 401:
        skew = clock_skew_s(date, now)
        if skew is not None and abs(skew) > 5:
            return f"the coordinator refuses this device's signature: its clock is {skew:+.0f} s off; synchronise it"
        return "the coordinator refuses this device's key: it is not registered (any more); enrol the device anew"
    if status == 403:
        return "the run is over, or this device's certificate does not open this path"
    if status == 412:
        return (
            "the coordinator still counts this device as online, and it may come back within a minute; "
            "or its key is not registered (any more): enrol the device anew"
        )
    if status in {502, 503, 504}:
        return f"the coordinator is not there for this device ({status}): away, or the device is quarantined; it asks again"
    return f"the coordinator answered {status}"


def clock_skew_s(date: str | None, now: float) -> float | None:
    """How far this host's clock is ahead of the coordinator's, from a response's Date header (resolution 1 s)."""
    try:
        return now - email.utils.parsedate_to_datetime(date or "").timestamp()
    except (TypeError, ValueError):
        return None


def announce(port: int) -> None:
    """Tell the supervisor that the service is ready once its Runtime API answers on the loopback."""

    def wait() -> None:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.1)
            else:
                notify(READY=1, STATUS="the Runtime API listens on the loopback")
                return

    threading.Thread(target=wait, name="announce", daemon=True).start()


def run(places: Places, *, coordinator: str, port: int, stale_s: float = STALE_S, spool: Path = DRIFT) -> None:
    """Become the SuperNode; returns or raises SystemExit when Flower gives up."""
    for needed in (places.secret, places.identity / "node.key"):
        if not needed.exists():
            raise EdgeflError(f"{needed} is missing", hint="edgefl up")
    os.environ["FLWR_HOME"] = str(places.state / "node")
    certificate = Certificate(places)
    witness = Witness(certificate, stale_s=stale_s)
    patches.supernode_certificate(certificate.context, witness)
    patches.supernode_pace(witness.pace)
    pause = Pause()
    signal.signal(signal.SIGUSR1, pause.request)
    patches.supernode_tasks(TASK_WAIT_S, may_pull=pause.may_pull)
    patches.retry_delay(RETRY_S)
    announce(port)
    address, _, gate = coordinator.rpartition(":")
    drift.keep_telling(spool, drift.to_gate(address.strip("[]"), int(gate), certificate.context))
    keep_watchdog(witness.is_alive)
    patches.run_supernode([
        "--superlink", coordinator,
        "--root-certificates", str(places.authority),
        "--auth-supernode-private-key", str(places.identity / "node.key"),
        "--isolation", "process",
        "--superexec-auth-secret-file", str(places.secret),
        "--host", "127.0.0.1",
        "--port", str(port),
    ])  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """The service's entry point; its status is 0 only where a signal ended it, for a SuperNode is never done.

    Flower sends itself one when the coordinator refuses its key; the witness has said why by then, and systemd starts it anew.
    """
    parser = argparse.ArgumentParser(prog="edgefl-supernode", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--config", type=Path, default=Places().config, help="where host.json, the identity and the secret lie")
    parser.add_argument("--state", type=Path, default=Places().state)
    parser.add_argument("--coordinator", help="host:port of the gate, where it is not what host.json says")
    parser.add_argument("--port", type=int, default=SUPERNODE_PORT, help="of the Runtime API, on the loopback")
    parser.add_argument("--stale-s", type=float, default=STALE_S, help="seconds without a heartbeat after which it is wedged")
    parser.add_argument("--drift", type=Path, default=DRIFT, help="where this device's watcher writes what it found")
    options = parser.parse_args(argv)
    places = Places(options.config, options.state)
    voice.to_stderr()
    patches.quiet()
    try:
        contract.require("supernode")
        say.with_flower()
        host = HostConfig.load(places.host)
        coordinator = options.coordinator or f"{host.coordinator.address}:{host.coordinator.port or FLEET_PORT}"
        run(places, coordinator=coordinator, port=options.port, stale_s=options.stale_s, spool=options.drift)
    except EdgeflError as error:
        for line in error.lines():
            log.error("%s", line)
        return int(error.exit_code) or 1
    except SystemExit as end:
        if not end.code:
            return 0
        log.error("the SuperNode ended with %s; what it said before tells why", end.code)
    except Exception:
        log.exception("the SuperNode failed")
    return 1


if __name__ == "__main__":
    status = main()
    notify(STOPPING=1)
    sys.stderr.flush()
    # Flower's HTTP server thread would keep a process alive whose main is over.
    os._exit(status)
