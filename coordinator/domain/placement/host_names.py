"""The names of hosts in a request."""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.domain.closest import closest
from coordinator.domain.hosts.inventory import Host
from coordinator.errors import UsageError


def check_names(names: Sequence[str], hosts: Sequence[Host], where: str = " in --on") -> None:
    """Raise UsageError for an unknown host name; `where` names the option that it came from."""
    known = [host.name for host in hosts]
    for name in names:
        if name not in known:
            close = closest(name, known)
            hint = f"did you mean {close}?" if close else f"the inventory has {', '.join(known) or 'no hosts'}"
            raise UsageError(f"unknown host '{name}'{where}", hint=hint, code="host")
