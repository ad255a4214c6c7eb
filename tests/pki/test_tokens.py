"""Tokens: long enough, all different, read whichever way they are typed."""

from __future__ import annotations

import math
import re

import pytest

from edgefl.pki import tokens


def test_a_token_has_160_bits_and_is_made_once() -> None:
    made = [tokens.make() for _ in range(200)]
    assert len(set(made)) == 200
    assert all(re.fullmatch("([A-Z2-7]{4}-){7}[A-Z2-7]{4}", token) for token in made)
    assert 32 * math.log2(32) == 160
    for place in range(32):
        assert len({token.replace("-", "")[place] for token in made}) > 20, "every place is random"


def test_a_token_is_read_in_any_spacing_and_case() -> None:
    token = tokens.make()
    assert {tokens.digest(one) for one in (token, f" {token.lower()}\n", token.replace("-", ""), token.replace("-", " "))} == {
        tokens.digest(token)
    }
    assert tokens.digest(tokens.make()) != tokens.digest(token)


@pytest.mark.parametrize("text", ["", "ABCD", "0" * 32, "A" * 33, "Ä" * 32])
def test_what_is_no_token_is_said_without_repeating_it(text: str) -> None:
    with pytest.raises(tokens.TokenMalformed) as error:
        tokens.digest(text)
    assert not text or text not in error.value.what
