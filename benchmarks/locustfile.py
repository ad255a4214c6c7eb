"""What benchmarks/load.py has Locust do: devices whose events are written, and consoles that follow. Not run by itself.

A device writes an event every `LOAD_EVERY_S` seconds, with a number of its own in it, and goes on asking until it is taken. A
console follows the stream and notes which events come. What both saw is written to `LOAD_RESULT` when Locust ends.
"""

from __future__ import annotations

import json
import os
import re
import time
from itertools import count
from pathlib import Path
from typing import Any

from locust import HttpUser, constant_pacing, events, task
from requests.adapters import HTTPAdapter

OPERATOR = Path(os.environ.get("LOAD_OPERATOR", ""))
DEVICES, CONSOLES = int(os.environ.get("LOAD_DEVICES", "0")), int(os.environ.get("LOAD_CONSOLES", "0"))
EVERY_S = float(os.environ.get("LOAD_EVERY_S", "10"))
_SEQ = re.compile(rb'"seq":(\d+)')
_NUMBER = re.compile(rb'"detail":"load (\d+)"')
_TOO_MUCH = 429

numbers = count(1)
taken: set[int] = set()
told_again = 0
without_when = 0
writing = 0
heard: list[set[int]] = []
gaps = 0
is_ending = False


class Gate(HTTPAdapter):
    """TLS 1.3 with the operator's certificate to whoever is certified as the coordinator, wherever it listens."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """As requests does, with the name that the certificate has."""
        super().init_poolmanager(*arguments, server_hostname="coordinator", assert_hostname="coordinator", **options)


class Caller(HttpUser):
    """Whoever asks through the gate."""

    abstract = True
    host = os.environ.get("LOAD_HOST", "")

    def on_start(self) -> None:
        """Show a certificate, and believe one authority."""
        self.client.mount("https://", Gate())
        self.client.cert = (str(OPERATOR / "operator.crt"), str(OPERATOR / "operator.key"))
        self.client.verify = str(OPERATOR / "ca.crt")
        self.client.trust_env = False


class Device(Caller):
    """One of many, whose state changes now and then."""

    fixed_count = DEVICES
    wait_time = constant_pacing(EVERY_S)

    @task
    def change(self) -> None:
        """Have an event written, whatever it takes."""
        global writing  # noqa: PLW0603 — Locust's users are greenlets of one thread
        if is_ending:
            return
        writing += 1
        try:
            self._write()
        finally:
            writing -= 1

    def _write(self) -> None:
        global told_again, without_when  # noqa: PLW0603 — as above
        number = next(numbers)
        body = {"type": "device_state", "device": f"edge-{number % DEVICES:04}", "state": "waiting", "detail": f"load {number}"}
        while True:
            with self.client.post("/v1/actions", json=body, catch_response=True) as answer:
                if answer.status_code == _TOO_MUCH and answer.headers.get("Retry-After", "").isdecimal():
                    told_again += 1
                    again_s = float(answer.headers["Retry-After"])
                    answer.success()
                else:
                    without_when += answer.status_code == _TOO_MUCH
                    if answer.ok:
                        taken.add(number)
                    return
            time.sleep(again_s)


class Console(Caller):
    """One of those that follow."""

    fixed_count = CONSOLES

    @task
    def follow(self) -> None:
        """Read until Locust ends; every event must follow the one before."""
        global gaps  # noqa: PLW0603 — as above
        mine: set[int] = set()
        heard.append(mine)
        last = 0
        # An answer that is not caught is closed unread.
        with self.client.get("/v1/events?follow=true", stream=True, timeout=30, catch_response=True) as answer:
            for line in answer.iter_lines(chunk_size=1 << 14):
                if found := _SEQ.search(line):
                    seq = int(found[1])
                    gaps += seq != last + 1
                    last = seq
                if said := _NUMBER.search(line):
                    mine.add(int(said[1]))
            answer.success()


@events.test_stopping.add_listener  # type: ignore[untyped-decorator]
def ends(environment: Any, **_: Any) -> None:
    """No device writes any more; give the consoles a moment for what was taken last, then write what everybody saw."""
    global is_ending  # noqa: PLW0603 — as above
    is_ending = True
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (writing or not all(taken <= mine for mine in heard)):
        time.sleep(0.2)
    posts = environment.stats.get("/v1/actions", "POST")
    found = {
        "taken": sorted(taken),
        "told_again": told_again,
        "without_when": without_when,
        "consoles": len(heard),
        "missed": sum(len(taken - mine) for mine in heard),
        "gaps": gaps,
        "failures": posts.num_failures + writing,
        "p50_ms": posts.get_response_time_percentile(0.5),
        "p99_ms": posts.get_response_time_percentile(0.99),
    }
    Path(os.environ["LOAD_RESULT"]).write_text(json.dumps(found))
