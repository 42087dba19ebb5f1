"""`archloom retry`: build again what failed or was lost, and reuse the other platforms."""

from __future__ import annotations

from typing import Any

import click

from coordinator.cli.run_command import OutputOptions, result_flags, run_and_report
from coordinator.domain.image import platforms


@click.command(epilog="\b\nExample:\n  archloom retry 7f3a linux/arm64")
@click.argument("run", required=False)
@click.argument("platform", nargs=-1)
@click.option("-i", "--inventory", metavar="FILE", help="Inventory with the hosts. Default: that of RUN.")
@result_flags
def command(run: str | None, platform: tuple[str, ...], *, inventory: str | None, **words: Any) -> int:  # noqa: ANN401 - the result flags
    """Build what RUN (default: the newest) failed to build, for each PLATFORM or all, and publish."""
    from coordinator.cli.environment import inventory_of, read_environment, run_named
    from coordinator.state.open_store import open_store
    from coordinator.usecases.retry import retry

    if run and "/" in run:  # a platform: a run id never contains a slash
        platform, run = (run, *platform), None
    options = OutputOptions(**words)
    env = read_environment()
    with open_store(env) as store:
        stored = run_named(run, store)
    requested = platforms.parse_list(platform)
    hosts = inventory_of(stored, inventory, env)
    return run_and_report(options, env, lambda watch: retry(stored, requested, hosts, env, watch))
