from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from edgefl.events.schema import BODIES, KINDS, DeviceDropped, Unrecognised, UpdateScored


def test_an_event_of_a_newer_kind_is_kept_whole():
    body = BODIES.validate_python({"type": "audit_measured", "auc": 0.51})
    assert isinstance(body, Unrecognised)
    assert body.model_dump(mode="json") == {"type": "audit_measured", "auc": 0.51}


def test_a_known_event_that_lacks_a_field_is_refused_and_not_taken_for_a_newer_one():
    with pytest.raises(ValidationError):
        BODIES.validate_python({"type": "device_dropped", "device": "edge-01"})


def test_a_field_that_a_newer_version_added_does_not_stop_an_older_reader():
    said = {"type": "device_dropped", "device": "edge-01", "reason": "deadline", "since": 3}
    assert BODIES.validate_python(said) == DeviceDropped(device="edge-01", reason="deadline")


def test_numbers_that_are_not_finite_survive_the_trip():
    body = UpdateScored(
        device="edge-07", rule="guard", score=math.inf, threshold=3.0, verdict="reject", weight=0, norm=math.nan, cosine=-math.inf
    )
    read = BODIES.validate_json(body.model_dump_json())
    assert read.score == math.inf
    assert math.isnan(read.norm)
    assert read.cosine == -math.inf


def test_every_kind_is_known_by_its_name():
    assert {"run_started", "flag_raised", "operator_action"} <= KINDS
