"""What travels between coordinator and device; the sender of a reply may be hostile."""

from __future__ import annotations

import json

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from edgefl.federation.messages import (
    ABOUT,
    MAX_ABOUT_BYTES,
    MODEL,
    Evaluated,
    Failed,
    Refused,
    Trained,
    Undecodable,
    pack,
    size,
    unpack,
)

SAID = Trained(samples=10, metrics={"loss": 0.5}, train_s=1.5)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.text("abc.", min_size=1, max_size=6),
        arrays_of.arrays(np.float32, arrays_of.array_shapes(max_dims=3, max_side=4), elements=st.floats(width=32)),
        min_size=1,
    )
)
def test_what_is_packed_is_unpacked_bit_by_bit(arrays: dict[str, np.ndarray]) -> None:
    said, found = unpack(pack(SAID, arrays))
    assert said == SAID
    assert found.keys() == arrays.keys()
    assert all(found[name].tobytes() == arrays[name].tobytes() and found[name].shape == arrays[name].shape for name in arrays)


def with_bytes(data: bytes) -> RecordDict:
    """A reply whose model is this array, as it travels."""
    reply = RecordDict(dict(pack(SAID)))
    reply[MODEL] = ArrayRecord({"packed": Array("uint8", (1,), "numpy.ndarray", data)})
    return reply


def numpy_file(header: str) -> bytes:
    return b"\x93NUMPY\x01\x00v\x00" + header.encode().ljust(118)


@pytest.mark.parametrize(
    "said", [Refused(reason="spent", spent=8.0, limit=8.0, cost=0.4), Failed(reason="no data"), Evaluated(samples=3, metrics={})]
)
def test_replies_without_a_model_carry_none(said: object) -> None:
    assert unpack(pack(said)) == (said, {})  # type: ignore[arg-type]  # each of them is a Said


def test_the_size_is_that_of_the_payload() -> None:
    weights = np.zeros(10_000, np.float32)
    assert 40_000 < size(pack(SAID, {"w": weights})) < 41_000


def about(**body: object) -> RecordDict:
    return RecordDict({ABOUT: ConfigRecord({"json": json.dumps(body)})})


def with_model(packed: np.ndarray) -> RecordDict:
    records = pack(SAID)
    records[MODEL] = ArrayRecord({"packed": Array(packed)})
    return records


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(RecordDict(), id="nothing"),
        pytest.param(RecordDict({ABOUT: ConfigRecord({"json": 5})}), id="not text"),
        pytest.param(RecordDict({ABOUT: ConfigRecord({"json": "{" * (MAX_ABOUT_BYTES + 1)})}), id="too long"),
        pytest.param(RecordDict({ABOUT: ConfigRecord({"json": "{"})}), id="no JSON"),
        pytest.param(about(kind="stranger"), id="unknown kind"),
        pytest.param(about(kind="trained", samples="many", metrics={}), id="samples no number"),
        pytest.param(about(kind="trained", samples=10**400, metrics={}), id="samples without end"),
        pytest.param(about(kind="trained", samples=1, metrics={"loss": "low"}), id="metric no number"),
        pytest.param(about(kind="trained", samples=1, metrics={}, train_s=-5), id="negative seconds"),
        pytest.param(about(kind="trained", samples=1, metrics={}, cpu_s=float("nan")), id="no seconds"),
        pytest.param(pack(SAID), id="no model"),
        pytest.param(with_model(np.zeros(3, np.uint8)), id="no safetensors"),
        pytest.param(with_model(np.frombuffer(b"\xff" * 64, np.uint8)), id="header without end"),
        pytest.param(with_model(np.zeros((2, 2), np.complex128)), id="another type"),
        pytest.param(with_bytes(b""), id="an array of no bytes"),
        pytest.param(with_bytes(b"PK\x03\x04" + bytes(40)), id="an archive"),
        pytest.param(with_bytes(numpy_file("{'descr': '|u1', 'fortran_order': False, 'shape': (10**15,), }")), id="a huge claim"),
        pytest.param(
            with_bytes(numpy_file("{'descr': '|u1', 'fortran_order': False, 'shape': (4,), }") + b"abc"), id="too short"
        ),
        pytest.param(with_bytes(numpy_file("__import__('os')")), id="a header that is code"),
    ],
)
def test_what_cannot_be_read_is_undecodable_and_nothing_worse(content: RecordDict) -> None:
    with pytest.raises(Undecodable):
        unpack(content)


def test_a_pickled_array_is_not_loaded() -> None:
    evil = RecordDict(dict(pack(SAID)))
    evil[MODEL] = ArrayRecord(
        {
            "packed": Array(
                "object",
                (1,),
                "numpy.ndarray",
                b"\x93NUMPY\x01\x00"
                + b"v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(120)
                + b"cos\nsystem\n",
            )
        }
    )
    with pytest.raises(Undecodable):
        unpack(evil)


def test_metrics_that_are_not_finite_arrive_as_such_to_be_rejected_for_what_they_are() -> None:
    diverged = Trained(samples=1, metrics={"loss": float("nan"), "norm": float("inf")})
    found, _ = unpack(pack(diverged, {"w": np.zeros(1, np.float32)}))
    assert np.isnan(found.metrics["loss"])
    assert np.isinf(found.metrics["norm"])
