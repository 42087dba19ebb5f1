"""`archloom plan`: show which host would build each platform, and why every other host would not."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import click

from coordinator.cli.environment import open_inventory, read_environment
from coordinator.cli.output import print_data, print_json
from coordinator.cli.request_flags import Flags, request_flags, target_from
from coordinator.report.tables import table
from coordinator.report.watch import Progress, watching


@click.command(epilog="\b\nExample:\n  archloom plan . -t nas.lan:5000/app:1.0 --platform linux/arm64")
@request_flags
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def command(*, as_json: bool, **words: Any) -> None:  # noqa: ANN401 - the request flags, as click passes them
    """Show which host would build what, and why."""
    from coordinator.usecases.plan import plan_build

    flags = Flags(**words)
    env = read_environment()
    target = target_from(flags, env.environ)
    request = flags.request(target)
    inventory = open_inventory(flags.inventory, env)
    with watching(Progress.PLAIN, sys.stderr) as watch:
        plan = asyncio.run(plan_build(request, inventory, env, watch))
    if as_json:
        print_json(plan.to_json())
    else:
        rows = [(row.platform, row.host, row.mode or "-", row.verdict, row.reason) for row in plan.rows]
        print_data(table(("platform", "host", "mode", "", "why"), rows))
    problem = plan.no_host_error()
    if problem is not None:
        raise problem
