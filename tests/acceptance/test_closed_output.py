"""A build whose output is closed publishes all the same, and ends well: it was closed on purpose."""

from __future__ import annotations

import shlex

import pytest

from tests.acceptance.archloom import COMMAND, PATIENCE, Home
from tests.services.commands import run_limited
from tests.services.judges import pulled

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("flag", ["-q", "--json", "-d", "--progress=plain"])
@pytest.mark.usefixtures("nothing_left")
def test_a_build_with_closed_streams_publishes(registry, home: Home, hello, flag: str):
    tag = f"{registry.address}/closed/app:{flag.strip('-')[:4]}"
    words = shlex.join([COMMAND, "build", str(hello), "-t", tag, "--platform", "linux/amd64", flag])

    done = run_limited(["sh", "-c", f"{words} <&- >&- 2>&-"], env=home.environment, timeout=PATIENCE)
    waited = home.run("wait")

    assert (done.returncode, waited.returncode, waited.stderr) == (0, 0, "")
    with pulled(tag, "linux/amd64"):
        pass
