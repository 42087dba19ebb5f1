"""The hosts that a run goes on without although they might have helped, in a line each."""

from __future__ import annotations

from collections.abc import Iterator

from coordinator.domain.fit import Rejection, Why
from coordinator.domain.plan import Plan

# Nobody is told of a host that has another platform, or that was not asked for.
_TELLING = frozenset({
    Why.UNREACHABLE, Why.BLOCKED, Why.TWIN, Why.CONTRADICTED, Why.ENGINE, Why.MEMORY, Why.DISK,
})  # fmt: skip


def left_out(plan: Plan) -> tuple[str, ...]:
    """`pi4 is left out: …`, and for which platforms where it builds others."""
    taken = {choice.host for one in plan.placements for choice in one.choices}
    platforms: dict[tuple[str, str, str], list[str]] = {}
    for platform, rejection in _told(plan):
        platforms.setdefault((rejection.host, rejection.reason, rejection.hint), []).append(platform)
    lines = []
    for (host, reason, hint), which in platforms.items():
        only = f" for {', '.join(which)}" if host in taken else ""
        lines.append(f"{host} is left out{only}: {reason}" + (f"; see archloom boards {host}" if hint else ""))
    return tuple(lines)


def _told(plan: Plan) -> Iterator[tuple[str, Rejection]]:
    for one in plan.placements:
        for rejection in one.rejections:
            if rejection.why in _TELLING:
                yield str(one.platform), rejection
