"""Where updates lie in memory, and models as one vector."""

from __future__ import annotations

import numpy as np
import pytest

from edgefl.federation.aggregation.vectors import LINE, Template, room


@pytest.mark.parametrize(("count", "length"), [(0, 5), (1, 1), (3, 16), (10, 1027)])
def test_each_row_of_a_room_begins_with_a_line_of_the_cache_and_belongs_to_itself(count: int, length: int) -> None:
    rows = room(count, length)
    assert rows.shape == (count, length)
    assert rows.dtype == np.float32
    for place, row in enumerate(rows):
        assert row.ctypes.data % LINE == 0
        row[:] = place
    np.testing.assert_array_equal(rows, np.repeat(np.arange(count, dtype=np.float32)[:, None], length, axis=1))


def test_deltas_are_what_each_model_changed_and_a_model_that_moved_by_one_is_it_again() -> None:
    rng = np.random.default_rng(3)
    start = {"weight": rng.standard_normal((3, 5), np.float32), "bias": rng.standard_normal(5, np.float32)}
    models = [{name: array + np.float32(place) for name, array in start.items()} for place in range(3)]
    template = Template.of(start)
    deltas = template.deltas(models, start)
    assert all(row.ctypes.data % LINE == 0 for row in deltas)
    for place, (model, delta) in enumerate(zip(models, deltas, strict=True)):
        np.testing.assert_allclose(delta, place, atol=1e-6)
        for name, array in template.moved(start, delta).items():
            np.testing.assert_allclose(array, model[name], atol=1e-6)
