"""The views, one file each, in the order of the tab bar. A new view is a file and a line here."""

from __future__ import annotations

from edgefl.console.view import View
from edgefl.console.views.audit import Audit
from edgefl.console.views.fleet import Fleet
from edgefl.console.views.logs import Logs
from edgefl.console.views.privacy import Privacy
from edgefl.console.views.provision import Provision
from edgefl.console.views.rounds import Rounds
from edgefl.console.views.security import Security

VIEWS: tuple[type[View], ...] = (Fleet, Rounds, Privacy, Security, Provision, Logs, Audit)
