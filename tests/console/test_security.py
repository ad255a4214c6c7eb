"""The security view: flags, certificates and isolation, and the way from a flag to its evidence."""

from __future__ import annotations

from datetime import timedelta

import pytest

from edgefl.console.ink import plain
from edgefl.console.pages.device import DevicePage
from edgefl.console.pages.flag import FlagPage, evidence
from edgefl.console.pages.whole import Whole
from edgefl.console.views.security import Found, Security
from edgefl.events.schema import CertificateIssued, CertificateRevoked, DeviceState, FlagRaised, IsolationProven
from edgefl.monitor.device import Flag
from edgefl.monitor.state import FederationState

from .conftest import BEGAN, DEVICES
from .driving import shown, until
from .test_app import Recorded, console
from .test_lines import Hosts
from .test_privacy import after


def test_flags_are_listed_the_newest_first(state: FederationState) -> None:
    assert [finding.flag.round for finding in Found().of(state)] == [27, 15, 8, 4, 3]
    assert len({finding.key for finding in Found().of(state)}) == 5


def test_flags_are_put_in_order_only_when_there_are_others_and_a_device_is_as_it_stands_now(state: FederationState) -> None:
    found = Found()
    before = found.of(state)
    order = found._sorted
    moved = after(state, DeviceState(device="edge-07", state="quarantined"))
    assert found.of(moved)[0].device.state == "quarantined"
    assert before[0].device.state == "suspect"
    assert found._sorted is order
    flag = FlagRaised(device="edge-02", rule="guard", score=3.0, threshold=2.5, peers=[], reason="odd")
    assert found.of(after(moved, flag))[0].device.name == "edge-02"
    gone = after(moved, DeviceState(device="edge-07", state="removed"))
    assert list(found.of(gone)) == []


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
        await pilot.press("tab", "tab", "enter")
        assert isinstance(app.stage.top, Whole)
        await until(pilot, lambda: "closed: fleet" in shown(app) and "1" * 64 in shown(app))


@pytest.mark.slow
async def test_a_certificate_says_how_often_it_was_rotated_and_the_matrix_where_paths_lead(state: FederationState) -> None:
    def issued(serial: str) -> CertificateIssued:
        return CertificateIssued(
            subject="edge-02", role="device", serial=serial, not_before=BEGAN, not_after=BEGAN + timedelta(days=1)
        )

    paths = {"service": (1, 1, 2), "peers": (0, 0, 6)}
    broken = IsolationProven(
        device="edge-02", probes=9, open_forbidden=[], closed_required=["gate"], proof_sha256="2" * 64, paths=paths
    )
    told = after(state, issued("a"), issued("a"), issued("b"), broken)
    assert told.certificates["device/edge-02"].rotations == 2
    async with console(Recorded(told), told.seq, size=(160, 50)) as (app, pilot):
        await pilot.press("4")
        await until(pilot, lambda: "ROTATED" in shown(app) and "NOT AS IT MUST BE" in shown(app))
        [row] = [line for line in shown(app).splitlines() if "✖ broken" in line]
        assert "✖1 1/2" in row
        assert "0/6" in row
        [certificate] = [line for line in shown(app).splitlines() if "edge-02" in line and "valid" in line]
        assert certificate.split()[-2:] == ["2", "b"]


@pytest.mark.slow
async def test_l_and_y_act_on_what_the_row_of_each_table_is_about(state: FederationState) -> None:
    gate = CertificateIssued(subject="hub", role="gate", serial="9", not_before=BEGAN, not_after=BEGAN + timedelta(days=1))
    alice = gate.model_copy(update={"subject": "alice@desk", "role": "operator", "serial": "a11ce"})
    told = after(state, gate, alice)
    hosts = Hosts("hub", *DEVICES)
    async with console(Recorded(told), told.seq, logs=hosts) as (app, pilot):
        await pilot.press("4", "y", "l")
        await until(pilot, lambda: hosts.open == [("edge-07",)])
        assert app.clipboard == "edge-07/4/27/guard"
        await pilot.press("4", "tab", "end", "y")
        assert app.clipboard == "a11ce"
        await pilot.press("l")
        assert isinstance(app.stage.top, Security), "an operator has no logs"
        await pilot.press("up", "l")
        await until(pilot, lambda: hosts.open == [("hub",)])
        await pilot.press("4", "tab", "tab", "down", "y", "l")
        await until(pilot, lambda: hosts.open == [("edge-02",)])
        assert app.clipboard == f"{1:064x}"
