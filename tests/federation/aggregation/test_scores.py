"""What a score is shown among."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgefl.federation.aggregation.scores import peers_of


@given(st.lists(st.floats(-3, 3).map(lambda score: round(score, 1)), min_size=1, max_size=20))
def test_an_updates_peers_are_all_the_others_in_order_ties_among_them(scores: list[float]) -> None:
    expected = [sorted(scores[:place] + scores[place + 1 :]) for place in range(len(scores))]
    assert list(peers_of(np.array(scores))) == expected
