"""Drive a run in a process with its own session: it survives the terminal, the shell and the SSH connection."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from io import TextIOWrapper

from coordinator.cli import diagnostics
from coordinator.cli.output import print_data, print_json, print_message
from coordinator.domain.run.events import Notice, RunStarted
from coordinator.errors import LostError
from coordinator.report.lines import lines
from coordinator.report.rawjson import from_json_line


def detached(work: Callable[[], int], *, as_json: bool) -> int:
    """Do `work`, which reports to stderr as rawjson, in another process, and return once its run has begun.

    Prints the run's id. An earlier error is shown as in the foreground, and its exit code returned. Raises LostError
    where a signal ended the process.
    """
    reading, writing = os.pipe()
    # fork is safe: no thread and no event loop has been started yet.
    driver = os.fork()
    if driver == 0:
        os.close(reading)
        _drive(work, writing)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as report:
        return _leave(report, driver, as_json=as_json)


def _leave(report: TextIOWrapper, driver: int, *, as_json: bool) -> int:
    try:
        for line in report:
            _, event = from_json_line(line) or (0.0, None)
            match event:
                case RunStarted(run=run):
                    print_json({"run": run}) if as_json else print_data(run)
                    print_message(f"the run goes on; watch it: archloom attach {run}")
                    return 0
                case None:
                    print_message(line.rstrip("\n"))
                case Notice():
                    print_message("\n".join(lines(event)))
                case _:
                    pass
    except KeyboardInterrupt:
        os.kill(driver, signal.SIGINT)
        os.waitpid(driver, 0)
        raise
    code = os.waitstatus_to_exitcode(os.waitpid(driver, 0)[1])
    if code < 0:
        killed = signal.Signals(-code).name
        raise LostError(f"the run's background process was ended by {killed}", hint="run the command again")
    return code


def _drive(work: Callable[[], int], report: int) -> None:
    """Do `work` in the forked process, with `report` as stderr, and exit. Never returns."""
    from coordinator.cli.failures import report_errors

    code = 1
    with contextlib.suppress(BaseException):
        os.setsid()
        null_device = os.open(os.devnull, os.O_RDWR)
        for number, target in ((0, null_device), (1, null_device), (2, report)):
            os.dup2(target, number)
        diagnostics.close_files()
        # Inherited descriptors would hold locks and pipes of the parent processes for as long as the run.
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        code = report_errors(work)
        sys.stderr.flush()
    os._exit(code)
