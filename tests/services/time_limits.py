"""What pytest-timeout leaves out, so that no run of the tests hangs: who was waited for, and what hangs afterwards.

A test that is ended for its time says which of its processes lived. Its end has a time of its own, and so has the end
of the whole run, which waits for threads. What no signal reaches, code outside of Python, ends the run with its stacks.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Generator
from types import FrameType
from typing import Any, cast

import pytest

from tests.services.descendants import descendants

_SETTINGS = pytest.StashKey[Any]()
_LIVING = pytest.StashKey[str]()
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
    fail = cast("Any", signal.getsignal(signal.SIGALRM))

    def over(number: int, frame: FrameType | None) -> None:
        __tracebackhide__ = True
        item.stash.setdefault(_LIVING, _living())
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
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if _LIVING in item.stash:
        report.sections.append(("processes that lived when the time was over", item.stash[_LIVING]))
        del item.stash[_LIVING]
    return report


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[_STDERR])
    faulthandler.dump_traceback_later(_LEAVING, exit=True)


def _living() -> str:
    return "\n".join(map(str, descendants(os.getpid()))) or "none"
