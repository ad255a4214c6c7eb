"""One plan of three parts, which changes nothing; then `up` does exactly what it said."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from edgefl.site import load

from .conftest import Fleet, kept, last_object
from .test_gate import authority_of, issued

pytestmark = pytest.mark.e2e

TREES = "/etc/edgefl /etc/systemd/system /opt/edgefl/releases /var/lib/edgefl/models"
LOOK = f"find {TREES} -type f 2>/dev/null | sort | xargs sha256sum; nft --stateless list ruleset"
LIMIT = "{name: edge-03, data: data/edge-03, limits: {cpu: 1.0, memory_mb: 1280}}"
HOSTS = ("coordinator", "edge-03", "edge-04")


@pytest.fixture
def drifted(fleet: Fleet) -> Iterator[Fleet]:
    """One limit edited, one file changed by hand, one certificate gone and another one revoked.

    The limit stays as it was edited: taking it back would start every device's services anew once more.
    """
    place = fleet.directory / "site.yaml"
    before = place.read_text()
    assert LIMIT in before
    try:
        place.write_text(before.replace(LIMIT, LIMIT.replace("1280", "1344")))
        fleet.on("edge-04", "sh", "-c", "echo >>/etc/edgefl/host.json; rm /etc/edgefl/identity/device.crt")
        _, serial = issued(fleet, "edge-02", "device")
        authority_of(fleet).revoke(serial, "stolen")
        issued(fleet, "edge-02", "device")  # with a newer one it is not in quarantine
        yield fleet
    finally:
        assert fleet.edgefl("up", "--json").returncode == 0


def everything(fleet: Fleet) -> dict[str, str]:
    """What a plan must leave alone, by hash: the authority, Terraform's state, and the hosts."""
    state = fleet.directory / ".edgefl"
    stays = [path for path in kept(state) if path.suffix == ".tfstate" or path.relative_to(state).parts[0] in {"pki", "operator"}]
    assert any(path.suffix == ".tfstate" for path in stays)
    found = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in stays if path.is_file()}
    return {**found, **{host: fleet.on(host, "sh", "-c", LOOK).stdout for host in HOSTS}}


def steps(said: str, stage: str) -> set[tuple[str, str]]:
    """What a stage changes, or would."""
    lines = [dict(json.loads(line)) for line in said.splitlines()]
    return {(line["subject"], line["what"]) for line in lines if is_change(line) and line["stage"] == stage}


def is_change(line: dict[str, Any]) -> bool:
    return line.get("type") == "step" and bool(line["changed"])


def test_one_plan_shows_all_three_parts_and_changes_nothing_and_up_does_exactly_that(drifted: Fleet) -> None:
    fleet = drifted
    before = everything(fleet)
    planned = fleet.edgefl("plan", "--json")
    assert planned.returncode == 0, planned.stdout[-3000:]
    read = fleet.edgefl("plan")
    assert read.returncode == 0, read.stdout[-3000:]
    assert everything(fleet) == before

    assert steps(planned.stdout, "infrastructure") == {("edge-03", "will be changed")}
    assert {subject for subject, _ in steps(planned.stdout, "certificates")} == {"edge-04"}
    touched = {subject for subject, _ in steps(planned.stdout, "configuration")}
    assert touched == {host.name for host in load(fleet.directory).hosts}, "a revocation is news to every host"
    for part in (
        "memory_mb: 1280 → 1344",
        "/etc/edgefl/host.json",
        "its device certificate for 24 h would be issued: it has none",
        "crl.pem",
    ):
        assert part in read.stdout
    assert "\x1b" not in read.stdout, "a pipe is no terminal"
    assert "-0.0 s" not in read.stdout

    done = fleet.edgefl("up", "--json")
    assert done.returncode == 0, done.stdout[-3000:]
    assert steps(done.stdout, "configuration") == steps(planned.stdout, "configuration")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    changed = [
        line["subject"]
        for line in lines
        if line.get("type") == "finished" and line["stage"] == "infrastructure" and line["changed"]
    ]
    assert changed == ["edge-03", ""]
    assert last_object(fleet.edgefl("plan", "--json"))["changes"] == 0


def test_a_plan_without_one_host_shows_what_the_others_need(fleet: Fleet) -> None:
    fleet.lab.kill("edge-03")
    fleet.on("edge-04", "sh", "-c", "echo >>/etc/edgefl/host.json")
    try:
        planned = fleet.edgefl("plan", "--json")
        assert planned.returncode == 0, planned.stdout[-3000:]
        assert {subject for subject, _ in steps(planned.stdout, "configuration")} == {"edge-04"}
        assert steps(planned.stdout, "infrastructure") == {("edge-03", "will be changed")}
        assert "edge-03 does not run" in fleet.edgefl("plan").stdout
    finally:
        healed = fleet.edgefl("up", "--json")
    assert healed.returncode == 0, healed.stdout[-3000:]
