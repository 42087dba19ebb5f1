"""Error handling of all commands: an exception is shown as `error:` and `hint:`, and becomes an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from coordinator.cli.output import print_data, print_error
from coordinator.errors import ArchloomError, InterruptedRunError, UsageError, worst

if TYPE_CHECKING:
    import click

# What a shell reports for a program that SIGPIPE ended: the reader of stdout is gone, which is not an error.
_SIGPIPE_EXIT = 128 + 13


def report_errors(action: Callable[[], int]) -> int:
    """Run the action and return its exit code, or that of its error, which is shown. Raises only SystemExit."""
    try:
        return _shown(action)
    finally:
        _forget_unread()


def _shown(action: Callable[[], int]) -> int:
    try:
        code = action()
        print_data("", end="")  # flush: a broken pipe at interpreter exit could not be handled
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - the last handler: every exception must be shown
        if isinstance(error, BrokenPipeError) and _reader_gone():
            return _SIGPIPE_EXIT
        errors = [_ours(leaf) for leaf in _leaves(error)]
        for shown in errors:
            print_error(shown)
        return worst([shown.exit_code for shown in errors])
    return code


def unknown(word: str, kind: str, known: Sequence[str], path: str) -> UsageError:
    """Return the error for an unknown word, with the closest known word. `path` is the command before the word."""
    from coordinator.domain.closest import closest

    # Compared without dashes, which would make all options similar.
    names = {name.lstrip("-"): name for name in known if len(name) > len("-x")}
    close = closest(word.lstrip("-"), names)
    hint = f"did you mean {names[close]}?" if close else f"{path} --help"
    return UsageError(f"no such {kind}: {word}", hint=hint, code="usage")


def _reader_gone() -> bool:
    """Return whether stdout is a pipe without a reader, such as one to `head`; if so, redirect it to /dev/null."""
    import select

    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    gone = any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return gone


def _forget_unread() -> None:
    """Flush stderr, or redirect it where its terminal is gone: Python's flush at exit would fail a successful run."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _ours(error: BaseException) -> ArchloomError:
    if isinstance(error, ArchloomError):
        return error
    import click

    match error:
        case click.ClickException():
            return _usage(error)
        case KeyboardInterrupt() | click.Abort():
            return InterruptedRunError("interrupted")
        case _:
            from coordinator.cli.bug import bug

            return bug(error)


def _usage(error: click.ClickException) -> UsageError:
    """Return click's error for a wrong command line as a UsageError."""
    import click

    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else "archloom"
    if context and isinstance(error, click.NoSuchOption):
        options = [name for option in context.command.get_params(context) for name in option.opts]
        return unknown(error.option_name, "option", options, path)
    name = getattr(error, "command_name", None)  # of NoSuchCommand, new in click 8.4
    if name and context and isinstance(context.command, click.Group):
        return unknown(name, "command", context.command.list_commands(context), path)
    message = error.format_message().rstrip(".")
    return UsageError(message[:1].lower() + message[1:], hint=f"{path} --help", code="usage")
