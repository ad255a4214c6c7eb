"""The plan of a site of which nothing exists yet: three parts together, and nothing made but what the plan itself works with."""

from __future__ import annotations

from pathlib import Path

from edgefl.operations.plan import plan
from edgefl.pki.operator import operator_name
from edgefl.progress import Step
from edgefl.site import load

ADOPTED = """\
name: clinic
infrastructure: {module: static}
coordinator: {name: hub, address: 192.0.2.10}
devices:
  - {name: edge-01, address: 192.0.2.11}
  - {name: edge-02, address: 192.0.2.12}
isolation: {operator_addresses: [192.0.2.1]}
"""


async def test_the_first_plan_names_every_host_in_each_part_and_makes_nothing(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(ADOPTED)
    site = load(tmp_path)
    changes: dict[str, list[tuple[str, str]]] = {}
    async for event in plan(site):
        if isinstance(event, Step) and event.changed:
            changes.setdefault(event.stage, []).append((event.subject, event.what))

    assert list(changes) == ["infrastructure", "configuration", "certificates"]
    assert changes["infrastructure"] == [(name, "will be created") for name in ("edge-01", "edge-02", "hub")]
    missing = "does not exist yet, and would be configured whole"
    assert changes["configuration"] == [(name, missing) for name in ("hub", "edge-01", "edge-02")]
    issued = "certificate for 24 h would be issued: "
    assert changes["certificates"] == [
        ("clinic", "the site's own authority would be made"),
        ("hub", "its renewal certificate for 30 days would be issued: its host does not exist yet"),
        ("hub", f"its gate {issued}its host does not exist yet"),
        ("hub", f"its superlink {issued}its host does not exist yet"),
        *(
            (device, f"its {role} certificate for {life} would be issued: its host does not exist yet")
            for device in ("edge-01", "edge-02")
            for role, life in (("device", "24 h"), ("signer", "90 days"))
        ),
        (operator_name(), f"its operator {issued}there is none"),
    ]
    assert {path.name for path in site.state.iterdir()} <= {"lock", "lock.waiting", "terraform", "task.proven"}
    assert not list(site.state.rglob("*.tfstate"))
