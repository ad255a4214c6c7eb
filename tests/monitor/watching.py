"""A real Prometheus and a real Alertmanager on the loopback, configured by the role's own templates."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from edgefl.federation.ports import reserve_port
from tests.monitor.conftest import wait_for

_HELD = ExitStack()
ROLE = Path(__file__).parents[2] / "playbooks" / "roles" / "observability"


def render(into: Path, **variables: Any) -> None:
    """Every template and file of the role, with its defaults and these variables, and `into` for its directory."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(ROLE / "templates"), undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    environment.filters["to_json"] = json.dumps
    receivers = {"slack": None, "email": None, "webhook": None, **variables.pop("observability_receivers", {})}
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    places = {"observability_directory": str(into), "observability_credentials": str(into / "secrets")}
    given = {**defaults, **places, "observability_receivers": receivers, **variables}
    for name in ("prometheus.yml", "alertmanager.yml", "thresholds.yml", "exporter.yml"):
        (into / name).write_text(environment.get_template(f"{name}.j2").render(given))
    shutil.copy(ROLE / "files" / "alerts.yml", into)


def free() -> str:
    """A loopback address on which nobody listens, and that nobody else is given while this process lives."""
    return f"127.0.0.1:{reserve_port(_HELD)}"


@contextmanager
def running(
    command: list[str], log: Path, listens: str, path: str | None = "/-/ready", *, within_s: float = 90
) -> Iterator[None]:
    """The program until the block ends; it listens when the block begins. path: what it answers anybody; None where nothing."""
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            host, _, port = listens.rpartition(":")
            with suppress(OSError):
                if path is None:
                    socket.create_connection((host, int(port)), timeout=1).close()
                else:
                    urllib.request.urlopen(f"http://{listens}{path}", timeout=1).close()
                return True
            return False

        try:
            wait_for(answers, f"{command[0]}; its log: {log.read_text()}", within_s)
            yield
        finally:
            process.terminate()
            process.wait(60)


@dataclass
class Prometheus:
    """What it holds, asked over its API."""

    at: str

    def ask(self, path: str, **query: str) -> Any:
        """The `data` of an answer."""
        url = f"http://{self.at}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)["data"]

    def series(self, expression: str) -> list[dict[str, Any]]:
        """What an expression gives now."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {alert["labels"]["alertname"] for alert in self.ask("alerts")["alerts"] if alert["state"] == "firing"}


@contextmanager
def prometheus(program: str, directory: Path, at: str, *more: str) -> Iterator[Prometheus]:
    """Prometheus with the configuration that lies in `directory`."""
    store = f"--storage.tsdb.path={directory / 'tsdb'}"
    command = [program, f"--config.file={directory / 'prometheus.yml'}", store, f"--web.listen-address={at}", *more]
    with running(command, directory / "prometheus.log", at):
        yield Prometheus(at)


@contextmanager
def alertmanager(program: str, directory: Path, at: str, *, trusts: Path | None = None) -> Iterator[None]:
    """Alertmanager with the configuration that lies in `directory`, alone. trusts: the authority, where not the machine's."""
    store = [f"--storage.path={directory / 'alerts'}", "--cluster.listen-address="]
    command = [program, f"--config.file={directory / 'alertmanager.yml'}", *store, f"--web.listen-address={at}"]
    trust = ["env", f"SSL_CERT_FILE={trusts}", "SSL_CERT_DIR=/nowhere"] if trusts else []
    with running([*trust, *command], directory / "alertmanager.log", at):
        yield


@contextmanager
def mlflow_server(directory: Path) -> Iterator[str]:
    """A real tracking server of MLflow's until the block ends, by its address: SQLite, and it serves artifacts itself."""
    at = free()
    host, _, port = at.partition(":")
    quiet = ("env", "DO_NOT_TRACK=true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false")
    places = (f"--backend-store-uri=sqlite:///{directory}/runs.db", f"--artifacts-destination={directory}/artifacts")
    command = [*quiet, sys.executable, "-m", "mlflow", "server", f"--host={host}", f"--port={port}", "--workers=1", *places]
    with running(command, directory / "mlflow.log", at, "/health", within_s=120):
        yield f"http://{at}"


@dataclass
class Received:
    """What somebody posted: where, with what, in whose name."""

    path: str
    said: dict[str, Any]
    authorization: str


@contextmanager
def receiver(listening: socket.socket | None = None) -> Iterator[tuple[str, list[Received]]]:
    """A receiver of webhooks, as Slack is one: its address, and what it got.

    listening: where it listens, which it takes over; a port of the loopback by default.
    """
    got: list[Received] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append(Received(self.path, json.loads(body), self.headers.get("Authorization", "")))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listening or socket.create_server(("127.0.0.1", 0))
    host, port = server.socket.getsockname()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"{host}:{port}", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
