"""What a rotation of some hosts alone leaves for the next `up`."""

from __future__ import annotations

import pytest

from edgefl.operations.rotate import unread
from edgefl.site.host import Watcher
from edgefl.site.model import Observability, Site

SITE = Site.model_validate({"name": "clinic", "devices": [{"name": "edge-01"}, {"name": "edge-02"}]})
WATCHED = SITE.model_copy(update={"observability": Observability(prometheus=True, devices=True)})
ALONE = SITE.model_copy(update={"observability": Observability(prometheus=True, devices=True, host=Watcher(name="watch"))})


@pytest.mark.parametrize(
    ("site", "chosen", "left"),
    [
        (WATCHED, ["coordinator", "edge-01", "edge-02"], []),
        (WATCHED, ["edge-01"], []),
        (SITE, ["coordinator"], []),
        (WATCHED, ["coordinator", "edge-01"], ["edge-02"]),
        (WATCHED, ["coordinator"], ["edge-01, edge-02"]),
        (ALONE, ["coordinator"], []),
        (ALONE, ["watch", "edge-02"], ["edge-01"]),
    ],
)
def test_devices_that_do_not_know_prometheus_new_certificate_are_named(site: Site, chosen: list[str], left: list[str]) -> None:
    said = list(unread(site, chosen))
    assert [warning.hint for warning in said] == ["edgefl up"] * len(left)
    assert all(names in warning.what for warning, names in zip(said, left, strict=True))
