from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefl.errors import ExitCode
from edgefl.events import chain
from edgefl.events.chain import GENESIS, Head, JournalBroken

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
BODIES = st.dictionaries(st.text(), VALUES, max_size=4)
CONTENTS = st.lists(st.tuples(st.text(max_size=8), st.integers(0, 9999), BODIES), min_size=1, max_size=8)


def chained(contents) -> list[dict]:
    records, head = [], Head()
    for run, round_, body in contents:
        record = {
            "seq": head.seq + 1,
            "at": "2026-01-02T03:04:05Z",
            "run": run,
            "round": round_,
            "version": 1,
            "body": body,
            "previous": head.hash,
        }
        record["hash"] = chain.digest_of(record)
        records.append(record)
        head = Head(record["seq"], record["hash"])
    return records


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(CONTENTS)
def test_what_was_chained_verifies_and_still_does_after_a_trip_through_json(contents):
    records = chained(contents)
    head = chain.verify(records)
    assert head == Head(len(records), records[-1]["hash"])
    assert chain.verify([json.loads(json.dumps(record)) for record in records]) == head


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(CONTENTS, st.data())
def test_a_change_of_any_field_is_found_at_its_seq(contents, data):
    records = chained(contents)
    place = data.draw(st.integers(0, len(records) - 1))
    field = data.draw(st.sampled_from(["seq", "at", "run", "round", "version", "body", "previous", "hash"]))
    other = {
        "seq": st.integers(-5, 10**6),
        "round": st.integers(0, 10**6),
        "version": st.integers(0, 9),
        "body": BODIES,
        "previous": st.text(alphabet="0123456789abcdef", min_size=64, max_size=64),
        "hash": st.text(alphabet="0123456789abcdef", min_size=64, max_size=64),
    }.get(field, st.text(max_size=30))
    value = data.draw(other.filter(lambda value: chain.canonical(value) != chain.canonical(records[place][field])))
    records[place] = {**records[place], field: value}
    with pytest.raises(JournalBroken) as broken:
        chain.verify(records)
    assert broken.value.seq == place + 1
    assert broken.value.exit_code == ExitCode.JOURNAL_BROKEN


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(CONTENTS.filter(lambda contents: len(contents) > 1), st.data())
def test_a_missing_repeated_or_moved_event_is_found(contents, data):
    records = chained(contents)
    place = data.draw(st.integers(0, len(records) - 2))
    how = data.draw(st.sampled_from(["remove", "repeat", "swap"]))
    if how == "remove":
        del records[place]
    elif how == "repeat":
        records.insert(place, records[place])
    else:
        records[place], records[place + 1] = records[place + 1], records[place]
    with pytest.raises(JournalBroken) as broken:
        chain.verify(records)
    assert broken.value.seq in {place + 1, place + 2}


@pytest.mark.parametrize("junk", [{}, [], {"seq": 1}, {"seq": "1", "hash": ""}, None])
def test_what_is_no_event_breaks_the_chain_instead_of_the_program(junk):
    with pytest.raises(JournalBroken):
        chain.verify([junk])


def test_an_empty_chain_has_the_genesis_as_its_head():
    assert chain.verify([]) == Head(0, GENESIS)


def test_canonical_json_does_not_depend_on_the_order_of_keys_and_knows_no_infinity():
    assert chain.canonical({"b": 1, "a": "ε"}) == chain.canonical({"a": "ε", "b": 1}) == '{"a":"ε","b":1}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        chain.canonical(float("inf"))


def test_the_hash_of_a_known_event_never_changes():
    record = chained([("7", 3, {"type": "device_dropped", "device": "edge-01", "reason": "deadline"})])[0]
    assert record["hash"] == "957d0800e8da208bf982d6b07a2e5cbb50aa57c392fe834cba13a1da9cc18fd9"
