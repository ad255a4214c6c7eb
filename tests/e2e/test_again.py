"""The same `up` once more, as an operator types it who is not sure whether it was done."""

from __future__ import annotations

import json

import pytest

from .conftest import Fleet, last_object

pytestmark = pytest.mark.e2e


def test_a_second_up_finds_that_the_site_stands_and_looks_no_further(fleet: Fleet) -> None:
    again = fleet.edgefl("up", "--json")
    assert again.returncode == 0, again.stdout[-3000:]
    assert last_object(again)["changed"] is False
    said = [json.loads(line) for line in again.stdout.splitlines()]
    looked = {line["detail"]["role"] for line in said if line.get("type") == "step" and "role" in line["detail"]}
    assert looked == {"preflight"}, "no other role had to look at a host"
