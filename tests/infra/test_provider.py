"""The provider by itself; with Terraform it is tested in tests/integration."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgefl.infra import workdir

tf = pytest.importorskip("tf", reason="the provider's extra is not installed")

from tf.types import Unknown  # noqa: E402

from edgefl.infra.provider.host import LabHost, Quantity  # noqa: E402


@pytest.mark.slow
def test_it_refuses_to_run_outside_terraform() -> None:
    done = subprocess.run([sys.executable, "-m", workdir.PROVIDER], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (1, "This is a Terraform plugin; Terraform starts it.")


@pytest.mark.parametrize(("value", "wire"), [(1.0, 1), (0.3, "0.3"), (1536.0, 1536), (None, None), (Unknown, Unknown)])
def test_a_number_keeps_its_decimal_value_over_the_wire(value: object, wire: object) -> None:
    assert Quantity().encode(value) == wire
    assert Quantity().decode(wire) == value


def test_every_attribute_is_described() -> None:
    assert all(attribute.description for attribute in LabHost.get_schema().attributes)
