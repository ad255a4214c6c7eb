"""Numbers as words whose sums are sums, within a bound that is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from edgefl.federation.compression.codec import BLOCK
from edgefl.federation.secure import masks
from edgefl.federation.secure.encoding import FixedPoint, bounded
from edgefl.federation.secure.selection import Selection
from edgefl.federation.secure.vault import SecureRefused
from edgefl.site.model import Secure

VALUES = st.floats(-20, 20, width=32)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.sampled_from([8, 32]), st.integers(1, 256), st.data())
def test_a_sum_of_encoded_values_is_their_sum_within_half_a_step_each(bits: int, devices: int, data: st.DataObject) -> None:
    shape = (min(devices, 6), 9)
    values = data.draw(arrays_of.arrays(np.float32, shape, elements=VALUES))
    code, reach = FixedPoint(bits, devices), 10.0
    words = [code.unpack(code.pack(code.encode(row, reach)), 9) for row in values]
    total = np.sum(words, axis=0, dtype=code.dtype)
    found = code.decode(code.unpack(code.pack(total), 9), reach)
    expected = np.clip(values.astype(np.float64), -reach, reach).sum(axis=0)
    np.testing.assert_allclose(found, expected, atol=shape[0] * reach / code.levels / 2 + 1e-5)


@pytest.mark.parametrize("bits", [8, 32])
@pytest.mark.parametrize("devices", [1, 2, 3, 16, 200, 256])
def test_not_even_everyone_at_the_end_of_the_range_wraps_around(bits: int, devices: int) -> None:
    code = FixedPoint(bits, devices)
    for end in (-10.0, 10.0):
        words = np.sum([code.encode(np.full(3, end, np.float32), 10.0)] * devices, axis=0, dtype=code.dtype)
        np.testing.assert_allclose(code.decode(words, 10.0), devices * end, rtol=1e-6)
    assert code.width <= 16 or code.width == 32


def test_eight_bits_for_ten_devices_take_twelve_on_the_wire() -> None:
    code = FixedPoint(8, 10)
    assert code.pack(code.encode(np.ones(1000, np.float32), 2.0)).nbytes == 1500


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_a_stream_is_the_same_for_any_length_and_added_and_subtracted_is_nothing(dtype: type) -> None:
    seed = bytes(range(32))
    long = np.zeros(300_001, dtype)
    masks.add(long, seed)
    short = np.zeros(1000, dtype)
    masks.add(short, seed)
    assert (long[:1000] == short).all()
    masks.add(long, seed, negative=True)
    assert not long.any()


def test_the_stream_is_that_of_aes_in_counter_mode() -> None:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    words = np.zeros(100_000, np.uint32)
    masks.add(words, b"k" * 32)
    plain = Cipher(algorithms.AES256(b"k" * 32), modes.CTR(bytes(16))).encryptor().update(bytes(words.nbytes))
    assert words.astype("<u4").tobytes() == plain


def test_two_devices_agree_and_a_third_does_not() -> None:
    one, other, third = masks.fresh(), masks.fresh(), masks.fresh()
    purpose = masks.pair("r", 1, "a", "b")
    assert purpose == masks.pair("r", 1, "b", "a")
    assert masks.agreed(one, masks.public(other), purpose) == masks.agreed(other, masks.public(one), purpose)
    assert masks.agreed(one, masks.public(other), purpose) != masks.agreed(third, masks.public(other), purpose)
    assert masks.agreed(one, masks.public(other), purpose) != masks.agreed(one, masks.public(other), masks.pair("r", 2, "a", "b"))


def test_only_long_updates_are_shortened() -> None:
    short, long = np.full(4, 0.5, np.float32), np.full(4, 50.0, np.float32)
    assert bounded(short, 10.0) is short
    np.testing.assert_allclose(np.linalg.norm(bounded(long, 10.0)), 10.0, rtol=1e-6)


@pytest.mark.parametrize("keep", [0.01, 0.2, 0.99])
def test_the_places_are_the_largest_and_some_at_random(keep: float) -> None:
    last = np.arange(1000, dtype=np.float32)
    selection = Selection.choose(Secure(keep=keep), last, 1000, 5, np.random.default_rng(1))
    places = selection.chosen(1000)
    assert places is not None
    assert len(places) == round(1000 * keep) == selection.count(1000)
    best = round(1000 * keep) - round(0.3 * round(1000 * keep))
    assert set(range(1000 - best, 1000)) <= set(places.tolist())


def test_without_a_mean_the_places_are_drawn_and_the_values_travel_whole() -> None:
    selection = Selection.choose(Secure(keep=0.1, bits=8), None, 1000, 5, np.random.default_rng(1))
    assert selection.count(1000) == 100
    assert selection.code(5).width == 32
    later = Selection.choose(Secure(keep=0.1, bits=8), np.ones(1000, np.float32), 1000, 5, np.random.default_rng(1))
    assert later.code(5).width == 11


@pytest.mark.parametrize(
    "selection",
    [
        Selection(places=b"\xff" * 40),
        Selection(places=bytes(2000)),
        Selection(ranges=b"123"),
        Selection(ranges=np.array([-1.0], "<f4").tobytes()),
        Selection(ranges=np.array([np.nan], "<f4").tobytes()),
    ],
)
def test_a_selection_that_fits_no_model_is_refused(selection: Selection) -> None:
    with pytest.raises(SecureRefused):
        selection.encode(np.zeros(1000, np.float32), Secure(), 3)


def test_each_block_has_its_own_range() -> None:
    last = np.concatenate([np.full(BLOCK, 1e-3, np.float32), np.full(10, 5.0, np.float32)])
    selection = Selection.choose(Secure(bits=8), last, len(last), 4, np.random.default_rng(1))
    _, sent = selection.encode(last, Secure(clip=100.0), 4)
    np.testing.assert_allclose(sent[:BLOCK], 1e-3, rtol=0.07)
    np.testing.assert_allclose(sent[BLOCK:], 5.0, rtol=0.07)
