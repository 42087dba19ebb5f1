"""A run as others see it, beside its driver and after it."""

from __future__ import annotations

from secrets import token_hex

import pytest

from tests.acceptance.archloom import context, follow, good
from tests.services.images import base_image

pytestmark = pytest.mark.engine


@pytest.mark.usefixtures("nothing_left")
def test_whoever_attaches_sees_what_the_builder_saw(registry, home, tmp_path):
    """Beside the build or after it, from the first line to the last, and with its exit code."""
    base = base_image(registry, "linux/amd64", repository="attach/base")
    folder = context(tmp_path / "app", f"FROM {base.reference}\nRUN echo one; sleep 2; echo two\n")
    build = home.start("build", str(folder), "-t", f"{registry.address}/attach/app:1", "--platform", "linux/amd64")
    # The terminal is told before the record is written, and the store before both.
    first = follow(build, "^run ").splitlines(keepends=True)[-1]

    beside = home.run("attach", first.split()[1].rstrip(":"))
    _, rest = build.communicate(timeout=60)
    after = good(home.run("attach", first.split()[1].rstrip(":")))

    assert (build.returncode, beside.returncode) == (0, 0)
    assert beside.stderr == after.stderr
    assert after.stderr.endswith(first + rest)
    assert rest.splitlines()[-1].startswith("published ")


@pytest.mark.usefixtures("nothing_left")
def test_the_end_of_a_failed_run_is_told_again(registry, home, tmp_path):
    """Its last lines, its error, its hint."""
    base = base_image(registry, "linux/amd64", repository="attach/base")
    folder = context(tmp_path / "app", f"FROM {base.reference}\nRUN echo no; exit 7\n")

    failed = home.run("build", str(folder), "-t", f"{registry.address}/attach/app:1", "--platform", "linux/amd64")
    run = next(line.split()[1].rstrip(":") for line in failed.stderr.splitlines() if line.startswith("run "))
    again = home.run("attach", run)

    assert (failed.returncode, again.returncode) == (4, 4)
    assert again.stderr == failed.stderr


@pytest.mark.usefixtures("nothing_left")
def test_a_run_that_was_left_and_gone_on_with_is_one_story(registry, home, tmp_path):
    """Whoever follows hears that its driver is gone, and how to go on; its record goes on with the next one."""
    base = base_image(registry, "linux/amd64", repository="attach/base")
    folder = context(tmp_path / "app", f"FROM {base.reference}\nRUN echo {token_hex(4)} begun; sleep 3\n")
    build = home.start("build", str(folder), "-t", f"{registry.address}/attach/left:1", "--platform", "linux/amd64")
    first = follow(build, "^run ").splitlines(keepends=True)[-1]
    run = first.split()[1].rstrip(":")
    attached = home.start("attach", run)
    follow(attached, " begun")

    build.kill()
    build.communicate()
    _, said = attached.communicate(timeout=60)
    resumed = good(home.run("resume", run))
    after = good(home.run("attach", run))
    why = good(home.run("why", run)).stdout

    assert attached.returncode == 5
    assert f"error: nobody drives run {run} any more: " in said
    assert f"hint: go on with it: archloom resume {run}" in said
    assert first in after.stderr
    assert after.stderr.endswith(resumed.stderr)
    assert "the run is gone on with" in why
    assert "gone on with by " in why or "taken over by " in why
    assert why.count(" RUN echo ") == 1
