"""What services say: text for a reader, fields for journald."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

import pytest

from edgefl.monitor.logs import parse

PROGRAM = """
import logging, os, sys
from edgefl.federation.flower import say
if sys.argv[1] == "journald":
    there = os.fstat(2)
    os.environ["JOURNAL_STREAM"] = f"{there.st_dev}:{there.st_ino}"
log = say.to_stderr()
say.with_flower()
log.info("the “gate” answers\\nagain")
log.warning("%s is late", "edge-03")
try:
    raise ValueError("no such key")
except ValueError:
    log.exception("it failed")
if len(sys.argv) > 2:
    from flwr.supercore.logger import log as flower
    flower(logging.WARNING, "Flower's %s", "word")
"""


def said(*words: str) -> str:
    with tempfile.TemporaryFile() as stderr:
        subprocess.run([sys.executable, "-c", PROGRAM, *words], stderr=stderr, check=True, env={**os.environ})
        stderr.seek(0)
        return stderr.read().decode()


def kept(line: str) -> str:
    """As journald keeps a line that begins with its priority (sd-daemon(3)), and journalctl shows it."""
    priority, message = line[1], line[3:]
    fields = {"__REALTIME_TIMESTAMP": "1772442000123456", "_SYSTEMD_UNIT": "edgefl-supernode.service"}
    return json.dumps({**fields, "PRIORITY": priority, "MESSAGE": message})


def test_on_a_terminal_it_is_text():
    lines = said("terminal").splitlines()
    assert lines[:3] == ["edgefl: the “gate” answers", "again", "edgefl: edge-03 is late"]


def test_journald_gets_one_line_of_fields_each_with_its_level_and_an_operator_reads_the_words():
    lines = said("journald").splitlines()
    fields = [json.loads(line[3:]) for line in lines]
    assert [one["log.level"] for one in fields] == ["info", "warning", "error"]
    assert {one["ecs.version"] for one in fields} == {"9.3.0"}
    assert {one["log.logger"] for one in fields} == {"edgefl"}
    read = [parse(kept(line), "edge-03") for line in lines]
    assert [(one.level, one.message) for one in read] == [
        ("info", "the “gate” answers\nagain"), ("warning", "edge-03 is late"), ("err", "it failed"),
    ]  # fmt: skip
    assert read[2].trace.endswith("ValueError: no such key")


@pytest.mark.slow
def test_flowers_own_words_have_their_level_too_and_no_colours():
    last = said("journald", "flower").splitlines()[-1]
    assert json.loads(last[3:])["log.logger"] == "flwr"
    line = parse(kept(last), "edge-03")
    assert (line.level, line.message) == ("warning", "Flower's word")
