"""Who answered, and when: a reply belongs to the device whose message it answers, and the deadline ends the waiting."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import PullObjectRequest, PullObjectResponse
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PullAppMessagesResponse
from flwr.server.superlink.linkstate.utils import (
    MESSAGE_UNAVAILABLE_ERROR_REASON,
    create_message_error_unavailable_res_message,
)
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.task_identity import TaskIdentity

from edgefl.events.journal import Journal
from edgefl.events.schema import DeviceState
from edgefl.federation.aside import LEFT_OUT, Aside
from edgefl.federation.exchange import SLACK, Arrival, Exchange, Pending, explained
from edgefl.federation.messages import Failed, Trained, TrainRequest, pack

NODES = {11: "edge-1", 12: "edge-2", 13: "edge-3"}
DEVICES = {name: node for node, name in NODES.items()}
REQUEST = pack(TrainRequest(run="1", round=1, rounds=1, seed=0), {"w": np.zeros(4, np.float32)})
UPDATE = Trained(samples=80, metrics={"loss": 0.5})
AT_ONCE_S, PATIENT_S = 2.0, 60.0


@dataclass
class Link:
    """A grid and the SuperLink behind it, with Flower's own messages. refused: nodes whose message it does not take.

    It holds every reply and gives all of them whenever it is asked, those to other rounds' messages too: nobody may rely on it.
    withheld: objects that were announced and are not there yet.
    """

    refused: set[int] = field(default_factory=set)
    withheld: set[str] = field(default_factory=set)
    sent: list[Message] = field(default_factory=list)
    replies: list[Message] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)

    node = Node(node_id=1)
    run = SimpleNamespace(run_id=1)

    @property
    def _runtime_client(self) -> Link:
        return self

    def push_messages(self, messages: list[Message]) -> list[str | None]:
        taken: list[str | None] = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = message.object_id
            accepted = message.metadata.dst_node_id not in self.refused
            self.sent += [message] if accepted else []
            taken.append(message.object_id if accepted else None)
        return taken

    def get_node_ids(self) -> list[int]:
        return [*NODES, 99]

    def PullMessages(self, request: PullAppMessagesRequest) -> PullAppMessagesResponse:  # noqa: N802 - Flower's names
        return PullAppMessagesResponse(
            messages_list=[message_to_proto(reply) for reply in self.replies],
            message_object_trees=[get_object_tree(reply) for reply in self.replies],
        )

    def PullObject(self, request: PullObjectRequest) -> PullObjectResponse:  # noqa: N802
        here = request.object_id not in self.withheld
        return PullObjectResponse(
            object_found=True, object_available=here, object_content=self.objects[request.object_id] if here else b""
        )

    def ConfirmMessageReceived(self, request: Any) -> None:  # noqa: N802
        """Nothing is forgotten here."""

    def message_to(self, device: str) -> Message:
        """The last one."""
        return [message for message in self.sent if message.metadata.dst_node_id == DEVICES[device]][-1]

    def answer(self, device: str, said: Any = UPDATE, *, claims: str = "", whole: bool = True, weights: int = 4) -> None:
        """A device's reply to its last message. claims: the device that it says it is. whole: all of it has arrived."""
        content = pack(said, {"w": np.ones(weights, np.float32)}) if said.carries_model else pack(said)
        reply = Message(content, reply_to=self.message_to(device))
        reply.metadata.__dict__["_src_node_id"] = DEVICES[claims or device]
        self.holds(reply)
        if not whole:
            self.withheld.add(reply.object_id)

    def gives_up_on(self, device: str) -> None:
        """What Flower itself replies for a device that went away: from node 1."""
        self.holds(create_message_error_unavailable_res_message(self.message_to(device).metadata, "node_unavail"))

    def holds(self, reply: Message) -> None:
        reply.metadata.__dict__["_message_id"] = reply.object_id
        self.objects |= {key: part.deflate() for key, part in get_all_nested_objects(reply).items()}
        self.replies.append(reply)


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Link:
    for name in ("_run_id", "_task_id", "_node_id"):  # a ServerApp's process, to Flower
        monkeypatch.setattr(TaskIdentity, name, 1)
    return Link()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.db") as journal:
        yield journal


@pytest.fixture
def aside(journal: Journal) -> Aside:
    return Aside(journal)


@pytest.fixture
def exchange(link: Link, aside: Aside) -> Iterator[Exchange]:
    made = Exchange(link, lambda: NODES, aside)  # type: ignore[arg-type]
    yield made
    link.withheld.clear()  # what still waits for a part ends
    made.close()


def ask(exchange: Exchange, *, group: int = 1) -> Pending:
    return exchange.send("train", REQUEST, DEVICES, group=group, ttl_s=60)


def by_device(arrivals: Iterator[Arrival]) -> dict[str, Arrival]:
    listed = list(arrivals)
    found = {arrival.device: arrival for arrival in listed}
    assert len(found) == len(listed), "nobody arrives twice"
    return found


def test_only_nodes_with_a_name_are_devices(exchange: Exchange) -> None:
    assert exchange.online() == DEVICES


def test_a_reply_is_whose_message_it_answers_whatever_it_says_of_itself(link: Link, exchange: Exchange) -> None:
    pending = ask(exchange)
    link.answer("edge-2", claims="edge-1")
    link.answer("edge-1", Failed(reason="no data"), claims="edge-3")
    link.gives_up_on("edge-3")
    assert [reply.metadata.src_node_id for reply in link.replies] == [11, 13, 1]
    arrived = by_device(pending.arrivals(PATIENT_S))
    assert sorted(arrived) == sorted(DEVICES)
    assert arrived["edge-2"].said == UPDATE
    assert arrived["edge-2"].arrays["w"].tolist() == [1, 1, 1, 1]
    assert arrived["edge-1"].said == Failed(reason="no data")
    assert arrived["edge-3"].said is None
    assert not arrived["edge-3"].undecodable
    assert arrived["edge-3"].problem == "the device went offline during the round"
    assert pending.silent == []


def test_nobody_waits_for_a_device_that_is_put_in_quarantine_meanwhile(link: Link, exchange: Exchange, journal: Journal) -> None:
    pending = ask(exchange)
    link.answer("edge-1")
    link.answer("edge-2")
    journal.append(DeviceState(device="edge-3", state="quarantined", detail="stolen"))
    began = time.monotonic()
    arrived = by_device(pending.arrivals(PATIENT_S))
    assert time.monotonic() - began < PATIENT_S / 2
    assert (arrived["edge-3"].said, arrived["edge-3"].problem) == (None, LEFT_OUT)
    assert arrived["edge-1"].said == arrived["edge-2"].said == UPDATE
    assert pending.silent == []


def test_a_device_that_comes_back_under_another_node_is_the_same_device(link: Link, journal: Journal) -> None:
    names = {11: "edge-1", 12: "edge-2"}
    exchange = Exchange(link, lambda: names, Aside(journal))  # type: ignore[arg-type]
    assert exchange.online() == {"edge-1": 11, "edge-2": 12}
    names.pop(12)
    names[13] = "edge-2"
    assert exchange.online() == {"edge-1": 11, "edge-2": 13}


@pytest.mark.slow
def test_who_does_not_answer_is_silent_and_the_deadline_ends_the_waiting(link: Link, exchange: Exchange) -> None:
    pending = ask(exchange)
    link.answer("edge-1")
    began = time.monotonic()
    assert list(by_device(pending.arrivals(AT_ONCE_S))) == ["edge-1"]
    assert AT_ONCE_S - 0.1 < time.monotonic() - began < AT_ONCE_S + 10
    assert pending.silent == ["edge-2", "edge-3"]
    assert pending.arriving == []


@pytest.mark.slow
def test_a_late_reply_is_no_part_of_the_next_round(link: Link, exchange: Exchange) -> None:
    first = ask(exchange)
    assert list(first.arrivals(0.0)) == []
    link.answer("edge-1", Failed(reason="this is round 1"))
    second = ask(exchange, group=2)
    link.answer("edge-2")
    assert list(by_device(second.arrivals(AT_ONCE_S))) == ["edge-2"]
    assert second.silent == ["edge-1", "edge-3"]


@pytest.mark.slow
def test_a_reply_that_stays_in_pieces_is_silent_but_on_its_way(link: Link, exchange: Exchange) -> None:
    pending = ask(exchange)
    link.answer("edge-1")
    link.answer("edge-2", whole=False)
    link.answer("edge-3")
    began = time.monotonic()
    assert sorted(by_device(pending.arrivals(2.0))) == ["edge-1", "edge-3"]
    assert time.monotonic() - began < 12
    assert pending.silent == pending.arriving == ["edge-2"]
    link.withheld.clear()
    assert list(by_device(pending.arrivals(PATIENT_S))) == ["edge-2"], "it counts once it is whole, where somebody still waits"


@pytest.mark.slow
def test_a_reply_far_larger_than_its_question_is_refused(link: Link, exchange: Exchange) -> None:
    pending = ask(exchange)
    link.answer("edge-1", weights=SLACK // 2)
    arrived = by_device(pending.arrivals(AT_ONCE_S))["edge-1"]
    assert arrived.said is None
    assert arrived.undecodable
    assert "it has more than" in arrived.problem


def test_a_message_that_the_superlink_does_not_take_is_lost_and_not_waited_for(link: Link, exchange: Exchange) -> None:
    link.refused.add(DEVICES["edge-3"])
    pending = ask(exchange)
    assert pending.lost == ["edge-3"]
    link.answer("edge-1")
    link.answer("edge-2")
    began = time.monotonic()
    assert sorted(by_device(pending.arrivals(PATIENT_S))) == ["edge-1", "edge-2"]
    assert time.monotonic() - began < PATIENT_S / 2


@pytest.mark.slow
def test_the_second_of_two_messages_is_the_one_that_counts(link: Link, exchange: Exchange) -> None:
    pending = ask(exchange)
    link.answer("edge-1", Failed(reason="ask me again"))
    (arrival,) = pending.arrivals(AT_ONCE_S)
    assert arrival.device == "edge-1"
    link.refused.add(DEVICES["edge-2"])
    for device in ("edge-1", "edge-2"):
        pending.forget(device)
        pending.again("train", REQUEST, device, DEVICES[device], group=2, ttl_s=60)
    assert pending.lost == ["edge-2"]
    link.answer("edge-1")
    link.answer("edge-3")
    arrived = by_device(pending.arrivals(PATIENT_S))
    assert sorted(arrived) == ["edge-1", "edge-3"]
    assert arrived["edge-1"].said == UPDATE


@pytest.mark.parametrize(
    ("code", "reason", "says"),
    [
        (2, "no data", "the app failed on the device: no data"),
        (3, MESSAGE_UNAVAILABLE_ERROR_REASON, "no reply came in time"),
        (8, "crashed", "the training process on the device was killed: crashed"),
        (99, None, "error 99"),
    ],
)
def test_flowers_error_replies_are_put_into_words(code: int, reason: str | None, says: str) -> None:
    assert explained(code, reason) == says
