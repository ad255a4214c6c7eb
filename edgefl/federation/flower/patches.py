"""Everything of Flower that is private, or that we replace: here and nowhere else.

What a private, observable and restartable deployment needs beyond Flower's public surface; `contract.py` lists the
symbols, and refuses a Flower where they are not as measured. Imports of Flower happen inside the functions: a SuperNode
must not load a SuperLink.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import os
import queue
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from edgefl.errors import EdgeflError


def quiet() -> None:
    """Keep Flower from calling home; for every process, before Flower is imported."""
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"


def retry_delay(limit_s: float) -> None:
    """Shorten the longest pause (20 s) of Flower's HTTP clients between two attempts."""
    from flwr.supercore.retry import http_retry

    http_retry.MAX_RETRY_DELAY = limit_s


# ── SuperNode ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Interceptor(Protocol):
    """Flower's shape of something that stands between a request and its response."""

    def intercept(self, context: Any, call_next: Callable[[Any], Any]) -> Any:
        """Pass the request on, perhaps changed, and return the response."""
        ...


class PacedTime:
    """`time` with every sleep of Flower's cut to what `pace` allows: for modules whose polls are hard-coded."""

    def __init__(self, pace: Callable[[float], float]) -> None:
        self._pace = pace

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        """Sleep as long as the pace says for what Flower asked."""
        time.sleep(min(seconds, self._pace(seconds)))


def supernode_certificate(context: ssl.SSLContext, witness: Interceptor) -> None:
    """Give the SuperNode's connection this TLS context (with a client certificate), and a witness to every exchange."""
    from flwr.supernode import fleet_http_connection
    from flwr.supernode.fleet_http_client import FleetHttpClient

    class DeviceFleetClient(FleetHttpClient):  # type: ignore[misc]  # Flower is not typed for us
        @classmethod
        def from_server_address(
            cls,
            server_address: str,
            insecure: bool,
            root_certificates: bytes | str | None,
            interceptors: Iterable[Interceptor],
            *,
            retry_invoker: Any = None,
        ) -> Any:
            if insecure:
                raise EdgeflError("a SuperNode of edgefl never speaks without TLS")
            return cls(
                f"https://{server_address}", interceptors=[witness, *interceptors], verify=context, retry_invoker=retry_invoker
            )

    fleet_http_connection.FleetHttpClient = DeviceFleetClient


def supernode_pace(pace: Callable[[float], float]) -> None:
    """Shorten the SuperNode's hard-coded polls: 3 s for messages, 0.5 s for a ClientApp's reply."""
    from flwr.supernode import start_client_internal

    start_client_internal.time = PacedTime(pace)


def supernode_tasks(limit_s: float, step_s: float = 0.03, *, may_pull: Callable[[], bool] = lambda: True) -> None:
    """Hand a task to the SuperExec once its message has arrived wholly, and at once then.

    Flower announces the task before it fetches the message's objects: a ClientApp that starts quickly finds none and sleeps
    a second or more, and one whose run was stopped meanwhile waits for them for hours. Here the SuperExec's question is kept
    until there is a task that can run, at most `limit_s` seconds (looking into the SuperNode's own memory every `step_s` costs
    a hundredth of an HTTP request), and a message that did not arrive leaves nothing behind. Nor does a kept question keep a
    SuperNode that is asked to end.
    """
    from flwr.proto.runtime_pb2 import AcquireTaskResponse
    from flwr.supercore.exit import add_exit_handler
    from flwr.supernode import start_client_internal
    from flwr.supernode.servicer.runtime import runtime_handlers

    pull_and_store, acquire_at_once = start_client_internal._pull_and_store_message, runtime_handlers.acquire_task
    arriving, ending = threading.Event(), threading.Event()
    add_exit_handler(ending.set, run_before_force_exit=True)  # before the server waits for its open requests

    def pull_and_store_message(**given: Any) -> Any:
        received: list[Any] = []

        def receive() -> Any:
            found = given["receive"]() if may_pull() else None  # what was pulled before is answered by now
            if found is not None:
                arriving.set()
                received.append(found[0].metadata)
            return found

        try:
            run_id = pull_and_store(**{**given, "receive": receive})
            if run_id is None and received:
                _forget(given["state"], given["object_store"], received[0])
            return run_id
        finally:
            arriving.clear()

    def acquire_task(request: Any, state: Any) -> Any:
        end = time.monotonic() + limit_s
        while time.monotonic() < end and not ending.is_set():
            if not arriving.is_set() and (response := acquire_at_once(request, state)).token:
                return response
            ending.wait(step_s)
        return AcquireTaskResponse()

    start_client_internal._pull_and_store_message = pull_and_store_message
    start_client_internal.pull_objects = functools.partial(
        start_client_internal.pull_objects, initial_backoff=0.1, backoff_cap=2.0
    )
    runtime_handlers.acquire_task = acquire_task


def _forget(state: Any, store: Any, metadata: Any) -> None:
    """Remove a message that did not arrive, and the task that was made for it, from the SuperNode's memory."""
    from flwr.common.constant import SubStatus

    state.delete_messages(message_ids=[metadata.message_id])
    store.delete(metadata.message_id)
    for task in state.get_tasks(run_ids=[metadata.run_id]):
        state.finish_task(task.task_id, sub_status=SubStatus.STOPPED, details="the run was over before its message arrived")


def run_supernode(arguments: list[str]) -> None:
    """Run `flower-supernode ARGUMENTS` in this process."""
    from flwr.supernode.cli import flower_supernode

    sys.argv = ["flower-supernode", *arguments]
    flower_supernode()


# ── SuperExec and what it starts ──────────────────────────────────────────────────────────────────────────────────────────


def superexec_executor(executor: Any) -> None:
    """Make the SuperExec launch its tasks with this executor."""
    from flwr.supercore.superexec import run_superexec

    run_superexec.get_executor = lambda *_, **__: executor


def run_superexec(runtime: str, secret: Path, authority: Path | None) -> None:
    """Run Flower's SuperExec, for the Runtime API at host:port, until it is asked to end; with no authority, without TLS.

    `flower-superexec` does the same, but imports all of Flower's commands: a second of CPU and 34 MB on each device.
    """
    from flwr.supercore.auth import load_superexec_auth_secret
    from flwr.supercore.superexec.run_superexec import run_superexec
    from flwr.supercore.utils import disable_process_dumping

    disable_process_dumping(strict=False)
    run_superexec(
        runtime_api_address=runtime,
        insecure=authority is None,
        root_certificates_path=str(authority) if authority else None,
        superexec_auth_secret=load_superexec_auth_secret(str(secret)),
    )


def task_type(role: str) -> Any:
    """The only type of task that a host of this role executes."""
    from flwr.supercore.constant import TaskType

    return TaskType.CLIENT_APP if role == "device" else TaskType.SERVER_APP


def accepted() -> Any:
    """What an executor returns for a launched task."""
    from flwr.supercore.superexec.executor.types import LaunchResult

    return LaunchResult.accepted()


def import_superexec() -> None:
    """Import the SuperExec: what it has of Flower by then, its zygote does not import again."""
    importlib.import_module("flwr.supercore.superexec.run_superexec")


def import_app(role: str) -> None:
    """Import what a task of this role needs of Flower, so that forks have it."""
    _runtime(role)
    importlib.import_module("flwr.clientapp" if role == "device" else "flwr.serverapp")


def _runtime(role: str) -> Any:
    """The module that runs tasks of this role."""
    where = "flwr.supernode.runtime.run_clientapp" if role == "device" else "flwr.superlink.runtime.run_serverapp"
    return importlib.import_module(where)


def run_app(role: str, runtime: str, token: str, authority: Path | None) -> None:
    """Run one task in this process, as `flwr-clientapp` or `flwr-serverapp` would; for the addresses, see `run_superexec`."""
    certificates = authority.read_bytes() if authority else None
    if role == "device":
        _runtime(role).run_clientapp(runtime, token, authority is None, certificates)
        return
    from flwr.supercore.logger import mirror_output_to_queue

    said: queue.Queue[str | None] = queue.Queue()
    mirror_output_to_queue(said)
    _runtime(role).run_serverapp(runtime, said, token, authority is None, certificates)


def execute_only(
    role: str, apps: Callable[[], tuple[str, ...]], refuse: Callable[..., Exception], installed: Callable[[Path], None]
) -> None:
    """Let this process's tasks execute no Flower app but those with these hashes.

    The hash is taken from the bytes that arrived; what the SuperLink says of them counts for nothing. `refuse(arrived, expected)`
    makes the exception that becomes the error reply, before anything is unpacked; `installed` gets where it was unpacked to.
    """
    runtime = _runtime(role)
    install, from_proto = runtime.install_from_fab, runtime.fab_from_proto

    def fab_from_proto(message: Any) -> Any:
        fab = from_proto(message)
        return dataclasses.replace(fab, hash_str=hashlib.sha256(fab.content).hexdigest())

    def install_from_fab(content: bytes, *arguments: Any, **options: Any) -> Any:
        arrived, expected = hashlib.sha256(content).hexdigest(), apps()
        if arrived not in expected:
            raise refuse(arrived, expected)
        with contextlib.redirect_stdout(None):  # it prints where it unpacked what, for a reader at a terminal
            directory = install(content, *arguments, **options)
        installed(Path(directory))
        return directory

    runtime.fab_from_proto, runtime.install_from_fab = fab_from_proto, install_from_fab


# ── Replies, as the ServerApp takes them ──────────────────────────────────────────────────────────────────────────────────


class BadReply(Exception):
    """A reply whose objects did not arrive, are too large, or cannot be put together."""


@dataclasses.dataclass(frozen=True, slots=True)
class RawReply:
    """A reply that the SuperLink holds. answers: the id of the message that it answers, as the SuperLink checked it."""

    answers: str
    error: tuple[int, str] | None
    fetch: Callable[[int], Any]
    """Given the most bytes that it may have, wait for its objects and return its records; BadReply says what is wrong."""


def pull_replies(grid: Any, message_ids: list[str]) -> list[RawReply]:
    """The replies that are there for these messages.

    Flower's own `pull_messages` believes what a reply says of itself, raises on the first that is malformed (losing the
    rest), holds any number of bytes, and waits for the slowest upload. Here each reply is fetched, bounded and judged alone.
    """
    from flwr.common.serde import message_from_proto
    from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest
    from flwr.proto.runtime_pb2 import PullAppMessagesRequest
    from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
    from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
    from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents, pull_objects

    client, node, run_id = grid._runtime_client, grid.node, grid.run.run_id
    response = client.PullMessages(PullAppMessagesRequest(message_ids=message_ids))

    def fetch(message_id: str, tree: Any, most_bytes: int) -> Any:
        pull, held = make_pull_object_fn_protobuf(client.PullObject, node, run_id), 0

        def bounded(object_id: str) -> bytes:
            nonlocal held
            content: bytes = pull(object_id)
            held += len(content)
            if held > most_bytes:
                raise BadReply(f"it has more than {most_bytes} bytes")
            return content

        try:
            ids = [part.object_id for part in iterate_object_tree(tree)]
            contents = pull_objects(ids, bounded, max_time=None, max_tries_per_object=None, initial_backoff=0.1, backoff_cap=0.5)
            return inflate_object_from_contents(message_id, contents).content
        except BadReply:
            raise
        except Exception as error:  # a hostile device chooses what breaks here; it must cost itself alone
            raise BadReply(f"its parts cannot be put together: {type(error).__name__}: {error}") from error
        finally:
            client.ConfirmMessageReceived(ConfirmMessageReceivedRequest(node=node, run_id=run_id, message_object_id=message_id))

    replies = []
    for proto, tree in zip(response.messages_list, response.message_object_trees, strict=True):
        head = message_from_proto(proto)
        error = (head.error.code, head.error.reason or "") if head.has_error() else None
        fetching = functools.partial(fetch, head.metadata.message_id, tree)
        replies.append(RawReply(head.metadata.reply_to_message_id, error, fetching))
    return replies


def run_is_over() -> type[BaseException]:
    """What any call raises once the SuperLink counts the run as over; not an Exception."""
    from flwr.supercore.run import RunNotRunningException

    over: type[BaseException] = RunNotRunningException
    return over


# ── SuperLink and its Control API ─────────────────────────────────────────────────────────────────────────────────────────


def superlink_context(made: Callable[[ssl.SSLContext], None]) -> None:
    """Hand over the TLS context that the SuperLink's server makes, so that a renewed certificate can be loaded into it."""
    from uvicorn import config

    create = config.create_ssl_context

    def create_ssl_context(*arguments: Any, **options: Any) -> ssl.SSLContext:
        context: ssl.SSLContext = create(*arguments, **options)
        made(context)
        return context

    config.create_ssl_context = create_ssl_context


def run_superlink(arguments: list[str]) -> None:
    """Run `flower-superlink ARGUMENTS` in this process."""
    from flwr.superlink.cli import flower_superlink

    sys.argv = ["flower-superlink", *arguments]
    flower_superlink()


def control_client(url: str, context: ssl.SSLContext) -> Any:
    """A client of the Control API with its protobuf methods (`StartRun`, `ListNodes`, …)."""
    from flwr.supercore.control import ControlHttpClient
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

    return ControlHttpClient(url, interceptors=[RuntimeVersionHttpInterceptor(component_name="edgefl")], verify=context)


def control_messages() -> Any:
    """The module of the Control API's protobuf messages."""
    return importlib.import_module("flwr.proto.control_pb2")


def start_run_request(fab: Path, config: dict[str, bool | int | float | str]) -> Any:
    """The Control API's request to start this app with this run configuration."""
    from flwr.common.serde import fab_to_proto, user_config_to_proto
    from flwr.supercore.fab import Fab

    content = fab.read_bytes()
    app = Fab(hashlib.sha256(content).hexdigest(), content, {})
    return control_messages().StartRunRequest(fab=fab_to_proto(app), override_config=user_config_to_proto(config))


def node_key_bytes(public_key: Any) -> bytes:
    """A SuperNode's public key as the Control API takes it."""
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes

    return bytes(public_key_to_bytes(public_key))


def refusal(body: str) -> str:
    """What Flower says in the body of a refused request; the body itself where it is not Flower's."""
    from flwr.supercore.error import FlowerError

    error = FlowerError.from_json(body)
    if error is None:
        return body.strip()[:200] or "no reason given"
    return f"{error.message} (code {error.code})" + (f": {error.public_details}" if error.public_details else "")
