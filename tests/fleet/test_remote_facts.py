"""What a host calls itself, from the files that say it."""

from __future__ import annotations

from types import ModuleType

import pytest

from edgefl.fleet.remote import program


@pytest.fixture
def facts() -> ModuleType:
    module = ModuleType("facts")
    source = program("facts").decode().rsplit("\nmain()", 1)[0]
    exec(compile(source, "facts.py", "exec"), module.__dict__)  # it is a program for hosts, not a module
    return module


@pytest.mark.parametrize(
    ("release", "distribution"),
    [({"ID": "debian"}, "debian"), ({"ID": "ubuntu"}, "ubuntu"), ({"ID": "raspbian"}, "raspberry pi os"), ({}, "")],
)
def test_a_system_is_known_by_what_it_calls_itself(facts: ModuleType, release: dict[str, str], distribution: str) -> None:
    assert facts.distribution(release) == distribution


def test_what_this_machine_is_can_be_read(facts: ModuleType) -> None:
    assert facts.distribution(facts.release())
    assert set(facts.accelerators()) <= {"nvidia", "amd", "coral"}
