"""The part that `build`, `resume` and `retry` share: reports while a run is driven, and results for programs."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from coordinator.cli.diagnostics import is_shown
from coordinator.cli.output import check_stdout, print_data, print_json
from coordinator.domain.run.events import Event, Notice
from coordinator.domain.visible import file_word
from coordinator.environment import Environment
from coordinator.errors import UsageError
from coordinator.report.record import recorded
from coordinator.report.watch import Progress, Watch, watching
from coordinator.state.open_store import NO_HISTORY

if TYPE_CHECKING:
    from coordinator.run.driver import RunResult

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """The output options of the command line, as click passes them."""

    quiet: bool
    progress: str
    metadata_file: Path | None
    iidfile: Path | None
    as_json: bool
    detach: bool

    @property
    def files(self) -> tuple[str, ...]:
        """The absolute paths of the result files."""
        return tuple(str(path.absolute()) for path in (self.metadata_file, self.iidfile) if path)

    @classmethod
    def taken_from(cls, words: dict[str, Any]) -> OutputOptions:
        """Return the output options of these words, and remove them from the words."""
        return cls(**{field.name: words.pop(field.name) for field in fields(cls)})


def result_flags(command: F) -> F:
    """Add the flags of `OutputOptions` to a click command."""
    file = click.Path(dir_okay=False, path_type=Path)
    flags = [
        click.option("-q", "--quiet", is_flag=True, help="Print only the digest of the published image."),
        click.option(
            "--progress",
            type=click.Choice([progress.value for progress in Progress]),
            default="auto",
            help="Progress output.",
        ),
        click.option("--metadata-file", type=file, help="Write the result as JSON to a file."),
        click.option("--iidfile", type=file, help="Write the digest to a file."),
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout."),
        click.option(
            "-d",
            "--detach",
            is_flag=True,
            help="Print the run's id as soon as it has started, and exit; the run goes on.",
        ),
    ]
    for option in reversed(flags):
        command = option(command)
    return command


def run_and_report(
    options: OutputOptions, env: Environment, work: Callable[[Watch], Coroutine[Any, Any, RunResult]]
) -> int:
    """Drive a run to its end, or with `--detach` until another process drives it. Return the exit code."""
    for path in (options.metadata_file, options.iidfile):
        _check_writable(path)
    if options.as_json or options.quiet or options.detach:
        check_stdout()
    if options.detach:
        from coordinator.cli.detach import detached

        return detached(lambda: _report_run(options, Progress.RAWJSON, env, work), as_json=options.as_json)
    progress = Progress.QUIET if options.quiet else Progress(options.progress)
    if progress is Progress.AUTO and is_shown():
        progress = Progress.PLAIN
    return _report_run(options, progress, env, work)


def _report_run(
    options: OutputOptions,
    progress: Progress,
    env: Environment,
    work: Callable[[Watch], Coroutine[Any, Any, RunResult]],
) -> int:
    from coordinator.report.metadata import metadata

    with (
        watching(progress, sys.stderr, env.clock) as shown,
        recorded(_one_notice_of_state(shown, env.state), env.clock) as watch,
    ):
        result = asyncio.run(work(watch))
    document = metadata(result.run, result.descriptor)
    # The tag has moved: each of these is tried, also where another one fails.
    with ExitStack() as outputs:
        outputs.callback(_write, options.iidfile, result.digest)
        outputs.callback(_write, options.metadata_file, json.dumps(document, indent=2) + "\n")
        if options.as_json:
            print_json(document)
        elif options.quiet:
            print_data(result.digest)
    return 0


def _one_notice_of_state(shown: Watch, state: Path) -> Watch:
    """Pass events on, but no notice about a file of the state folder once the history is lost: that was said then."""
    is_lost = False

    def watch(event: Event) -> None:
        nonlocal is_lost
        if isinstance(event, Notice):
            if is_lost and str(state) in event.text:
                return
            is_lost = is_lost or event.text.startswith(NO_HISTORY)
        shown(event)

    return watch


def _check_writable(path: Path | None) -> None:
    """Raise UsageError where a result file cannot be written: before the build, which may take an hour."""
    if path is None:
        return
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder", hint="name a file in it")
    if path.is_fifo() and not os.path.realpath(path).startswith("/proc/"):
        # To open it would wait for a reader, after the build.
        raise UsageError(f"cannot write {path}: it is a named pipe", hint="name a file, or in bash: >(COMMAND)")
    if not path.parent.is_dir():
        raise UsageError(
            f"cannot write {path}: there is no folder {path.parent}", hint=f"mkdir -p {file_word(path.parent)}"
        )
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"cannot write {path}: permission denied", hint="name a file you may write")


def _write(path: Path | None, text: str) -> None:
    if path is not None:
        try:
            path.write_text(text, "utf-8")
        except OSError as error:
            message = f"published, but {path} could not be written: {error.strerror}"
            raise UsageError(message, hint="archloom image inspect shows what was published") from error
