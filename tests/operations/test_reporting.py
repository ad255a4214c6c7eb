"""A proof is kept and told; a monitor that cannot be told is no reason to forget it."""

from __future__ import annotations

from pathlib import Path

from edgefl.fleet import evidence
from edgefl.fleet.evidence import Proof, Result
from edgefl.fleet.probes import Probe
from edgefl.infra.inventory import Host, Inventory
from edgefl.operations.reporting import report_proof
from edgefl.operations.state import inventory_file
from edgefl.pki.operator import ensure_operator
from edgefl.progress import Warned
from edgefl.site.model import Site

OPEN = Probe("edge-01", "nobody", "tcp", "edge-02", "192.0.2.12", 22, "closed", "peers")


async def test_a_monitor_that_does_not_answer_is_warned_about_and_the_proof_stays(tmp_path: Path) -> None:
    site = Site.model_validate({"name": "clinic", "devices": [{"name": "edge-01"}]}).at(tmp_path)
    ensure_operator(site)
    hub = Host("coordinator", "coordinator", "127.77.3.9", 22, "root")  # this machine, where nothing listens at the API's port
    inventory = Inventory((hub, Host("edge-01", "device", "127.77.3.10", 22, "root")))
    inventory.save(inventory_file(site))
    evidence.save(Proof("clinic", evidence.now(), (Result(OPEN, "open", "answered"),)), site.state)
    told = [event async for event in report_proof(site, inventory)]

    assert [type(event) for event in told] == [Warned]
    assert "does not know of this proof" in told[0].what
    kept = evidence.latest(site.state)
    assert kept is not None
    assert len(kept.breaches) == 1


async def test_without_a_proof_there_is_nothing_to_tell(tmp_path: Path) -> None:
    site = Site.model_validate({"name": "clinic", "devices": [{"name": "edge-01"}]}).at(tmp_path)
    ensure_operator(site)
    assert [event async for event in report_proof(site, Inventory(()))] == []
