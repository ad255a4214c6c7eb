"""Proofs: signed, chained, compared."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgefl.errors import ExitCode, NotProvisioned
from edgefl.fleet import evidence
from edgefl.fleet.evidence import Proof, ProofInvalid, Result, changes, compared
from edgefl.fleet.probes import OPERATOR, Probe
from edgefl.fleet.proof import NotIsolated
from edgefl.fleet.proof_table import table
from edgefl.infra.inventory import Host
from edgefl.pki.operator import ensure_operator
from edgefl.site.model import Device, Site

GATE = Probe("edge-01", "edgefl-node", "tcp", "coordinator", "10.0.0.1", 7443, "open", "service")
PEER = Probe("edge-01", "edgefl-node", "tcp", "edge-02", "10.0.0.3", 22, "closed", "peers")
INBOUND = Probe(OPERATOR, OPERATOR, "tcp", "edge-01", "10.0.0.2", 47443, "closed", "operator")
EDGE = Host("edge-01", "device", "10.0.0.2", 22, "root")
ARCHIVE = Probe("edge-01", "edgefl-app", "tcp", "10.2.0.7", "10.2.0.7", 104, "allowed", "allowed")
GOOD = Proof("t", "2026-01-01T00:00:00+00:00", (Result(GATE, "open", "answered"), Result(PEER, "closed", "dropped here")))


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = Site(name="t", devices=[Device(name="edge-01")])
    site._root = tmp_path_factory.mktemp("site")
    ensure_operator(site)
    return site.state


def load(path: Path, state: Path) -> Proof:
    return evidence.load(path, state / "operator" / "ca.crt")


def test_a_proof_comes_back_as_it_was_signed(state: Path) -> None:
    path = evidence.save(GOOD, state)
    assert load(path, state) == GOOD
    assert path.name == "2026-01-01T00-00-00Z.json"


@pytest.mark.parametrize("change", ["observed", "signature", "at"])
def test_an_altered_proof_is_refused(state: Path, change: str) -> None:
    path = evidence.save(replace(GOOD, at="2026-01-02T00:00:00+00:00"), state)
    document = json.loads(path.read_text())
    if change == "observed":
        document["proof"]["results"][1]["observed"] = "open"
    elif change == "at":
        document["proof"]["at"] = "2027-01-01T00:00:00+00:00"
    else:
        document["signature"] = document["signature"][:-8] + "AAAAAAA="
    path.write_text(json.dumps(document))
    with pytest.raises(ProofInvalid) as refused:
        load(path, state)
    assert refused.value.exit_code == ExitCode.NOT_ISOLATED


def test_a_proof_of_another_sites_operator_is_refused(state: Path, tmp_path: Path) -> None:
    other = Site(name="other", devices=[Device(name="edge-01")])
    other._root = tmp_path
    ensure_operator(other)
    path = evidence.save(GOOD, other.state)
    with pytest.raises(ProofInvalid, match="not signed by an operator"):
        load(path, state)


def test_the_latest_sound_proof_is_found(state: Path) -> None:
    newest = replace(GOOD, at="2026-03-01T00:00:00+00:00", previous="ab")
    evidence.save(newest, state)
    (state / "proofs" / "2026-04-01T00-00-00Z.json").write_text("{}")
    assert evidence.latest(state) == newest


def test_without_an_operators_key_nothing_is_signed(tmp_path: Path) -> None:
    with pytest.raises(NotProvisioned):
        evidence.save(GOOD, tmp_path)
    assert evidence.latest(tmp_path) is None


@pytest.mark.parametrize(
    ("probe", "observed", "breached"),
    [
        (GATE, "open", False),
        (GATE, "refused", True),
        (GATE, "closed", True),
        (PEER, "closed", False),
        (PEER, "refused", True),
        (PEER, "leaking", True),
        (PEER, "open", True),
        (PEER, "unknown", True),
        (ARCHIVE, "open", False),
        (ARCHIVE, "unanswered", False),
        (ARCHIVE, "closed", True),
        (ARCHIVE, "unknown", True),
    ],
)
def test_only_closed_is_isolated_and_only_open_is_of_use(probe: Probe, observed: str, breached: bool) -> None:
    proof = Proof("t", "", (Result(probe, observed, ""),))  # type: ignore[arg-type]
    assert bool(proof.breaches) is breached


def test_what_changed_since_the_last_proof_is_told() -> None:
    after = replace(GOOD, results=(GOOD.results[0], Result(PEER, "open", "answered"), Result(INBOUND, "closed", "")))
    assert changes(GOOD, after) == [(PEER, "closed", "open")]
    assert changes(GOOD, GOOD) == []
    told = compared(GOOD, after)
    assert told.changed == (f"{PEER.id} was closed and is open",)
    assert str(told).endswith("00:00:00 UTC: 1 changed, 1 new")
    fewer = replace(GOOD, results=GOOD.results[:1])
    assert (compared(GOOD, fewer).gone, compared(fewer, GOOD).new) == (len(GOOD.results) - 1,) * 2
    assert str(compared(GOOD, GOOD)).endswith("nothing changed")


def test_a_hosts_event_has_what_is_wrong_with_it_from_both_sides() -> None:
    proof = Proof(
        "t",
        "",
        (Result(GATE, "closed", ""), Result(PEER, "closed", ""), Result(INBOUND, "open", ""), Result(ARCHIVE, "closed", "")),
    )
    (event,) = proof.events([EDGE])
    assert (event.device, event.role, event.probes, event.proof_sha256) == ("edge-01", "device", 4, proof.sha256)
    assert event.closed_required == [GATE.id, ARCHIVE.id]
    assert event.open_forbidden == [INBOUND.id]
    assert sum(wrong for wrong, *_ in event.paths.values()) == 3
    assert event.paths["inbound"] == (1, 0, 1)
    assert event.paths["service"] == (1, 1, 0)
    assert event.paths["peers"] == (0, 0, 1)


def test_a_host_that_was_not_probed_is_not_said_to_hold() -> None:
    proof = Proof("t", "", (Result(GATE, "open", ""),))
    hub = Host("coordinator", "coordinator", "10.0.0.1", 22, "root")
    assert [event.device for event in proof.events([hub, EDGE])] == ["edge-01"]


def test_the_error_names_each_path_and_stays_readable() -> None:
    error = NotIsolated([Result(PEER, "leaking", "left the host")] * 9)
    assert "edge-01/edgefl-node → tcp edge-02:22 is leaking" in error.what
    assert "and 3 more" in error.what


def test_the_table_shows_a_row_a_host_and_breaches_in_red() -> None:
    from rich.console import Console

    proof = Proof("t", "2026-01-01T00:00:00", (Result(GATE, "open", ""), Result(PEER, "open", ""), Result(INBOUND, "closed", "")))
    console = Console(width=160, no_color=True, record=True, file=io.StringIO())
    console.print(table(proof))
    (row,) = [line for line in console.export_text().splitlines() if line.lstrip().startswith("edge-01")]
    assert "1 open" in row
    assert "✖ 1" in row


def test_what_the_site_allows_has_a_column_where_it_allows_something() -> None:
    def shown(proof: Proof) -> str:
        from rich.console import Console

        console = Console(file=io.StringIO(), width=98, color_system=None)
        console.print(table(proof, compact=True))
        return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]

    assert "allowed" not in shown(GOOD)
    lost = replace(
        GOOD, results=(*GOOD.results, Result(ARCHIVE, "closed", ""), Result(replace(ARCHIVE, port=105), "unanswered", ""))
    )
    heading, row = shown(lost).splitlines()
    assert "allowed" in heading
    assert "✖1 2/0" in row
