"""A coordinator's words are no path on the operator's machine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edgefl.infra.inventory import Inventory
from edgefl.operations.fetch import ModelDamaged, fetch_model
from edgefl.site import Site


@pytest.mark.parametrize("run", ["../../../root/.ssh/authorized_keys", "/etc/cron.d/x", "", "4\n"])
def test_a_run_that_is_no_number_is_fetched_nowhere(tmp_path: Path, run: str) -> None:
    site = Site.model_validate({"name": "clinic", "devices": [{"name": "a"}]}).at(tmp_path)
    with pytest.raises(ModelDamaged, match="no number of a run"):
        asyncio.run(fetch_model(site, Inventory(()), run, "/var/lib/edgefl/models/4/1.safetensors", "0" * 64))
    assert list(tmp_path.iterdir()) == []
