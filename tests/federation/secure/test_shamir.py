"""Shares of secrets against a brute-force reading of what they say."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefl.federation.secure import shamir


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.integers(1, 12), st.data())
def test_any_threshold_of_the_shares_gives_the_secret_back(secret: bytes, count: int, data: st.DataObject) -> None:
    threshold = data.draw(st.integers(1, count))
    shares = shamir.split(secret, threshold, count)
    some = data.draw(st.permutations(range(count)))[: data.draw(st.integers(threshold, count))]
    assert shamir.join({place: shares[place] for place in some}, threshold) == secret


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.integers(2, 8))
def test_fewer_shares_fit_every_secret(secret: bytes, other: bytes, threshold: int) -> None:
    """Whatever the secret is said to be, there is one more share with which these say it: they tell nothing."""
    shares = shamir.split(secret, threshold, threshold)[:-1]
    points = {place: int.from_bytes(share, "big") for place, share in enumerate(shares)}
    x_last, target = threshold, int.from_bytes(other, "big")
    # Lagrange at 0 over the known places and the last: solve for the last share's value.
    xs = [*(place + 1 for place in points), x_last]
    weights = []
    for x in xs:
        above = below = 1
        for y in xs:
            if y != x:
                above, below = above * y % shamir.PRIME, below * (y - x) % shamir.PRIME
        weights.append(above * pow(below, -1, shamir.PRIME) % shamir.PRIME)
    known = sum(weight * value for weight, value in zip(weights, points.values(), strict=False)) % shamir.PRIME
    last = (target - known) * pow(weights[-1], -1, shamir.PRIME) % shamir.PRIME
    complete = dict(enumerate(shares)) | {threshold - 1: last.to_bytes(shamir.SHARE, "big")}
    assert shamir.join(complete, threshold) == other


def test_too_few_shares_and_foreign_ones_are_told() -> None:
    shares = shamir.split(b"s" * 32, 3, 4)
    with pytest.raises(shamir.SharesWrong, match="2 shares are there, and 3"):
        shamir.join({0: shares[0], 1: shares[1]}, 3)
    with pytest.raises(shamir.SharesWrong, match="belong to no secret"):
        shamir.join({0: (shamir.PRIME - 1).to_bytes(33, "big")}, 1)
    with pytest.raises(ValueError, match="no sharing"):
        shamir.split(b"short", 1, 1)
    with pytest.raises(ValueError, match="no sharing"):
        shamir.split(b"s" * 32, 3, 2)


def test_the_modulus_is_a_prime_above_every_secret() -> None:
    assert shamir.PRIME > 2**256
    assert all(pow(base, shamir.PRIME - 1, shamir.PRIME) == 1 for base in range(2, 60))
