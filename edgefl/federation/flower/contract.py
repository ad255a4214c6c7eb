"""What edgefl relies on inside Flower, written down so that another version is refused with a reason instead of breaking.

Flower's public surface ends at its command lines and `flwr.app`, `flwr.clientapp`, `flwr.serverapp`. `patches.py` reaches
beyond it; each symbol that it touches stands here with the reason, and a contract test holds the installed Flower to it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
from dataclasses import dataclass
from typing import Any

from edgefl.errors import EdgeflError

FLOWER = "1.41.0"
"""The version that `RELIED_ON` was read from and measured with."""


class FlowerChanged(EdgeflError):
    """The installed Flower is not the one that edgefl knows from inside."""


@dataclass(frozen=True, slots=True)
class Symbol:
    """A private symbol of Flower that edgefl relies on.

    path: `module:attribute`. contains: what its source must contain for our use of it to hold.
    """

    path: str
    why: str
    contains: tuple[str, ...] = ()

    def fault(self) -> str | None:
        """What is wrong with it in the installed Flower; None when it is as expected."""
        module_name, _, attributes = self.path.partition(":")
        try:
            found: Any = importlib.import_module(module_name)
            for attribute in attributes.split("."):
                found = getattr(found, attribute)
        except (ImportError, AttributeError) as error:
            return f"{self.path} is gone ({error}); needed because {self.why}"
        if not self.contains:
            return None
        source = inspect.getsource(found)
        missing = [part for part in self.contains if part not in source]
        return f"{self.path} no longer contains {missing[0]!r}; needed because {self.why}" if missing else None


_RETRY = Symbol(
    "flwr.supercore.retry.http_retry:make_simple_http_retry_invoker",
    "its longest pause of 20 s is shortened through its `MAX_RETRY_DELAY`",
    ("wait_gen_factory=lambda: exponential(max_delay=MAX_RETRY_DELAY)",),
)
_VOICE = Symbol(
    "flwr.supercore.logger:console_handler.format", "what Flower says becomes fields through it", ("%(levelname)s", "record")
)
_SERVERS = Symbol(
    "uvicorn.config:Config.configure_logging", "what its servers say becomes fields after it", ("logging.config.dictConfig(",)
)

RELIED_ON = {
    "supernode": (
        _VOICE,
        _SERVERS,
        Symbol(
            "flwr.supernode.fleet_http_connection:http_request_response",
            "the client certificate goes in where this makes its client",
            ("FleetHttpClient.from_server_address(",),
        ),
        Symbol("flwr.supernode.fleet_http_client:FleetHttpClient.from_server_address", "the client certificate goes in here"),
        Symbol(
            "flwr.supercore.protobuf.client:ProtobufClient.from_server_address",
            "our class keeps this signature",
            ("server_address: str", "insecure: bool", "root_certificates: bytes | str | None", "interceptors:", "retry_invoker:"),
        ),
        Symbol(
            "flwr.supernode.start_client_internal:start_client_internal",
            "its idle poll of 3 s is shortened through its `time`",
            ("time.sleep(3)",),
        ),
        Symbol(
            "flwr.supernode.start_client_internal:_push_messages",
            "its poll of 0.5 s for a ClientApp's reply is shortened through its `time`",
            ("time.sleep(0.5)",),
        ),
        Symbol(
            "flwr.supernode.servicer.runtime.runtime_handlers:acquire_task",
            "the SuperExec waits in this call for a task that can run",
            ("request: AcquireTaskRequest, state: NodeState",),
        ),
        Symbol("flwr.proto.runtime_pb2:AcquireTaskResponse.TOKEN_FIELD_NUMBER", "an empty one says that there is no task"),
        Symbol(
            "flwr.supernode.start_client_internal:_pull_and_store_message",
            "a task is held back until this has fetched its message, and removed when it could not",
            (
                "recv := receive()",
                "state.create_task(",
                "state.store_message(message)",
                "except RunNotRunningException",
                "= pull_objects(",
            ),
        ),
        Symbol(
            "flwr.supernode.nodestate.in_memory_nodestate:InMemoryNodeState",
            "what a message that did not arrive left behind is removed from it",
            ("def delete_messages(", "message_ids: Sequence[str]"),
        ),
        Symbol("flwr.common.constant:SubStatus.STOPPED", "how the task of a message that did not arrive ends"),
        _RETRY,
        Symbol(
            "flwr.supercore.exit:add_exit_handler",
            "a kept question is let go before the server that keeps it is waited for",
            ("run_before_force_exit",),
        ),
        Symbol("flwr.supernode.cli:flower_supernode", "the launcher calls it"),
    ),
    "superexec": (
        _VOICE,
        Symbol(
            "flwr.supercore.superexec.run_superexec:run_superexec",
            "the warm executor goes in through its `get_executor`",
            (
                "runtime_api_address: str",
                "insecure: bool",
                "root_certificates_path: str | None = None",
                "superexec_auth_secret: bytes | None = None",
                "executor = get_executor(",
                "executor.reconcile()",
                "executor.get_eligible_capacity(",
                "_get_task_poll_interval()",
            ),
        ),
        Symbol("flwr.supercore.superexec.executor.types:Executor", "the warm executor has this shape"),
        Symbol("flwr.supercore.superexec.executor.types:LaunchResult.accepted", "what a launch returns"),
        Symbol("flwr.supercore.constant:TaskType.CLIENT_APP", "the only task of a device"),
        Symbol("flwr.supercore.constant:TaskType.SERVER_APP", "the only task of a coordinator"),
        _RETRY,
        Symbol("flwr.supercore.auth:load_superexec_auth_secret", "how the SuperExec proves itself", ("secret_file",)),
        Symbol("flwr.supercore.utils:disable_process_dumping", "no other process may read the SuperExec's memory", ("strict",)),
    ),
    "clientapp": (
        Symbol(
            "flwr.supernode.runtime.run_clientapp:run_clientapp",
            "a warm ClientApp starts here; the check of the app goes in through its `install_from_fab`",
            (
                "runtime_api_address: str,\n    token: str,\n    insecure: bool,\n    certificates: bytes | None",
                "message, context, run, fab = pull_task_input(client)",
                "install_from_fab(fab.content, skip_prompt=True)",
                "fab.hash_str",
            ),
        ),
        Symbol(
            "flwr.supernode.runtime.run_clientapp:pull_task_input",
            "the app's hash is computed anew through its `fab_from_proto`",
            ("fab = fab_from_proto(res.fab)",),
        ),
        Symbol("flwr.supercore.fab:Fab", "the app as it is delivered", ("hash_str: str", "content: bytes")),
    ),
    "serverapp": (
        Symbol(
            "flwr.superlink.runtime.run_serverapp:run_serverapp",
            "a warm ServerApp starts here; the check of the app goes in through its `install_from_fab` and `fab_from_proto`",
            (
                "runtime_api_address: str,\n    log_queue: Queue[str | None],\n    token: str,\n    insecure: bool,\n",
                "fab = fab_from_proto(res.fab)",
                "install_from_fab(fab.content, skip_prompt=True)",
                "fab.hash_str",
            ),
        ),
        Symbol("flwr.supercore.logger:mirror_output_to_queue", "what a ServerApp prints reaches the SuperLink", ("log_queue",)),
        Symbol("flwr.supercore.fab:Fab", "the app as it is delivered", ("hash_str: str", "content: bytes")),
        Symbol(
            "flwr.superlink.grid:HttpGrid.pull_messages",
            "`patches.pull_replies` does the same, one reply at a time",
            (
                "self._runtime_client.PullMessages(",
                "iterate_object_tree(msg_tree)",
                "self._runtime_client.ConfirmMessageReceived(",
            ),
        ),
        Symbol(
            "flwr.supercore.inflatable.inflatable_utils:pull_objects",
            "objects are fetched with it",
            ("max_time: float | None", "max_tries_per_object: int | None", "initial_backoff: float", "backoff_cap: float"),
        ),
        Symbol("flwr.supercore.inflatable.inflatable_utils:inflate_object_from_contents", "objects become a message with it"),
        Symbol("flwr.supercore.inflatable.inflatable_protobuf_utils:make_pull_object_fn_protobuf", "objects are fetched with it"),
        Symbol("flwr.supercore.inflatable.inflatable_object:iterate_object_tree", "a message's objects are counted with it"),
        Symbol("flwr.common.serde:message_from_proto", "a reply's head is read with it"),
        Symbol("flwr.proto.runtime_pb2:PullAppMessagesRequest.MESSAGE_IDS_FIELD_NUMBER", "replies are asked for with it"),
        Symbol(
            "flwr.proto.message_pb2:ConfirmMessageReceivedRequest.MESSAGE_OBJECT_ID_FIELD_NUMBER", "a reply is let go with it"
        ),
        Symbol("flwr.supercore.run:RunNotRunningException", "how a ServerApp learns that its run was stopped"),
    ),
    "superlink": (
        _VOICE,
        _SERVERS,
        Symbol("flwr.superlink.cli:flower_superlink", "the launcher calls it"),
        Symbol(
            "uvicorn.config:create_ssl_context",
            "a renewed certificate is loaded into the context that it makes",
            ("certfile", "keyfile"),
        ),
    ),
    "control": (
        Symbol("flwr.supercore.control:ControlHttpClient.StartRun", "runs are started through it"),
        Symbol("flwr.supercore.control:ControlHttpClient.StopRun", "runs are stopped through it"),
        Symbol("flwr.supercore.control:ControlHttpClient.ListRuns", "runs are listed through it"),
        Symbol("flwr.supercore.control:ControlHttpClient.ListNodes", "devices are listed through it"),
        Symbol("flwr.supercore.control:ControlHttpClient.RegisterNode", "devices are registered through it"),
        Symbol("flwr.supercore.control:ControlHttpClient.UnregisterNode", "devices are removed through it"),
        Symbol("flwr.proto.control_pb2:StartRunRequest.OVERRIDE_CONFIG_FIELD_NUMBER", "what starts a run"),
        Symbol("flwr.proto.control_pb2:StopRunRequest.RUN_ID_FIELD_NUMBER", "what stops a run"),
        Symbol("flwr.proto.control_pb2:ListRunsRequest.RUN_ID_FIELD_NUMBER", "what lists one run"),
        Symbol("flwr.proto.control_pb2:ListRunsRequest.LIMIT_FIELD_NUMBER", "what lists the latest runs"),
        Symbol("flwr.proto.control_pb2:ListNodesRequest", "what lists devices"),
        Symbol("flwr.proto.control_pb2:RegisterNodeRequest.PUBLIC_KEY_FIELD_NUMBER", "what registers a device"),
        Symbol("flwr.proto.control_pb2:UnregisterNodeRequest.NODE_ID_FIELD_NUMBER", "what removes a device"),
        Symbol("flwr.supercore.interceptors:RuntimeVersionHttpInterceptor", "the Control API wants the version header"),
        Symbol("flwr.supercore.fab:Fab", "the app as it is sent", ("hash_str: str", "content: bytes")),
        Symbol("flwr.common.serde:fab_to_proto", "how an app is sent"),
        Symbol("flwr.common.serde:user_config_to_proto", "how a run's configuration is sent"),
        Symbol("flwr.supercore.primitives.asymmetric:public_key_to_bytes", "how a SuperNode's key is sent"),
        Symbol("flwr.supercore.error:FlowerError.from_json", "what the Control API says when it refuses"),
    ),
}
"""By process, the symbols that edgefl relies on."""


def faults(process: str) -> list[str]:
    """What is not as expected in the installed Flower for one of `RELIED_ON`'s processes."""
    return [fault for symbol in RELIED_ON[process] if (fault := symbol.fault())]


def require(*processes: str) -> None:
    """Raise FlowerChanged unless the installed Flower is the one that these processes were written for."""
    installed = importlib.metadata.version("flwr")
    if installed == FLOWER:
        return
    found = [fault for process in processes for fault in faults(process)]
    detail = "; ".join(found) if found else "the symbols look alike, but nothing was measured with it"
    raise FlowerChanged(
        f"flwr {installed} is installed, edgefl is written for {FLOWER}: {detail}", hint=f"pip install flwr=={FLOWER}"
    )
