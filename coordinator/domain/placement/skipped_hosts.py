"""One line for each host that a run does not use although it might have built a platform."""

from __future__ import annotations

from collections.abc import Iterator

from coordinator.domain.placement.eligibility import Rejection, RejectionReason
from coordinator.domain.placement.plan import Plan

# A host that cannot run the platform, or that the request or the inventory excludes, gets no line.
_DISPLAYED = frozenset(
    {
        RejectionReason.UNREACHABLE,
        RejectionReason.UNUSABLE,
        RejectionReason.BLOCKED,
        RejectionReason.DUPLICATE,
        RejectionReason.CONTRADICTED,
        RejectionReason.ENGINE,
        RejectionReason.MEMORY,
        RejectionReason.DISK,
    }
)


def skipped_lines(plan: Plan) -> tuple[str, ...]:
    """Return lines such as `pi4 is left out: …`, with the platforms where the host builds others."""
    taken = {choice.host for placement in plan.placements for choice in placement.choices}
    platforms: dict[Rejection, list[str]] = {}
    for platform, rejection in _skipped(plan):
        platforms.setdefault(rejection, []).append(platform)
    return tuple(_line(rejection, which, rejection.host in taken) for rejection, which in platforms.items())


def _line(rejection: Rejection, platforms: list[str], is_taken: bool) -> str:  # noqa: FBT001
    only = f" for {', '.join(platforms)}" if is_taken else ""
    # For a host that is switched off the remedy is obvious.
    more = (
        f"; see archloom boards {rejection.host}"
        if rejection.hint and rejection.why is not RejectionReason.UNREACHABLE
        else ""
    )
    return f"{rejection.host} is left out{only}: {rejection.reason}{more}"


def _skipped(plan: Plan) -> Iterator[tuple[str, Rejection]]:
    for placement in plan.placements:
        for rejection in placement.rejections:
            if rejection.why in _DISPLAYED:
                yield str(placement.platform), rejection
