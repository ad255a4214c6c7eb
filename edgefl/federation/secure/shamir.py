"""A secret in shares, of which any `threshold` give it back and fewer say nothing (Shamir, 1979, doi:10.1145/359168.359176)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

PRIME: Final = 2**256 + 297
"""The smallest prime above every secret; shares are values of polynomials over its field."""
SECRET: Final = 32
"""Bytes of a secret."""
SHARE: Final = 33
"""Bytes of a share."""


class SharesWrong(ValueError):
    """These shares are not of one secret, or too few."""


def split(secret: bytes, threshold: int, count: int) -> list[bytes]:
    """One share for each of `count` places, 0 on. secret: 32 bytes. Raises ValueError unless 1 <= threshold <= count."""
    if len(secret) != SECRET or not 1 <= threshold <= count:
        raise ValueError(f"{len(secret)} bytes in {count} shares, {threshold} needed: that is no sharing")
    coefficients = [int.from_bytes(secret, "big"), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    return [_value(coefficients, place + 1).to_bytes(SHARE, "big") for place in range(count)]


def join(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """The secret, from the shares by their places. Raises SharesWrong where there are too few of them, or no secret is in them.

    Shares of different secrets give some value: whoever joins them must know the secret's mark to see that it is another.
    """
    if len(shares) < threshold:
        raise SharesWrong(f"{len(shares)} shares are there, and {threshold} are needed")
    chosen = sorted(shares)[:threshold]
    values = [int.from_bytes(shares[place], "big") for place in chosen]
    secret = sum(weight * value for weight, value in zip(_weights(tuple(chosen)), values, strict=True)) % PRIME
    if secret >= 1 << (8 * SECRET):
        raise SharesWrong("these shares belong to no secret")
    return secret.to_bytes(SECRET, "big")


def _value(coefficients: list[int], x: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % PRIME
    return value


@lru_cache(maxsize=16)
def _weights(places: tuple[int, ...]) -> tuple[int, ...]:
    """Lagrange's weights of the polynomial's value at 0: a round's secrets nearly all come from the same devices' shares."""
    weights = []
    for place in places:
        above = below = 1
        for other in places:
            if other != place:
                above = above * (other + 1) % PRIME
                below = below * (other - place) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(weights)
