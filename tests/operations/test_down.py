"""In which order a site is taken down, and what is left alone. The hosts themselves are the end-to-end tests' business."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from edgefl.errors import EdgeflError, Locked
from edgefl.events.schema import Body, OperatorAction
from edgefl.infra.inventory import Host, Inventory
from edgefl.operations.deeds import pending
from edgefl.operations.down import down
from edgefl.operations.lock import site_lock
from edgefl.operations.state import inventory_file
from edgefl.progress import Finished, Progress, Warned
from edgefl.site import load
from edgefl.site.model import Site

STATIC = """\
name: clinic
infrastructure: {module: static}
coordinator: {address: 10.0.0.10}
devices: [{name: edge-01, address: 10.0.0.11}]
isolation: {operator_addresses: [10.0.0.1]}
"""
LAB = "name: clinic\ndevices: [{name: edge-01}]\n"


class Machinery:
    """Ansible, Terraform and the lab as `down` calls them; it keeps the order of the calls."""

    def __init__(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site, self.calls = site, list[Any]()
        self.unreachable = False
        self.told: list[Body] = []
        monkeypatch.setattr("edgefl.operations.down.tell", lambda _: self._tell())
        monkeypatch.setattr("edgefl.fleet.ansible.converge", self._converge)
        monkeypatch.setattr("edgefl.infra.terraform.Terraform.destroy", lambda _: self._destroy())
        monkeypatch.setattr("edgefl.lab.hosts.Lab.down", lambda lab: self._note(("lab", lab.root)))

    async def _converge(
        self, site: Site, inventory: Inventory, package: object, *, playbook: str, limit: Sequence[str]
    ) -> AsyncIterator[Progress]:
        assert package is None, "what is taken off a host needs no bundle"
        self._note((playbook, list(limit)))
        if self.unreachable:
            raise EdgeflError("edge-01 does not answer")
        yield Finished("configuration", "", "reset", changed=True)

    async def _tell(self) -> AsyncIterator[Progress]:
        self.told = [body for _, body in pending(self.site)]
        yield Warned("journal", "", "nobody answers")

    async def _destroy(self) -> AsyncIterator[Progress]:
        self._note("terraform")
        yield Finished("infrastructure", "", "gone", changed=True)

    def _note(self, call: object) -> None:
        with pytest.raises(Locked), site_lock(self.site, "up"):
            pass
        self.calls.append((call, inventory_file(self.site).exists()))


def made(directory: Path, text: str, *names: str) -> Site:
    """A site and the inventory that an `up` left."""
    (directory / "site.yaml").write_text(text)
    site = load(directory)
    devices = (Host(name, "device", f"10.0.0.{11 + place}", 22, "root") for place, name in enumerate(names))
    Inventory((Host("coordinator", "coordinator", "10.0.0.10", 22, "root"), *devices)).save(inventory_file(site))
    return site


async def test_adopted_hosts_are_reset_before_terraform_forgets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = made(tmp_path, STATIC, "edge-01")
    machinery = Machinery(site, monkeypatch)
    said = [event async for event in down(site)]
    assert machinery.calls == [(("reset.yml", ["coordinator", "edge-01"]), True), ("terraform", True)]
    assert not inventory_file(site).exists()
    assert [event.stage for event in said] == ["journal", "configuration", "infrastructure"]


async def test_a_host_that_the_site_no_longer_names_is_left_alone_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = made(tmp_path, STATIC, "edge-01", "edge-02")
    machinery = Machinery(site, monkeypatch)
    warned = [event async for event in down(site) if isinstance(event, Warned) and event.stage != "journal"]
    assert machinery.calls[0] == (("reset.yml", ["coordinator", "edge-01"]), True)
    [warning] = warned
    assert (warning.subject, "10.0.0.12" in warning.what) == ("edge-02", True)
    assert "edgefl down" in warning.hint


async def test_a_reset_that_fails_leaves_everything_for_the_next_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = made(tmp_path, STATIC, "edge-01")
    machinery = Machinery(site, monkeypatch)
    machinery.unreachable = True
    with pytest.raises(EdgeflError, match="does not answer"):
        [event async for event in down(site)]
    assert inventory_file(site).exists()
    assert "terraform" not in [call for call, _ in machinery.calls]
    machinery.unreachable = False
    assert [event async for event in down(site)]
    assert not inventory_file(site).exists()


async def test_a_labs_hosts_end_whole_and_then_the_lab_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = made(tmp_path, LAB, "edge-01")
    machinery = Machinery(site, monkeypatch)
    assert [event async for event in down(site)]
    assert machinery.calls == [("terraform", True), (("lab", site.state.absolute() / "lab"), True)]
    assert not inventory_file(site).exists()


async def test_who_takes_a_site_down_tells_its_journal_first_and_a_labs_copy_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = made(tmp_path, LAB, "edge-01")
    (site.state / "journal").mkdir()
    (site.state / "journal" / "journal.ndjson").write_text("")
    machinery = Machinery(site, monkeypatch)
    assert [event async for event in down(site, why="moved")]
    [deed] = machinery.told
    assert isinstance(deed, OperatorAction)
    assert (deed.action, deed.subject, deed.why) == ("down", "clinic", "moved")
    assert [body for _, body in pending(site)] == [deed], "whom nobody heard waits for the next journal"
    assert not (site.state / "journal").exists()
    assert len(list(site.state.glob("journal-until-*/journal.ndjson"))) == 1


async def test_a_down_that_fails_is_in_the_audit_log_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = made(tmp_path, STATIC, "edge-01")
    Machinery(site, monkeypatch).unreachable = True
    with pytest.raises(EdgeflError, match="does not answer"):
        assert [event async for event in down(site)]
    said = [body.detail.get("failed") for _, body in pending(site) if isinstance(body, OperatorAction)]
    assert said == [None, "edge-01 does not answer"]


async def test_a_site_that_never_stood_goes_down_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = made(tmp_path, STATIC)
    inventory_file(site).unlink()
    machinery = Machinery(site, monkeypatch)
    assert [event async for event in down(site)]
    assert [call for call, _ in machinery.calls] == ["terraform"]
