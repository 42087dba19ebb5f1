"""`archloom build`: build one image for many platforms and publish it as one tag."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import click

from coordinator.cli.request_flags import Flags, request_flags, target_from
from coordinator.cli.run_command import OutputOptions, result_flags, run_and_report
from coordinator.domain.run.events import Preparing

if TYPE_CHECKING:
    from coordinator.report.watch import Watch
    from coordinator.run.driver import RunResult


@click.command(epilog="\b\nExample:\n  archloom build . -t nas.lan:5000/app:1.0 --platform linux/amd64,linux/arm64")
@request_flags
@click.option("--push", is_flag=True, expose_value=False, help="Accepted: build always publishes.")
@result_flags
@click.option("--fail-fast", is_flag=True, help="Stop the other platforms as soon as one has failed or is lost.")
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@click.pass_context
def command(
    context: click.Context,
    /,
    *,
    fail_fast: bool,
    dry_run: bool,
    **words: Any,  # noqa: ANN401 - the other flags, as click passes them
) -> int | None:
    """Build an image for several platforms and publish it as one tag."""
    options = OutputOptions.taken_from(words)
    if dry_run:
        from coordinator.cli.plan import command as plan

        context.invoke(plan, as_json=options.as_json, **words)
        return None

    from coordinator.cli.environment import open_inventory, read_environment

    flags = Flags(**words)
    env = read_environment()
    target = target_from(flags, env.environ)
    inventory = open_inventory(flags.inventory, env)
    request = flags.request(target, fail_fast=fail_fast, outputs=(*options.files, *env.log_files))

    def work(watch: Watch) -> Coroutine[Any, Any, RunResult]:
        watch(Preparing(f"reading {target.context} to build {', '.join(map(str, target.tags))}"))
        from coordinator.usecases.build import build

        return build(request, inventory, env, watch)

    return run_and_report(options, env, work)
