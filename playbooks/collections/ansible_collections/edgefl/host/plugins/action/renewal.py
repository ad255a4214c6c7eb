"""Give the coordinator an authority that renews certificates while no operator is there; the root signs it, here."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ansible.errors import AnsibleActionFail
from edgefl.errors import EdgeflError
from edgefl.pki.authority import Authority
from edgefl.pki.renewal import STEM, hosts_of

from ansible_collections.edgefl.host.plugins.plugin_utils import renewal
from ansible_collections.edgefl.host.plugins.plugin_utils.authority import of as authority_of
from ansible_collections.edgefl.host.plugins.plugin_utils.authority import site_of, word_of
from ansible_collections.edgefl.host.plugins.plugin_utils.known import FactfulAction

PLACE = "/etc/edgefl/renewal/renewal.crt"


class ActionModule(FactfulAction):
    """Compares the coordinator's authority with what the site wants, and asks for a request only where it must be renewed."""

    def act(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Renew it, install it, and keep the list that it signed for whoever checks the chain."""
        if "identity" not in self.facts:
            unread = "; ".join(self.facts.get("problems", []))
            raise AnsibleActionFail(unread or "the host was not read yet: edgefl.host.facts comes first")
        try:
            return self.reconcile(wanted, authority_of(wanted["site_file"], wanted["state_dir"]))
        except EdgeflError as error:
            raise AnsibleActionFail(f"{error.what}; next: {error.hint}" if error.hint else error.what) from error

    def reconcile(self, wanted: dict[str, Any], authority: Authority) -> dict[str, Any]:
        """Everything, once the authority is open."""
        has = self.facts["identity"].get("renewal", {})
        hosts = hosts_of(site_of(wanted["site_file"]))
        kept = authority.issuers()[1:]
        own, key, now = has.get("certificate", ""), has.get("public_key", ""), datetime.now(UTC)
        why = renewal.why_renew_authority(own, key, root=authority.elder, kept=kept, hosts=hosts, now=now)
        if not why:
            return self.unchanged(touched=[], renewed={})
        if self.is_checking:
            diff = {"before_header": STEM, "after_header": STEM, "before": "", "after": f"authority {STEM}: renewed, {why}\n"}
            return {"changed": True, "renewed": {STEM: why}, "touched": [PLACE], "diff": diff}
        said = {"name": wanted["name"], "owner": wanted["owner"]}
        request = self.ask("renewal", step="request", **said)["request"]
        certificate = authority.sign_renewal(request.encode(), name=wanted["name"])
        result = self.ask("renewal", step="install", **said, certificate=certificate.decode())
        authority.keep_renewal(certificate, result.pop("revocations").encode())
        return {**result, "changed": True, "renewed": {STEM: why}, "word": word_of(authority)}
