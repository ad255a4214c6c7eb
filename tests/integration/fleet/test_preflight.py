"""Preflight against a real server: this machine is fit or not by what the site asks of it."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from edgefl.fleet import facts, preflight, ssh
from edgefl.infra.inventory import Host, Inventory
from edgefl.progress import Failed, Finished
from edgefl.site.model import Device, Preflight, Run, Runtime, Site
from tests.integration.fleet.conftest import serving

SYSTEMD = "mkdir -p /run/systemd/system\n"
NO_PYTHON = SYSTEMD + "mount --bind /dev/null /usr/bin/python3"
WRONG_CLOCK = (
    SYSTEMD
    + """mount -t tmpfs tmpfs /usr/lib/python3/dist-packages
echo 'import time; time.time = lambda true=time.time: true() - 90' > /usr/lib/python3/dist-packages/clock.pth"""
)
FULL_DISK = SYSTEMD + "small_tmp 8m"
NOTHING_FREE = SYSTEMD + "small_tmp 1m; cat /dev/zero 2>/dev/null >/tmp/full || test -s /tmp/full"


def site(devices: int = 3, **settings: object) -> Site:
    names = [f"edge-0{n}" for n in range(1, devices + 1)]
    return Site(name="t", devices=[Device(name=name) for name in names], preflight=Preflight(**settings))


def inventory(host: Host) -> Inventory:
    return Inventory(
        (replace(host, name="coordinator", role="coordinator"), *(replace(host, name=f"edge-0{n}") for n in range(1, 4)))
    )


async def look(chosen: Site, hosts: Inventory) -> tuple[list[str], list[Failed], list[Finished]]:
    fit: list[str] = []
    events = [event async for event in preflight.check(chosen, hosts, fit)]
    return fit, [e for e in events if isinstance(e, Failed)], [e for e in events if isinstance(e, Finished)]


async def test_a_hosts_facts_come_in_one_round_trip(loopback_host: Host) -> None:
    found = await facts.gather(loopback_host, services=True)
    assert found.architecture == platform.machine()
    assert found.memory_mb > 256
    assert found.skew_s == 0.0
    assert set(found.free_mb) == {"/opt", "/var", "/tmp"}


async def test_an_unreachable_device_stops_everything_by_default(loopback_host: Host) -> None:
    hosts = inventory(loopback_host)
    gone = replace(hosts.hosts[2], port=1)
    with pytest.raises(preflight.PreflightFailed, match=r"edge-02.*does not answer") as stopped:
        await look(site(), replace(hosts, hosts=(*hosts.hosts[:2], gone, hosts.hosts[3])))
    assert stopped.value.exit_code == 30


async def test_with_continue_the_unreachable_device_is_left_out(loopback_host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "problems", lambda *_, **__: iter(()))  # this machine need not be a fit host
    hosts = inventory(loopback_host)
    gone = replace(hosts.hosts[2], port=1)
    fit, failed, _ = await look(site(on_failure="continue"), replace(hosts, hosts=(*hosts.hosts[:2], gone, hosts.hosts[3])))
    assert fit == ["coordinator", "edge-01", "edge-03"]
    assert [event.subject for event in failed] == ["edge-02"]
    assert failed[0].hint == "edgefl doctor edge-02"


async def test_with_continue_too_few_fit_devices_still_stop(loopback_host: Host) -> None:
    hosts = inventory(loopback_host)
    gone = tuple(replace(host, port=1) for host in hosts.devices)
    chosen = site(on_failure="continue").model_copy(update={"run": Run(quorum=1.0)})
    with pytest.raises(preflight.PreflightFailed):
        await look(chosen, Inventory((hosts.coordinator, *gone)))


@pytest.fixture
def troubled(sshd_program: Path, tmp_path: Path) -> Iterator[Inventory]:
    """A coordinator, two devices that are fit, and four that are not, each for a reason of its own."""
    setups = [SYSTEMD, SYSTEMD, NO_PYTHON, WRONG_CLOCK, FULL_DISK, SYSTEMD, NOTHING_FREE]
    with ExitStack() as servers:
        made = []
        for number, setup in enumerate(setups):
            folder = tmp_path / str(number)
            folder.mkdir()
            made.append(servers.enter_context(serving(sshd_program, folder, setup)))
        hub, *devices = made
        named = [replace(host, name=f"edge-0{number}") for number, host in enumerate(devices, 1)]
        yield Inventory((replace(hub, name="coordinator", role="coordinator"), *named))


async def test_with_continue_devices_that_answer_and_are_not_fit_are_left_out_each_with_its_reason(troubled: Inventory) -> None:
    python = (await facts.gather(troubled.coordinator)).python
    chosen = site(6, on_failure="continue", min_disk_mb=64, min_memory_mb=64)
    runtime = Runtime(python=python.rpartition(".")[0])
    chosen = chosen.model_copy(update={"runtime": runtime, "run": Run(quorum=0.3)})
    fit, failed, _ = await look(chosen, troubled)
    assert fit == ["coordinator", "edge-01", "edge-05"]
    why = {event.subject: event.why for event in failed}
    assert set(why) == {"edge-02", "edge-03", "edge-04", "edge-06"}
    assert why["edge-02"] == "has no python3"
    assert re.fullmatch(r"its clock is (8\d|90) s behind, at most 5 s are allowed", why["edge-03"])
    assert re.fullmatch(r"[78] MiB are free on /tmp, 64 are needed", why["edge-04"])
    assert why["edge-06"] == "0 MiB are free on /tmp, 64 are needed"
    assert all(event.hint for event in failed)

    with pytest.raises(preflight.PreflightFailed, match="only 2 devices are fit, and the quorum is 4"):
        await look(chosen.model_copy(update={"run": Run(quorum=0.7)}), troubled)
    with pytest.raises(preflight.PreflightFailed, match="nothing was changed"):
        await look(chosen.model_copy(update={"preflight": chosen.preflight.model_copy(update={"on_failure": "stop"})}), troubled)


async def test_a_host_that_gives_no_root_is_named(loopback_host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ssh.as_root
    monkeypatch.setattr(
        ssh, "as_root", lambda host, argv: plain(host, ["setpriv", "--reuid=65534", "--clear-groups", "--", *argv])
    )
    with pytest.raises(facts.HostUnfit, match="do not run as root") as unfit:
        await facts.gather(loopback_host)
    assert "sudoers" in unfit.value.hint
