"""The codec: what comes back, how small it is, and what hostile bytes get."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from edgefl.federation.compression import packing
from edgefl.federation.compression.codec import BLOCK, DENSE, HEADER, MAGIC, SPARSE, Malformed, decode, encode, largest
from edgefl.site.model import Compression

RNG = np.random.default_rng(3)
VECTORS = arrays_of.arrays(np.float32, st.integers(1, 300), elements=st.floats(-1e3, 1e3, width=32))


@pytest.mark.slow
@given(VECTORS, st.integers(2, 16))
def test_a_quantised_value_is_at_most_half_a_step_off(delta: np.ndarray, bits: int) -> None:
    step = np.abs(delta).max() / (2 ** (bits - 1) - 1)
    back = decode(encode(delta, Compression(mode="quantised", bits=bits)), len(delta))
    assert back.dtype == np.float32
    assert np.abs(back - delta).max() <= 0.5 * step * (1 + 1e-4) + 1e-30


@pytest.mark.slow
@given(VECTORS)
def test_one_bit_keeps_the_sign_at_the_mean_magnitude(delta: np.ndarray) -> None:
    back = decode(encode(delta, Compression(mode="quantised", bits=1)), len(delta))
    np.testing.assert_allclose(back, np.where(delta >= 0, 1, -1) * np.abs(delta).mean(dtype=np.float64), rtol=1e-5, atol=1e-30)


@pytest.mark.slow
@given(VECTORS, st.floats(0.01, 1.0), st.integers(1, 16))
def test_top_k_sends_the_largest_values_and_nothing_else(delta: np.ndarray, keep: float, bits: int) -> None:
    back = decode(encode(delta, Compression(mode="top-k", keep=keep, bits=bits)), len(delta))
    count = max(1, round(keep * len(delta)))
    places = largest(delta, count)
    assert len(set(places.tolist())) == count
    others = np.setdiff1d(np.arange(len(delta)), places)
    assert not back[others].any()
    if len(others):
        assert np.abs(delta[places]).min() >= np.abs(delta[others]).max()
    kept = delta[places].astype(np.float64)
    if bits == 1:
        expected, off = np.where(kept >= 0, 1, -1) * np.abs(kept).mean(), 0.0
    else:
        expected, off = kept, 0.5 * np.abs(kept).max() / (2 ** (bits - 1) - 1)
    np.testing.assert_allclose(back[places], expected, rtol=1e-5, atol=off * (1 + 1e-4) + 1e-30)


@pytest.mark.slow
@given(st.lists(st.integers(0, 70_000), unique=True), st.integers(1, 16), st.data())
def test_packing_is_undone_by_unpacking(places: list[int], bits: int, data: st.DataObject) -> None:
    rising = np.array(sorted(places), np.int64)
    np.testing.assert_array_equal(packing.unpack_places(packing.pack_places(rising)), rising)
    codes = data.draw(arrays_of.arrays(np.uint16, len(places), elements=st.integers(0, 2**bits - 1)))
    packed = packing.pack_codes(codes, bits)
    assert len(packed) == packing.packed_size(bits, len(codes))
    np.testing.assert_array_equal(packing.unpack_codes(packed, bits, len(codes)), codes)


@pytest.mark.parametrize(
    ("settings", "least"),
    [
        (Compression(mode="quantised", bits=8), 3.9),
        (Compression(mode="quantised", bits=4), 7.8),
        (Compression(mode="top-k", keep=0.05, bits=8), 45.0),
        (Compression(mode="top-k", keep=0.05, bits=5), 55.0),
    ],
)
def test_the_wire_is_as_small_as_promised(settings: Compression, least: float) -> None:
    delta = RNG.normal(size=100_000).astype(np.float32)
    assert 4 * len(delta) / len(encode(delta, settings)) >= least


def test_blocks_have_scales_of_their_own() -> None:
    delta = np.concatenate([np.full(BLOCK, 1e-3), np.full(BLOCK, 1e3)]).astype(np.float32)
    np.testing.assert_allclose(decode(encode(delta, Compression(mode="quantised")), len(delta)), delta, rtol=1e-6)


def frame(
    body: bytes, gaps: bytes = bytes(10), *, mode: int = SPARSE, bits: int = 8, length: int = 1000, kept: int = 10
) -> bytes:
    values = zstandard.compress(body)
    return (
        HEADER.pack(MAGIC, mode, bits, length, kept, len(values)) + values + (zstandard.compress(gaps) if mode == SPARSE else b"")
    )


def test_a_frame_made_by_hand_is_an_update() -> None:
    assert np.count_nonzero(decode(frame(struct.pack("<f", 1.0) + bytes(10)), 1000)) == 10


GOOD = encode(RNG.normal(size=1000).astype(np.float32), Compression(mode="top-k", keep=0.01))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        MAGIC,
        GOOD[:-5],
        GOOD + b"more",
        b"XXXX" + GOOD[4:],
        frame(bytes(64), length=999),
        frame(bytes(64), kept=0),
        frame(bytes(64), kept=1001),
        frame(bytes(64), bits=17),
        frame(bytes(64), mode=7),
        frame(bytes(3)),
        frame(struct.pack("<f", 1.0) + bytes(10), gaps=bytes(9)),
        frame(struct.pack("<f", 1.0) + bytes(10), gaps=bytes(11)),
        frame(struct.pack("<f", 1.0) + bytes(10), gaps=b"\xff\xff\xff\xff" + bytes(10)),
        frame(struct.pack("<f", 1.0) + bytes(1000), mode=DENSE, kept=1000) + b"more",
        frame(bytes(50_000_000)),
        frame(struct.pack("<f", 1.0) + bytes(10), gaps=bytes(50_000_000)),
        HEADER.pack(MAGIC, SPARSE, 8, 1000, 10, 2**32 - 1) + zstandard.compress(bytes(14)),
        HEADER.pack(MAGIC, SPARSE, 8, 1000, 10, 0)
        + zstandard.ZstdCompressor(write_content_size=False).compress(bytes(5_000_000)),
    ],
)
def test_bytes_that_are_no_update_are_refused(payload: bytes) -> None:
    with pytest.raises(Malformed):
        decode(payload, 1000)


@given(st.binary(max_size=200), st.binary(max_size=60), st.integers(0, 1), st.integers(1, 16), st.integers(1, 50))
def test_whatever_a_device_sends_is_an_update_or_malformed(body: bytes, gaps: bytes, mode: int, bits: int, kept: int) -> None:
    try:
        delta = decode(frame(body, gaps, mode=mode, bits=bits, length=50, kept=kept), 50)
    except Malformed:
        return
    assert delta.shape == (50,)


def test_a_hostile_scale_is_no_warning_and_not_finite() -> None:
    body = struct.pack("<f", float("nan")) + bytes(10)
    assert not np.isfinite(decode(frame(body), 1000)).all()
