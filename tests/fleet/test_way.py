"""What the steps from a device to its coordinator mean, as tables of what the device saw."""

from __future__ import annotations

from typing import Any

import pytest

from edgefl.fleet import way
from edgefl.fleet.doctor import verdict

PLACE: dict[str, Any] = {"address": "10.0.0.10", "port": 7443, "user": "edgefl-node", "resolved": "10.0.0.10"}
THROUGH = {**PLACE, "tcp": "connected", "shown": "", "verified": 0, "entry": 404, "link": 405}


def closed(outcome: str, *, left: bool | None, neighbour: str = "REACHABLE") -> dict[str, Any]:
    return {**PLACE, "tcp": outcome, "left": left, "neighbour": neighbour}


@pytest.mark.parametrize(
    ("said", "check", "says"),
    [
        ({"failed": "no host.json"}, "dns", "no host.json"),
        ({**PLACE, "address": "gate.example", "unresolved": "Name or service not known"}, "dns", "gate.example does not resolve"),
        (closed("refused", left=True), "gate", "nobody listens"),
        (closed("refused", left=None), "gate", "nobody listens"),
        (closed("refused", left=False), "gate", "this host's own firewall"),
        (closed("No route to host", left=False), "gate", "this host's own firewall"),
        (closed("silent", left=False), "gate", "this host's own firewall"),
        (closed("silent", left=False, neighbour="INCOMPLETE"), "gate", "nobody has 10.0.0.10"),
        (closed("No route to host", left=False, neighbour="FAILED"), "gate", "nobody has 10.0.0.10"),
        (closed("silent", left=True), "gate", "lost on the way, or at coordinator's firewall"),
        ({**PLACE, "tcp": "connected", "identity": "no such file"}, "tls", "own identity"),
        ({**PLACE, "tcp": "connected", "shown": "", "no_tls": "WRONG_VERSION_NUMBER"}, "tls", "not with TLS"),
        ({**THROUGH, "verified": 10}, "tls", "expired"),
        ({**THROUGH, "verified": 9}, "tls", "not yet"),
        ({**THROUGH, "verified": 20}, "tls", "not of the authority"),
        ({**THROUGH, "verified": 26, "unverified": "unsuitable certificate purpose"}, "tls", "unsuitable certificate purpose"),
        ({**THROUGH, "verified": 64}, "name", "is for nobody, not for 10.0.0.10"),
        ({**THROUGH, "entry": 0, "alert": "SSLV3_ALERT_CERTIFICATE_REVOKED"}, "admission", "is revoked"),
        ({**THROUGH, "entry": 0, "alert": "TLSV1_ALERT_UNKNOWN_CA"}, "admission", "does not know"),
        ({**THROUGH, "entry": 503}, "admission", "revoked, or it is quarantined"),
        ({**THROUGH, "entry": 403}, "admission", "for a device's"),
        ({**THROUGH, "link": 503}, "superlink", "no SuperLink"),
    ],
)
def test_a_step_that_leads_no_further_is_named_and_what_follows_is_skipped(said: dict[str, Any], check: str, says: str) -> None:
    findings = list(way.judge("edge-01", said, "coordinator"))
    assert [finding.check for finding in findings] == list(way.CHECKS)
    bad = verdict(findings)
    assert bad is not None
    assert (bad.check, says in bad.found, bool(bad.fix)) == (check, True, True), bad
    behind = findings[findings.index(bad) + 1 :]
    assert {finding.verdict for finding in behind} <= {"skipped"}


def test_a_way_that_leads_through_is_good_at_every_step() -> None:
    assert [finding.verdict for finding in way.judge("edge-01", THROUGH, "coordinator")] == ["good"] * len(way.CHECKS)


@pytest.mark.parametrize(("at", "skew"), [(0.4, 0.0), (41.0, 40.0), (-90.0, -90.0)])
def test_the_coordinators_date_tells_the_clocks_apart(at: float, skew: float) -> None:
    said = {**THROUGH, "link_date": "Thu, 01 Jan 2026 00:00:00 GMT", "link_at": 1767225600.0 + at}
    assert way.clock_skew_s(said) == pytest.approx(skew)
    assert way.clock_skew_s({**THROUGH, "link_date": ""}) is None
