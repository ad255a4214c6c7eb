"""The SuperLink of the coordinator: on the loopback, with TLS, behind the gate.

`python -m edgefl.federation.flower.superlink`. Whoever reaches its port owns the federation, so it binds 127.0.0.1 and nothing
else; the gate hands it the Fleet API alone. Its state lies in SQLite: runs survive its restart.
"""

from __future__ import annotations

import argparse
import http.client
import logging
import os
import ssl
import sys
import threading
import time
from pathlib import Path

from edgefl import voice
from edgefl.errors import EdgeflError
from edgefl.federation.flower import contract, patches, say, tls
from edgefl.federation.flower.notify import keep_watchdog, notify
from edgefl.federation.hostconfig import Places
from edgefl.layout import SUPERLINK_PORT

RELOAD_S = 5.0
"""How often the certificate's files are looked at."""

log = logging.getLogger("edgefl")


def keep_certificate(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Have a server's new connections get a renewed certificate; none is cut."""
    answering = tls.Answering()
    context.sni_callback = answering

    def stamp() -> tuple[int, int]:
        return certificate.stat().st_mtime_ns, key.stat().st_mtime_ns

    def watch(known: tuple[int, int]) -> None:
        tick = threading.Event()
        while not tick.wait(RELOAD_S):
            try:
                if (now := stamp()) != known:
                    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    made.load_cert_chain(certificate, key)
                    answering.newest = made
                    known = now
                    log.info("the renewed certificate is in use")
            except (OSError, ssl.SSLError) as error:
                log.warning("the renewed certificate cannot be used yet: %s", error)

    threading.Thread(target=watch, args=(stamp(),), name="certificate", daemon=True).start()


def answers(port: int, authority: Path) -> bool:
    """Whether the SuperLink's health path answers 200 over TLS on the loopback."""
    try:
        connection = http.client.HTTPSConnection(
            "localhost", port, timeout=5, context=ssl.create_default_context(cafile=str(authority))
        )
        connection.request("GET", "/health")
        healthy = connection.getresponse().status == 200
        connection.close()
    except (OSError, http.client.HTTPException):
        return False
    return healthy


def announce(port: int, authority: Path) -> None:
    """Tell the supervisor that the service is ready once it answers."""

    def wait() -> None:
        while not answers(port, authority):
            time.sleep(0.2)
        notify(READY=1, STATUS=f"listening on 127.0.0.1:{port}")

    threading.Thread(target=wait, name="announce", daemon=True).start()


def run(places: Places, *, port: int) -> None:
    """Become the SuperLink."""
    certificate, key = places.identity / "superlink.crt", places.identity / "superlink.key"
    for needed in (certificate, key, places.authority, places.secret):
        if not needed.exists():
            raise EdgeflError(f"{needed} is missing", hint="edgefl up")
    home = places.state / "link"
    home.mkdir(parents=True, exist_ok=True)
    os.environ["FLWR_HOME"] = str(home)
    patches.superlink_context(lambda context: keep_certificate(context, certificate, key))
    announce(port, places.authority)
    keep_watchdog(lambda: answers(port, places.authority))
    patches.run_superlink([
        "--host", "127.0.0.1",
        "--port", str(port),
        "--ssl-certfile", str(certificate),
        "--ssl-keyfile", str(key),
        "--ssl-ca-certfile", str(places.authority),
        "--isolation", "process",
        "--superexec-auth-secret-file", str(places.secret),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
        "--database", str(home / "state.db"),
    ])  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """The service's entry point."""
    parser = argparse.ArgumentParser(prog="edgefl-superlink", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--config", type=Path, default=Places().config, help="where the identity and the secret lie")
    parser.add_argument("--state", type=Path, default=Places().state, help="link/ in it holds the database")
    parser.add_argument("--port", type=int, default=SUPERLINK_PORT)
    options = parser.parse_args(argv)
    voice.to_stderr()
    patches.quiet()
    try:
        contract.require("superlink")
        say.with_flower()
        run(Places(options.config, options.state), port=options.port)
    except EdgeflError as error:
        for line in error.lines():
            log.error("%s", line)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
