"""A run as others see it, beside its driver and after it."""

from __future__ import annotations

import pytest

from tests.acceptance.archloom import context, good
from tests.services.images import base_image

pytestmark = pytest.mark.engine


@pytest.mark.usefixtures("nothing_left")
def test_whoever_attaches_sees_what_the_builder_saw(registry, home, tmp_path):
    """Beside the build or after it, from the first line to the last, and with its exit code."""
    base = base_image(registry, "linux/amd64", repository="attach/base")
    folder = context(tmp_path / "app", f"FROM {base.reference}\nRUN echo one; sleep 2; echo two\n")
    build = home.start("build", str(folder), "-t", f"{registry.address}/attach/app:1", "--platform", "linux/amd64")
    # The terminal is told before the record is written, and the store before both.
    while not (first := build.stderr.readline()).startswith("run "):
        pass

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
