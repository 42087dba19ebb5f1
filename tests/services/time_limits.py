"""What pytest-timeout leaves out, so that no run of the tests hangs: who was waited for, and what hangs afterwards.

A test that is ended for its time says which of its processes lived, and where its tasks were. Its end has a time of its
own, and so has the end of the whole run, which waits for threads. What no signal reaches, code outside of Python, ends
the run with its stacks.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
from collections.abc import Generator, Iterator
from types import FrameType
from typing import Any, cast

import pytest

from tests.services.descendants import descendants

_SETTINGS = pytest.StashKey[Any]()
_FOUND = pytest.StashKey[list[tuple[str, str]]]()
_STDERR = pytest.StashKey[int]()
# A thread that a test has left behind may end so long after the last one.
_LEAVING = 30.0


def pytest_configure(config: pytest.Config) -> None:
    # While a test runs, its output goes elsewhere.
    config.stash[_STDERR] = os.dup(2)


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> Generator[None, Any, Any]:
    """Of pytest-timeout: begins a test's time."""
    done = yield
    item.stash[_SETTINGS] = settings
    if settings.method != "signal":  # asked for by hand
        return done
    fail = cast("Any", signal.getsignal(signal.SIGALRM))

    def over(number: int, frame: FrameType | None) -> None:
        __tracebackhide__ = True
        item.stash.setdefault(_FOUND, _found())
        fail(number, frame)

    signal.signal(signal.SIGALRM, over)
    # Again and again: the first failure may be caught on its way, or meet a clean-up that hangs too.
    signal.setitimer(signal.ITIMER_REAL, settings.timeout, settings.timeout / 4)
    faulthandler.dump_traceback_later(2 * settings.timeout, exit=True, file=item.config.stash[_STDERR])
    return done


@pytest.hookimpl(wrapper=True)
def pytest_timeout_cancel_timer() -> Generator[None, Any, Any]:
    faulthandler.cancel_dump_traceback_later()
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """The timer is off where the test has failed."""
    if settings := item.stash.get(_SETTINGS, None):
        item.ihook.pytest_timeout_set_timer(item=item, settings=settings)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    if call.excinfo:
        # The alarm comes again and again, and would meet pytest itself here. The teardown has a time of its own.
        signal.setitimer(signal.ITIMER_REAL, 0)
    report = yield
    if _FOUND in item.stash:
        report.sections.extend(item.stash[_FOUND])
        del item.stash[_FOUND]
    return report


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[_STDERR])
    faulthandler.dump_traceback_later(_LEAVING, exit=True)


def _found() -> list[tuple[str, str]]:
    """Sections of the report."""
    living = "\n".join(map(str, descendants(os.getpid()))) or "none"
    sections = [("processes that lived when the time was over", living)]
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:  # no loop runs
        return sections
    # The stack is that of the loop, which tells nothing.
    told = "\n".join(f"{task.get_name()}:\n{''.join(_awaits(task.get_coro()))}" for task in tasks if not task.done())
    return [*sections, ("tasks that waited when the time was over", told)]


def _awaits(waiting: Any) -> Iterator[str]:
    """Where a coroutine is, and what that awaits."""
    while frame := getattr(waiting, "cr_frame", None) or getattr(waiting, "ag_frame", None):
        yield f"  {frame.f_code.co_filename}:{frame.f_lineno}, {frame.f_code.co_qualname}\n"
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "ag_await", None)
