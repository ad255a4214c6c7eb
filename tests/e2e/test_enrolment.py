"""Devices that lost their certificates come back by a token, or by files that are carried; nobody else does by theirs."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edgefl.layout import ENROL

from .conftest import Fleet, edgefl, last_object, until
from .terminal import Terminal, console

pytestmark = [pytest.mark.e2e, pytest.mark.life]

LOSE = "rm /etc/edgefl/identity/device.{key,crt} && systemctl restart edgefl-supernode --no-block"
"""As after a disk's repair: root's tools alone are left, and the walls."""


def enrol(fleet: Fleet, host: str, token: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """Whoever sits at a device, as root, and was told a token."""
    return fleet.lab.execute(host, [str(ENROL), *argv], token + "\n", timeout_s=60)


def certificate(fleet: Fleet, device: str) -> dict[str, Any]:
    """The newest certificate of a device, as the operator knows it."""
    held = last_object(fleet.edgefl("certs", "show", device, "--json"))["certificates"]
    return next(one for one in held if one["role"] == "device" and one["current"])


def verdict(fleet: Fleet, device: str) -> dict[str, Any]:
    """What the doctor says ails a device; empty where nothing does."""
    return dict(last_object(fleet.edgefl("doctor", device, "--json"))["verdicts"].get(device, {}))


def is_online(fleet: Fleet, device: str) -> bool:
    return bool(last_object(fleet.edgefl("devices", device, "--json"))["state"] != "offline")


def test_a_token_brings_back_the_device_that_it_is_for_once_and_no_other(fleet: Fleet) -> None:
    before = certificate(fleet, "edge-03")
    assert fleet.on("edge-03", "bash", "-c", LOSE).returncode == 0
    assert verdict(fleet, "edge-03")["check"] == "certificate"
    given = fleet.edgefl("enrol", "token", "edge-03", "--json", "--why", "its disk was repaired")
    assert given.returncode == 0, given.stdout
    token = last_object(given)["token"]
    assert (verdict(fleet, "edge-03")["check"], verdict(fleet, "edge-03")["fix"]) == ("token", f"on edge-03: {ENROL}")

    stolen = enrol(fleet, "edge-02", token)
    assert (stolen.returncode, "names ['edge-02']" in stolen.stderr) == (33, True), stolen.stderr
    unprivileged = fleet.on("edge-03", "runuser", "-u", "edgefl-app", "--", str(ENROL), "request", "/tmp/x")
    assert unprivileged.returncode == 13, unprivileged.stderr

    done = enrol(fleet, "edge-03", token, "--json")
    assert done.returncode == 0, done.stderr
    until(lambda: is_online(fleet, "edge-03"), "edge-03 to be back")
    held = certificate(fleet, "edge-03")
    assert (held["serial"], held["issuer"]) == (json.loads(done.stdout)["serial"], "renewal")
    assert held["key_sha256"] != before["key_sha256"]
    owner = fleet.on("edge-03", "stat", "-c", "%U %a", "/etc/edgefl/identity/device.key").stdout.split()
    assert owner == ["edgefl-node", "600"]
    until(lambda: not verdict(fleet, "edge-03"), "nothing to ail edge-03", 300)

    replayed = enrol(fleet, "edge-03", token, "--new-key")
    assert (replayed.returncode, "was used for another key" in replayed.stderr) == (33, True), replayed.stderr
    told = last_object(edgefl("audit", "log", "--site", str(fleet.directory), "--json"))["events"]
    refused = [event["body"] for event in told if event["body"]["type"] == "enrolment_refused"]
    assert [body["subject"] for body in refused] == ["edge-02", "edge-03"]
    assert token not in json.dumps(told)
    assert edgefl("audit", "log", "--site", str(fleet.directory), "--verify").returncode == 0
    fleet.on("edge-02", "rm", "-f", "/etc/edgefl/identity/device.key.enrolling")
    fleet.on("edge-03", "rm", "-f", "/etc/edgefl/identity/device.key.enrolling")


def test_the_console_gives_a_token_that_brings_a_device_back_and_shows_it_once(fleet: Fleet, tmp_path: Path) -> None:
    assert fleet.on("edge-02", "bash", "-c", LOSE).returncode == 0
    terminal = Terminal(tmp_path / "tmux", console(fleet), columns=80, lines=24)
    try:
        terminal.until("● live", "edge-02", deadline_s=60)
        terminal.press(":")
        terminal.type("device edge-02")
        terminal.press("Enter")
        terminal.until("▸ edge-02")
        terminal.press("T")
        terminal.until("whoever shows the token")
        terminal.type("a new disk")
        terminal.press("Enter")
        shown = terminal.until("for edge-02 alone, once", "not shown again", deadline_s=60)
        [token] = re.findall(r"(?:[A-Z2-7]{4}-){7}[A-Z2-7]{4}", shown)
        done = enrol(fleet, "edge-02", token)
        assert done.returncode == 0, done.stderr
        terminal.press("Escape", "5")
        assert token not in terminal.until("token", "done")
    finally:
        terminal.close()
    until(lambda: is_online(fleet, "edge-02"), "edge-02 to be back")
    log = last_object(edgefl("audit", "log", "--site", str(fleet.directory), "--json"))
    told = [event["body"] for event in log["events"]]
    opened = [body for body in told if body["type"] == "enrolment_opened"][-1]
    assert (opened["subject"], opened["why"], token in json.dumps(told)) == ("edge-02", "a new disk", False)


def test_files_that_are_carried_bring_back_a_device_and_up_leaves_it_so(fleet: Fleet, tmp_path: Path) -> None:
    assert fleet.on("edge-04", "bash", "-c", LOSE).returncode == 0
    asked = fleet.on("edge-04", str(ENROL), "request", "/root/edge-04.csr")
    assert asked.returncode == 0, asked.stderr
    (tmp_path / "edge-04.csr").write_text(fleet.on("edge-04", "cat", "/root/edge-04.csr").stdout)
    signed = fleet.edgefl("enrol", "sign", str(tmp_path / "edge-04.csr"), "--yes", "--json")
    assert signed.returncode == 0, signed.stdout
    fleet.lab.execute("edge-04", ["tee", "/root/edge-04.crt"], (tmp_path / "edge-04.crt").read_text())
    installed = fleet.on("edge-04", str(ENROL), "install", "/root/edge-04.crt")
    assert installed.returncode == 0, installed.stderr
    fleet.on("edge-04", "rm", "/root/edge-04.csr", "/root/edge-04.crt")
    until(lambda: is_online(fleet, "edge-04"), "edge-04 to be back")
    held = certificate(fleet, "edge-04")
    assert held["key_sha256"] == last_object(signed)["key_sha256"]
    assert fleet.edgefl("up", "--json").returncode == 0
    assert certificate(fleet, "edge-04")["serial"] == held["serial"], "it serves"
