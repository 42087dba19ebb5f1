"""`archloom build`: one image, many platforms, one tag."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from coordinator.cli.output import give, give_json
from coordinator.cli.request import Flags, request_flags, target_from
from coordinator.errors import UsageError
from coordinator.report.record import recorded
from coordinator.report.watch import Progress, watching


@click.command(epilog="\b\nExample:\n  archloom build . -t nas.lan:5000/app:1.0 --platform linux/amd64,linux/arm64")
@request_flags
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but the digest of what was published.")
@click.option("--push", is_flag=True, expose_value=False, help="Accepted: publishing is what build does.")
@click.option("--progress", type=click.Choice([one.value for one in Progress]), default="auto", help="Kind of report.")
@click.option("--metadata-file", type=click.Path(dir_okay=False, path_type=Path), help="Write the result as JSON.")
@click.option("--iidfile", type=click.Path(dir_okay=False, path_type=Path), help="Write the digest to a file.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
@click.option("--fail-fast", is_flag=True, help="Stop the other platforms as soon as one has failed or is lost.")
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@click.pass_context
def command(
    here: click.Context,
    /,
    *,
    quiet: bool,
    progress: str,
    metadata_file: Path | None,
    iidfile: Path | None,
    as_json: bool,
    fail_fast: bool,
    dry_run: bool,
    **words: Any,  # noqa: ANN401 - the request flags, as click gives them
) -> None:
    """Build an image for several platforms and publish it as one tag."""
    if dry_run:
        from coordinator.cli.plan import command as plan

        here.invoke(plan, as_json=as_json, **words)
        return
    for path in (metadata_file, iidfile):
        _check_writable(path)

    from coordinator.cli.around import around, open_inventory
    from coordinator.report.metadata import metadata
    from coordinator.runner.start import build

    flags = Flags(**words)
    surroundings = around()
    target = target_from(flags, surroundings.environ)
    inventory = open_inventory(flags.inventory, surroundings)
    request = flags.request(target, fail_fast=fail_fast)
    with (
        watching(Progress.QUIET if quiet else Progress(progress), sys.stderr) as shown,
        recorded(shown, surroundings.clock) as watch,
    ):
        published = asyncio.run(build(request, inventory, surroundings, watch))
    result = metadata(published.run, published.descriptor)
    if as_json:
        give_json(result)
    elif quiet:
        give(published.digest)
    # After what is printed: the tag has moved, and whoever asked must hear of it even when a file cannot be written.
    _write(metadata_file, json.dumps(result, indent=2) + "\n")
    _write(iidfile, published.digest)


def _check_writable(path: Path | None) -> None:
    """A result that cannot be written is said before an hour of building, not after."""
    if path is None:
        return
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder", hint="name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: there is no folder {path.parent}", hint=f"mkdir -p {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"cannot write {path}: permission denied", hint="name a file you may write")


def _write(path: Path | None, text: str) -> None:
    if path is not None:
        try:
            path.write_text(text, "utf-8")
        except OSError as error:
            message = f"published, but {path} could not be written: {error.strerror}"
            raise UsageError(message, hint="archloom image inspect shows what was published") from error
