"""What a plan says of hosts and certificates, as functions of what is known."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from edgefl.infra.changes import Change
from edgefl.infra.inventory import Inventory, prospective
from edgefl.operations import plan as planning
from edgefl.operations.plan import due_certificates, existing_hosts
from edgefl.pki.operator import ensure_operator, why_due
from edgefl.progress import Progress, Warned
from edgefl.site.host import Watcher
from edgefl.site.model import Observability, Site

SITE = Site.model_validate({"name": "clinic", "devices": [{"name": "edge-01"}, {"name": "edge-02"}]}).at(Path("/srv/clinic"))
ALL = ["coordinator", "edge-01", "edge-02"]
LASTING = {("renewal", "coordinator"), ("gate", "coordinator"), ("superlink", "coordinator")}
LASTING |= {(role, device) for role in ("device", "signer") for device in ("edge-01", "edge-02")}


@pytest.mark.parametrize(
    ("changes", "there", "standing"),
    [
        ([], ALL, ALL),
        ([Change("a", "edge-01", "create", {}, {})], ["coordinator", "edge-02"], ["coordinator", "edge-02"]),
        ([Change("a", "edge-01", "replace", {"cpu": 1}, {"cpu": 2})], ["coordinator", "edge-02"], ["coordinator", "edge-02"]),
        ([Change("a", "edge-02", "update", {"running": False}, {"running": True})], ALL, ["coordinator", "edge-01"]),
        ([Change("a", "edge-02", "update", {"memory_mb": 512}, {"memory_mb": 768})], ALL, ALL),
        ([Change("a", "edge-03", "delete", {}, {})], ALL, ALL),
    ],
)
def test_hosts_that_terraform_neither_makes_nor_boots_can_be_looked_at(
    changes: list[Change], there: list[str], standing: list[str]
) -> None:
    known = prospective(SITE, Inventory(()))
    assert known is not None
    assert existing_hosts(SITE, known, changes) == (there, standing)
    assert existing_hosts(SITE, Inventory(()), changes) == ([], [])


def test_a_host_that_does_not_exist_yet_gets_new_certificates_whatever_the_register_says() -> None:
    due = list(due_certificates(SITE, ["coordinator", "edge-02"], ["coordinator", "edge-02"], {}, LASTING))
    assert due == [(role, "edge-01", "its host does not exist yet") for role in ("device", "signer")]


def test_what_a_host_has_counts_more_than_the_register() -> None:
    renewed = {("device", "edge-02"): "it does not fit the host's key", ("gate", "coordinator"): "it expires soon"}
    assert list(due_certificates(SITE, ALL, ALL, renewed, LASTING)) == [
        ("gate", "coordinator", "it expires soon"),
        ("device", "edge-02", "it does not fit the host's key"),
    ]
    assert list(due_certificates(SITE, ALL, ALL, {}, set())) == []


def test_the_register_counts_where_a_host_could_not_be_asked() -> None:
    short = LASTING - {("device", "edge-01")}
    assert [(role, name) for role, name, _ in due_certificates(SITE, ALL, [], {}, short)] == [("device", "edge-01")]


def test_the_certificate_that_reads_metrics_is_foreseen_where_the_site_asks_for_it() -> None:
    watched = SITE.model_copy(update={"observability": Observability(prometheus=True)})
    one = [("scraper", "coordinator", "it has none")]
    assert list(due_certificates(watched, ALL, ALL, {("scraper", "coordinator"): "it has none"}, LASTING)) == one
    assert [role for role, _, _ in due_certificates(watched, ALL, [], {}, LASTING)] == ["scraper"]
    assert list(due_certificates(watched, ALL, [], {}, LASTING | {("scraper", "prometheus")})) == []


def test_what_watched_devices_show_is_foreseen_where_the_site_asks_for_it() -> None:
    watched = SITE.model_copy(update={"observability": Observability(prometheus=True, devices=True)})
    due = list(due_certificates(watched, ALL, [], {}, LASTING | {("scraper", "prometheus"), ("exporter", "edge-02")}))
    assert due == [("exporter", "edge-01", "none is valid for long enough")]


def test_where_a_host_of_its_own_watches_it_reads_and_the_gate_has_one_more_name() -> None:
    watch = Observability(prometheus=True, devices=True, host=Watcher(name="watch"))
    watched = SITE.model_copy(update={"observability": watch})
    known = LASTING | {("exporter", "edge-01"), ("exporter", "edge-02")}
    due = [(role, name) for role, name, _ in due_certificates(watched, {*ALL, "watch"}, [], {}, known)]
    assert due == [("scraper", "watch"), ("metrics", "coordinator")]
    assert list(due_certificates(watched, ALL, [], {}, known | {("metrics", "coordinator")})) == [
        ("scraper", "watch", "its host does not exist yet")
    ]


def test_the_operators_own_certificate_is_part_of_it(tmp_path: Path) -> None:
    site = SITE.at(tmp_path)
    assert why_due(site) == "there is none"
    ensure_operator(site)
    assert why_due(site) == ""
    (tmp_path / ".edgefl/pki/root.crt").unlink()
    assert why_due(site) == "it is from another root"


async def test_it_begins_with_the_torch_that_up_would_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def proven(_: Site) -> AsyncIterator[Progress]:
        for event in ():
            yield event

    monkeypatch.setattr(planning, "prove_task", proven)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setenv("EDGEFL_CACHE", str(tmp_path / "cache"))
    async with aclosing(planning.plan(SITE.at(tmp_path))) as events:
        first = await anext(events)
    assert isinstance(first, Warned)
    assert (first.stage, first.subject) == ("bundle", "torch")
    assert "CUDA build of gigabytes" in first.what
    assert "runtime.torch" in first.hint
