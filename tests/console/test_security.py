"""The security view: flags, certificates and isolation, and the way from a flag to its evidence."""

from __future__ import annotations

import pytest

from edgefl.console.ink import plain
from edgefl.console.pages.device import DevicePage
from edgefl.console.pages.flag import FlagPage, evidence
from edgefl.console.views.security import Security, findings
from edgefl.events.schema import CertificateRevoked, IsolationProven
from edgefl.monitor.device import Flag
from edgefl.monitor.state import FederationState

from .conftest import BEGAN
from .test_app import Recorded, console, shown, until
from .test_privacy import after


def test_flags_are_listed_the_newest_first(state: FederationState) -> None:
    assert [finding.flag.round for finding in findings(state)] == [27, 15, 8, 4, 3]
    assert len({finding.key for finding in findings(state)}) == 5


def test_evidence_counts_the_peers_that_score_as_high() -> None:
    flag = Flag("4", 12, BEGAN, "guard", 5.0, 2.5, "points away", (0.4, 0.6, 5.1))
    told = "\n".join(plain(line) for line in evidence(flag))
    assert "2.0× the threshold; 1 of 3 peers score as high" in told
    assert "run 4, round 12: points away" in told


def test_evidence_without_peers_says_so() -> None:
    told = "\n".join(plain(line) for line in evidence(Flag("4", 12, BEGAN, "guard", 5.0, 0.0, "points away")))
    assert "its peers' scores were not kept" in told


@pytest.mark.slow
async def test_two_keys_lead_from_anywhere_to_the_newest_flags_evidence(state: FederationState) -> None:
    async with console(Recorded(state), state.seq, size=(120, 36)) as (app, pilot):
        await pilot.press("4", "enter")
        assert isinstance(app.stage.top, FlagPage)
        await until(pilot, lambda: "0 of 8 peers score as high" in shown(app))
        grid = app.stage.top.grid
        assert grid.key_of(grid.rows[0]) == "edge-07", "the highest score of the round is at the top"
        await pilot.press("enter")
        assert isinstance(app.stage.top, DevicePage)
        assert app.stage.trail == ("edge-07 in round 27", "edge-07")
        await pilot.press("escape", "escape")
        assert isinstance(app.stage.top, Security)


@pytest.mark.slow
async def test_tab_goes_from_table_to_table_and_the_filter_follows(state: FederationState) -> None:
    async with console(Recorded(state), state.seq, size=(120, 36)) as (app, pilot):
        await pilot.press("4", "tab", "slash", *"edge-05", "enter")
        view = app.stage.top
        assert isinstance(view, Security)
        assert [view.grid.key_of(row) for row in view.grid.rows] == ["device/edge-05"]
        assert len(view._flags.rows) == 5, "the other tables are not filtered"
        await pilot.press("enter")
        assert isinstance(app.stage.top, DevicePage)
        assert app.stage.trail == ("edge-05",)


@pytest.mark.slow
async def test_what_is_revoked_or_open_is_said_in_words(state: FederationState) -> None:
    (certificate,) = [one for one in state.certificates.values() if one.subject == "edge-02"]
    hurt = after(
        state,
        CertificateRevoked(subject="edge-02", serial=certificate.serial, reason="key stolen"),
        IsolationProven(device="edge-04", probes=14, open_forbidden=["edge-05:22"], closed_required=[], proof_sha256="0" * 64),
        IsolationProven(
            device="hub", role="coordinator", probes=6, open_forbidden=[], closed_required=["fleet"], proof_sha256="1" * 64
        ),
    )
    async with console(Recorded(hurt), hurt.seq, size=(120, 36)) as (app, pilot):
        await pilot.press("4")
        await until(pilot, lambda: "✖ revoked: key stolen" in shown(app))
        assert "edge-05:22" in shown(app)
        lines = shown(app).splitlines()
        assert any("hub" in line and "✖ broken" in line for line in lines), "the coordinator's own proof is there too"
