"""Give a host its identity: it makes the keys, the operator's authority signs, it gets the certificates."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ansible.errors import AnsibleActionFail
from edgefl.errors import EdgeflError
from edgefl.pki.authority import Authority
from edgefl.pki.profiles import profiles
from edgefl.pki.register import LEFT

from ansible_collections.edgefl.host.plugins.plugin_utils import renewal
from ansible_collections.edgefl.host.plugins.plugin_utils.authority import of as authority_of
from ansible_collections.edgefl.host.plugins.plugin_utils.authority import site_of
from ansible_collections.edgefl.host.plugins.plugin_utils.known import FactfulAction
from ansible_collections.edgefl.host.plugins.plugin_utils.names import FACT

IDENTITY = "/etc/edgefl/identity"
SOLE = {"node_key": "node_public_key", "tunnel_key": "tunnel_public_key"}
"""Keys that have no certificate, by the option that names their owner, each with what the host says of its public half."""


class ActionModule(FactfulAction):
    """Compares certificates with the authority's word, and asks the host for requests only where one must be renewed."""

    def act(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Renew, install, and say what was renewed and why."""
        if "identity" not in self.facts:
            unread = "; ".join(self.facts.get("problems", []))
            raise AnsibleActionFail(unread or "the host was not read yet: edgefl.host.facts comes first")
        try:
            authority = authority_of(wanted["site_file"], wanted["state_dir"])
            return self.reconcile(wanted, authority)
        except EdgeflError as error:
            raise AnsibleActionFail(f"{error.what}; next: {error.hint}" if error.hint else error.what) from error

    def reconcile(self, wanted: dict[str, Any], authority: Authority) -> dict[str, Any]:
        """Everything, once the authority is open."""
        has, name = self.facts["identity"], wanted["name"]
        ended = self.ended(wanted, has, authority)
        renew = {key["name"]: why for key in wanted["keys"] if (why := self.why(key, wanted, authority))} | ended
        if wanted.get("rotate"):
            renew = {key["name"]: renew.get(key["name"]) or "it was asked for" for key in wanted["keys"]}
        fresh = renew if wanted.get("rotate") else ended
        wanted = {**wanted, "keys": [{**key, "fresh": True} if key["name"] in fresh else key for key in wanted["keys"]]}
        files = self.files(wanted, has, authority)
        joined = [key for key in wanted["keys"] if key.get("joined") and not self.is_joined(key)]
        lacking = [what for what in SOLE if wanted.get(what) and not has[SOLE[what]]]
        if not (renew or files or joined or lacking):
            return self.unchanged(touched=[], renewed={})
        if self.is_checking:
            return self.planned(wanted["keys"], renew, files, lacking)
        keys = [key for key in wanted["keys"] if key["name"] in renew]
        made = {"requests": {}, **{public: has[public] for public in SOLE.values()}}
        if renew or lacking:
            sole = {what: wanted.get(what, "") for what in SOLE}
            made = self.ask("identity", step="request", name=name, keys=keys, **sole)
        subjects = {key["name"]: subject_of(key, name) for key in keys}
        addresses = {role: addresses_of(wanted) if subject == name else [] for role, subject in subjects.items()}
        chains = {
            role: authority.sign_csr(csr.encode(), name=subjects[role], role=role, addresses=addresses[role]).chain.decode()
            for role, csr in made["requests"].items()
        }
        result = self.ask("identity", step="install", name=name, keys=wanted["keys"], certificates=chains, files=files)
        public = {what: made[what] for what in SOLE.values()}
        known = {**self.facts, "identity": {**has, "certificates": {**has["certificates"], **chains}, **public}}
        return {**result, "changed": True, "renewed": renew, "ansible_facts": {FACT: known}}

    def why(self, key: Mapping[str, Any], wanted: dict[str, Any], authority: Authority) -> str:
        """Why the certificate of a key must be renewed; empty when it serves."""
        role = key["name"]
        profile = profiles().roles[role]  # an unknown role is the playbook's mistake and fails here
        own = [wanted["name"], *addresses_of(wanted)] if profile.host_names else []
        has = self.facts["identity"]
        return renewal.why_renew(
            has["certificates"].get(role, ""),
            has["public_keys"].get(role, ""),
            issuers=authority.issuers(),
            subject=(subject_of(key, wanted["name"]), role, site_of(wanted["site_file"]).name),
            names=[*own, *profile.names, *map(str, profile.addresses)],
            now=datetime.now(UTC),
        )

    def files(self, wanted: dict[str, Any], has: dict[str, Any], authority: Authority) -> list[dict[str, str]]:
        """Trust anchors and revocations that are missing or old on the host."""
        found = []
        lists = authority.crl().decode()
        if not renewal.lists_differ(has["crl"], lists, datetime.now(UTC)):
            lists = has["crl"]  # they say the same; what is replaced, services must read again
        for directory in sorted({IDENTITY, *(directory_of(key) for key in wanted["keys"])}):
            for name, content in (("ca.crt", authority.bundle().decode()), ("crl.pem", lists)):
                there = self.facts["paths"].get(f"{directory}/{name}") or {}
                if there.get("sha256") != hashlib.sha256(content.encode()).hexdigest():
                    found.append({"path": f"{directory}/{name}", "content": content})
        place = wanted.get("revoked_serials")
        if place and (place not in self.facts["paths"] or any(file["path"] == IDENTITY + "/crl.pem" for file in found)):
            found.append({"path": place, "content": "".join(line + "\n" for line in renewal.revoked_serials(lists))})
        return found

    def is_joined(self, key: dict[str, Any]) -> bool:
        """Whether the key lies joined with its chain where a service wants one file."""
        return f"{IDENTITY}/{key['name']}.pem" in self.facts["paths"]

    def ended(self, wanted: dict[str, Any], has: dict[str, Any], authority: Authority) -> dict[str, str]:
        """The wanted keys whose certificates were revoked because nobody needed them any more: others come in their place.

        For any other reason a certificate that was revoked is never quietly replaced: the host stays out until someone decides.
        """
        revoked = {entry.serial: entry for entry in authority.certificates() if entry.is_revoked}
        found = {}
        for role in (key["name"] for key in wanted["keys"]):
            entry = revoked.get(renewal.serial(has["certificates"].get(role, "")))
            if entry is not None and entry.reason not in LEFT:
                why = entry.reason or "no reason given"
                raise AnsibleActionFail(f"the certificate of {entry.subject} was revoked ({why}); it stays out")
            if entry is not None:
                found[role] = f"it was revoked: {entry.reason}"
        return found

    def planned(
        self, keys: list[dict[str, Any]], renew: dict[str, str], files: list[dict[str, str]], lacking: list[str]
    ) -> dict[str, Any]:
        """What would be done, for check mode."""
        lines = [f"certificate {role}: renewed, {why}" for role, why in renew.items()]
        lines += [f"{what.replace('_', ' ')}: made on the host" for what in lacking]
        lines += [f"{file['path']}: replaced" for file in files]
        diff = {"before_header": "identity", "after_header": "identity", "before": "", "after": "\n".join(lines) + "\n"}
        renewed = [f"{directory_of(key)}/{key['name']}.crt" for key in keys if key["name"] in renew]
        touched = renewed + [file["path"] for file in files]
        return {"changed": True, "renewed": renew, "touched": touched, "diff": diff}


def addresses_of(wanted: Mapping[str, Any]) -> list[str]:
    """At which addresses the host is reached."""
    return [wanted["address"], *wanted.get("further_addresses", [])]


def subject_of(key: Mapping[str, Any], host: str) -> str:
    """Whom a key's certificate is for: the host itself, or what runs on it under a name of its own."""
    return str(key.get("subject") or host)


def directory_of(key: Mapping[str, Any]) -> str:
    """Where a key lies, with its certificate, and what its owner checks others by."""
    return str(key.get("directory", IDENTITY))
