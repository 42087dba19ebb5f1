"""The command `archloom`: find the requested command, run it and exit with its exit code.

A command lives in `coordinator/cli/<name>.py` as a click command called `command`. It raises errors of
`coordinator.errors` and never shows them; it may return an exit code, None is 0. Commands and click are imported only
when needed: `archloom --help` must be fast on a Raspberry Pi too.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path

COMMANDS = {
    "build": "Build an image for several platforms and publish it as one tag.",
    "plan": "Show which host would build what, and why.",
    "boards": "Show the hosts and what they can build.",
    "image": "Inspect an image in a registry.",
    "resume": "Resume a run whose coordinator is gone.",
    "retry": "Build what a run failed to build, and publish.",
    "cancel": "Cancel a run, whichever process drives it.",
    "runs": "List the latest runs; delete old ones.",
    "logs": "Show the log of a run, of one PLATFORM or of all.",
    "attach": "Show a run from its beginning until it ends.",
    "wait": "Wait until runs have ended.",
    "why": "Explain what a run did, how long it took, and what had changed.",
    "inventory": "Check the inventory, or print its JSON schema.",
}
# More than a build of unchanged inputs makes.
_NEW_OBJECTS_BEFORE_COLLECTION = 100_000
_HELP = """Usage: archloom [OPTIONS] COMMAND [ARGS]...

  Build one image on real machines of every architecture, and publish it as
  one tag.

Options:
  -v, --verbose  Show what SSH, agents, broker and registries do; -vv: more.
  --version      Show the version and exit.
  -h, --help     Show this message and exit.

Commands:
"""


def main() -> None:
    """Run the command line of this process and exit."""
    # What is imported stays. Python would search it for garbage at every 700th new object, which takes a tenth of the
    # time of a short command.
    gc.set_threshold(_NEW_OBJECTS_BEFORE_COLLECTION)
    _open_closed_streams()
    _give_a_home()
    try:
        code = run(sys.argv[1:])
    finally:
        # As it exits, Python searches everything for garbage and frees it piece by piece, although the process ends:
        # after a build 0.15 s of CPU. It leaves out what is frozen.
        gc.freeze()
    sys.exit(code)


def _open_closed_streams() -> None:
    """Open /dev/null for each standard stream that the parent process closed: output is then discarded.

    The next file that is opened would get the stream's number, and what is printed would go into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    # By their own numbers, which a process that is forked keeps.
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _give_a_home() -> None:
    """Set HOME where there is none and the user has no entry with one, to what Docker gives its containers then.

    Programs that are run, such as credential helpers, look for it too.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/"


def run(words: Sequence[str]) -> int:
    """Run this command line and return its exit code. Errors are shown; raises only SystemExit."""
    from coordinator.cli.failures import report_errors

    return report_errors(lambda: _run(list(words)))


def _run(words: list[str]) -> int:
    from coordinator.cli.output import print_data

    words = _with_diagnostics(words)
    first, rest = (words[0], words[1:]) if words else ("--help", [])
    match first:
        case "-h" | "--help":
            print_data(help_text())
            return 0
        case "--version":
            from coordinator import __version__

            print_data(f"archloom {__version__}")
            return 0
        case name if name in COMMANDS:
            return _invoke(name, rest)
        case _:
            from coordinator.cli.failures import unknown

            if first.startswith("-"):
                raise unknown(first, "option", ["-h", "--help", "--verbose", "--version"], "archloom")
            raise unknown(first, "command", list(COMMANDS), "archloom")


def _with_diagnostics(words: list[str]) -> list[str]:
    """Start the requested diagnostics, and return the words without their flags."""
    if not os.environ.get("ARCHLOOM_LOG") and not any(word.startswith(("-v", "--verbose")) for word in words):
        return words
    from coordinator.cli.diagnostics import start, take_flags

    words, verbosity = take_flags(words)
    start(verbosity, os.environ)
    return words


def help_text() -> str:
    """Return the text of `archloom --help`, in the format of click."""
    width = max(map(len, COMMANDS))
    return _HELP + "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())


def _invoke(name: str, words: list[str]) -> int:
    import importlib

    import click

    from coordinator.cli.output import print_data

    command: click.Command = importlib.import_module(f"coordinator.cli.{name}").command
    path = f"archloom {name}"
    try:
        with command.make_context(path, words, help_option_names=["-h", "--help"]) as context:
            code: int | None = command.invoke(context)
            return code or 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        print_data(error.format_message())
        return 0
    except click.UsageError as error:
        error.ctx = error.ctx or click.Context(command, info_name=path)
        raise
