"""Preflight against a real server: this machine is fit or not by what the site asks of it."""

from __future__ import annotations

import platform
from dataclasses import replace

import pytest

from edgefl.fleet import facts, preflight, ssh
from edgefl.infra.inventory import Host, Inventory
from edgefl.progress import Failed, Finished
from edgefl.site.model import Device, Preflight, Run, Site


def site(**settings: object) -> Site:
    return Site(name="t", devices=[Device(name=f"edge-0{n}") for n in range(1, 4)], preflight=Preflight(**settings))


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


async def test_a_host_that_gives_no_root_is_named(loopback_host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ssh.as_root
    monkeypatch.setattr(
        ssh, "as_root", lambda host, argv: plain(host, ["setpriv", "--reuid=65534", "--clear-groups", "--", *argv])
    )
    with pytest.raises(facts.HostUnfit, match="do not run as root") as unfit:
        await facts.gather(loopback_host)
    assert "sudoers" in unfit.value.hint
