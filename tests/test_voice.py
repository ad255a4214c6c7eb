"""What services say: text for a reader, fields for journald."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from edgefl.monitor.logs import parse
from edgefl.voice import ECS, Fields
from tests.walls import role_program

PROGRAM = """
import logging, os, sys
from edgefl import voice
from edgefl.federation.flower import say
if sys.argv[1] == "journald":
    there = os.fstat(2)
    os.environ["JOURNAL_STREAM"] = f"{there.st_dev}:{there.st_ino}"
log = voice.to_stderr()
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


LIBRARIES = """
import logging, os, sys, warnings
from edgefl import voice
from edgefl.federation.flower import say
there = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{there.st_dev}:{there.st_ino}"
voice.to_stderr()
say.with_flower()
import uvicorn
from flwr.supercore.http_logging import get_uvicorn_log_config
from flwr.supercore.logger import log as flower
logging.basicConfig(format="in its own words: %(message)s")  # as Opacus does while it is imported
uvicorn.Config("no:app", log_config=get_uvicorn_log_config(logging.INFO))
logging.getLogger("opacus").warning("it is slow")
warnings.warn("it is old", stacklevel=1)
flower(logging.DEBUG, "not for a log")
flower(logging.INFO, "once")
logging.getLogger("uvicorn.error").info("it starts")
logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', "127.0.0.1:9", "POST", "/v1/control/stop-run", "1.1", 200)
"""
"""What a SuperLink's process hears from others than edgefl, in the order in which it hears it."""


RENEWAL = """
import os, sys
from edgefl.pki.renew import main
there = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{there.st_dev}:{there.st_ino}"
assert main(sys.argv[1:]) == 1
"""


def said(*words: str, program: str = PROGRAM) -> str:
    with tempfile.TemporaryFile() as both:
        subprocess.run([sys.executable, "-c", program, *words], stdout=both, stderr=both, check=True, env={**os.environ})
        both.seek(0)
        return both.read().decode()


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


def test_what_renews_certificates_says_why_it_did_not(tmp_path: Path):
    (line,) = said("ask", "--key", "device:edgefl-node", "--identity", str(tmp_path), program=RENEWAL).splitlines()
    read = parse(kept(line), "edge-03")
    assert (read.level, json.loads(line[3:])["log.logger"]) == ("err", "edgefl")
    assert str(tmp_path) in read.message


def test_what_keeps_the_walls_speaks_as_the_others_do_though_it_has_nothing_of_theirs(capsys: pytest.CaptureFixture[str]):
    walls = role_program("isolation", "walls")
    walls.say("warning", 'healed: the table ip "x"\nwas changed')
    (line,) = capsys.readouterr().out.splitlines()
    read = parse(kept(line), "edge-03")
    assert (read.level, read.message) == ("warning", 'healed: the table ip "x"\nwas changed')
    ours = Fields().format(
        logging.makeLogRecord({"name": "walls", "levelno": logging.WARNING, "levelname": "WARNING", "msg": "x"})
    )
    theirs = json.loads(line[3:])
    assert theirs.keys() == json.loads(ours[3:]).keys()
    assert (line[:3], theirs["ecs.version"]) == (ours[:3], ECS)


@pytest.mark.slow
def test_flowers_own_words_have_their_level_too_and_no_colours():
    last = said("journald", "flower").splitlines()[-1]
    assert json.loads(last[3:])["log.logger"] == "flwr"
    line = parse(kept(last), "edge-03")
    assert (line.level, line.message) == ("warning", "Flower's word")


@pytest.mark.slow
def test_what_libraries_say_is_fields_too_and_said_once():
    heard = [json.loads(line[3:]) for line in said(program=LIBRARIES).splitlines()]
    assert [(one["log.logger"], one["log.level"]) for one in heard] == [
        ("opacus", "warning"),
        ("py.warnings", "warning"),
        ("flwr", "info"),
        ("uvicorn.error", "info"),
        ("uvicorn.access", "info"),
    ]
    assert "it is old" in heard[1]["message"]
    assert heard[4]["message"] == '127.0.0.1:9 - "POST /v1/control/stop-run HTTP/1.1" 200'
