"""A run outlives its coordinator: killed, hung up, left or cancelled, it ends as it was asked to, and nothing twice."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from tests.acceptance.archloom import BEGUN, COMMAND, Home, context, eventually, follow, good
from tests.services.commands import Child, run_limited
from tests.services.images import base_image
from tests.services.judges import pulled, ran
from tests.services.registry import plain
from tests.services.terminal import terminal

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("emulation", "nothing_left")]

BOTH = "linux/amd64,linux/arm64"
SLOW = """\
FROM {base}
COPY word /word
RUN echo begun; sleep {seconds}; echo {token}
CMD ["cat", "/word"]
"""
ONE_AT_A_TIME = "emulators: {here: {host: local, jobs: 1}}\n"


@pytest.fixture
def slow(registry, tmp_path: Path) -> Callable[..., Path]:
    """Makes a context whose platforms take this many seconds each."""
    base = base_image(registry, "linux/amd64", "linux/arm64", "linux/arm/v7", repository="main/base6")

    def make(seconds: int) -> Path:
        return context(
            tmp_path / "slow", SLOW.format(base=base.reference, seconds=seconds, token=token_hex(4)), {"word": "one\n"}
        )

    return make


@pytest.fixture
def tag(registry, request: pytest.FixtureRequest) -> str:
    return f"{registry.address}/main/{request.node.name.replace('_', '-')[:60].rstrip('-')}:1"


def kill(process: Child) -> None:
    process.kill()
    process.communicate(timeout=30)


def run_of(home: Home, run: str | None = None) -> dict[str, Any]:
    runs = json.loads(good(home.run("runs", "--json")).stdout)
    return next(one for one in runs if run in (None, one["run"]))


def attempts(run: dict[str, Any]) -> dict[str, list[str]]:
    return {name: [one["state"] for one in job["attempts"]] for name, job in run["platforms"].items()}


def results(home: Home) -> Iterator[Path]:
    return (home.folder / ".local/state/archloom-agent").glob("*/jobs/*/result.json")


def test_a_killed_run_goes_on_where_it_was(home, slow, tag):
    """Both platforms build when the coordinator is killed; what ends while nobody looks is pushed, not built again."""
    process = home.start("build", str(slow(4)), "-t", tag, "--platform", BOTH)
    follow(process, rf"amd64.*{BEGUN}", rf"arm64.*{BEGUN}")
    kill(process)
    left = run_of(home)
    assert (left["exit_code"], left["state"]) == (None, "interrupted")
    eventually(lambda: len(list(results(home))) == 2)

    done = good(home.run("resume", "--json"))

    assert json.loads(done.stdout)["archloom"]["run"] == left["run"]
    run = run_of(home)
    assert (run["exit_code"], run["state"]) == (0, "published")
    assert attempts(run) == {"linux/amd64": ["pushed"], "linux/arm64": ["pushed"]}
    for platform in BOTH.split(","):
        with pulled(tag, platform):
            assert ran(tag, platform) == "one\n"
    assert not list(results(home))


def test_a_killed_run_is_not_anybody_s_twice(home, slow, tag):
    """While somebody drives it, a run is refused with who does; once they are gone it is anybody's."""
    process = home.start("build", str(slow(4)), "-t", tag, "--platform", "linux/amd64")
    follow(process, BEGUN)
    run = run_of(home)["run"]

    refused = home.run("resume", run)

    assert refused.returncode == 7, refused.stderr
    assert f"pid {process.pid}" in refused.stderr
    assert process.wait(timeout=60) == 0
    process.communicate()
    over = home.run("resume", run)
    assert over.returncode == 2
    assert "it is published" in over.stderr
    nothing = home.run("resume")
    assert nothing.returncode == 2
    assert "no run is unfinished" in nothing.stderr


def test_what_was_sent_is_built_as_it_was_asked_for(home, slow, tag):
    """The context changes while nobody drives the run: the host has what was asked for, and that is published."""
    folder = slow(2)
    process = home.start("build", str(folder), "-t", tag, "--platform", "linux/amd64")
    follow(process, BEGUN)
    kill(process)
    (folder / "word").write_text("two\n")

    done = good(home.run("resume"))

    assert f"word of the context {folder} changed since run" in done.stderr
    with pulled(tag, "linux/amd64"):
        assert ran(tag, "linux/amd64") == "one\n"


def test_what_was_not_sent_yet_is_refused_with_the_choice(home, slow, tag):
    """Three platforms, one after the other: the third would be built from something else, and is not."""
    (home.folder / "inventory.yaml").write_text(ONE_AT_A_TIME)
    folder = slow(2)
    process = home.start("build", str(folder), "-t", tag, "--platform", f"{BOTH},linux/arm/v7")
    follow(process, BEGUN)
    kill(process)
    (folder / "word").write_text("two\n")
    run = run_of(home)["run"]

    refused = home.run("resume")

    assert refused.returncode == 2, refused.stderr
    assert f"word of the context {folder} changed since run {run} began; not sent yet: linux/" in refused.stderr
    assert f"archloom resume {run}" in refused.stderr
    assert f"archloom cancel {run}" in refused.stderr
    (folder / "word").write_text("one\n")
    good(home.run("resume"))
    assert list(attempts(run_of(home)).values()) == [["pushed"]] * 3


def test_a_base_that_moved_meanwhile_changes_nothing(registry, home, tmp_path, tag):
    """Both platforms come from the base as it was when the run began."""
    (home.folder / "inventory.yaml").write_text(ONE_AT_A_TIME)
    base = base_image(registry, "linux/amd64", "linux/arm64", repository="main/moving")
    folder = context(
        tmp_path / "moved", SLOW.format(base=base.reference, seconds=2, token=token_hex(4)), {"word": "one\n"}
    )
    process = home.start("build", str(folder), "-t", tag, "--platform", BOTH)
    follow(process, BEGUN)
    kill(process)
    base_image(registry, "linux/amd64", repository="main/moving")

    good(home.run("resume"))

    assert run_of(home)["state"] == "published"


def test_cancel_ends_a_run_that_somebody_drives(home, slow, tag):
    """Its driver hears it, cancels the build on its host and ends with 130; the tag is not touched."""
    process = home.start("build", str(slow(100)), "-t", tag, "--platform", "linux/amd64")
    seen = follow(process, BEGUN)
    run = run_of(home)["run"]

    retry = f"hint: to build it after all: archloom retry {run}\n"
    assert good(home.run("cancel", run)).stderr == f"run {run} is cancelled\n{retry}"

    rest = process.communicate(timeout=30)[1]
    assert process.returncode == 130, seen + rest
    assert f"run {run} was cancelled; {tag} not touched\n{retry}" in rest
    again = home.run("cancel", run)
    assert again.returncode == 2
    assert "has ended already" in again.stderr
    assert "was cancelled" in home.run("resume", run).stderr


def test_cancel_needs_no_inventory_where_somebody_drives(home, slow, tag):
    """Whoever drives it knows its hosts; where nobody does, others can be given."""
    (home.folder / "inventory.yaml").write_text(ONE_AT_A_TIME)
    process = home.start("build", str(slow(100)), "-t", tag, "--platform", "linux/amd64")
    follow(process, BEGUN)
    (home.folder / "inventory.yaml").rename(home.folder / "moved.yaml")

    good(home.run("cancel", run_of(home)["run"]))

    assert process.wait(timeout=30) == 130
    process.communicate()
    again = home.start("build", str(slow(100)), "-i", "moved.yaml", "-t", tag, "--platform", "linux/amd64")
    follow(again, BEGUN)
    kill(again)
    (home.folder / "moved.yaml").rename(home.folder / "hosts.yaml")
    run = run_of(home)["run"]
    refused = home.run("cancel", run)
    assert refused.returncode == 2
    assert "give another: -i FILE" in refused.stderr
    good(home.run("cancel", run, "-i", "hosts.yaml"))
    assert run_of(home)["exit_code"] == 130


def test_a_run_that_was_left_lying_moves_no_tag_back(home, slow, tag):
    """A later one has published the tag since: that is said, and what to do; the tag stays."""
    folder = slow(3)
    process = home.start("build", str(folder), "-t", tag, "--platform", "linux/amd64")
    follow(process, BEGUN)
    kill(process)
    (folder / "word").write_text("two\n")
    good(home.run("build", str(folder), "-t", tag, "--platform", "linux/amd64"))
    newer, older = (one["run"] for one in json.loads(good(home.run("runs", "--json")).stdout))

    refused = home.run("resume")

    assert refused.returncode == 2, refused.stderr
    assert f"run {newer}, begun later than run {older}, has published {tag} since" in refused.stderr
    assert f"archloom cancel {older}" in refused.stderr
    with pulled(tag, "linux/amd64"):
        assert ran(tag, "linux/amd64") == "two\n"
    good(home.run("cancel", older))


def test_another_inventory_does_not_begin_anew_what_a_host_builds(home, slow, tag):
    """It is refused, and the run stays as it is; with its own hosts it goes on."""
    (home.folder / "inventory.yaml").write_text(ONE_AT_A_TIME)
    process = home.start("build", str(slow(3)), "-t", tag, "--platform", "linux/amd64")
    follow(process, BEGUN)
    kill(process)
    (home.folder / "other.yaml").write_text("emulators: {there: local}\n")

    refused = home.run("resume", "-i", "other.yaml")

    assert refused.returncode == 2, refused.stderr
    assert "host 'here' has linux/amd64 of run" in refused.stderr
    good(home.run("resume"))
    assert attempts(run_of(home)) == {"linux/amd64": ["pushed"]}


def test_a_registry_that_is_down_leaves_a_run_as_it_is(home, tmp_path):
    """Its word decides what the bases were; while it has none, nothing is refused for good."""
    with plain(tmp_path / "registry") as registry:
        base = base_image(registry, "linux/amd64", repository="base")
        folder = context(
            tmp_path / "app", SLOW.format(base=base.reference, seconds=2, token=token_hex(4)), {"word": "w"}
        )
        process = home.start("build", str(folder), "-t", f"{registry.address}/app:1", "--platform", "linux/amd64")
        follow(process, BEGUN)
        kill(process)

    done = home.run("resume")

    assert done.returncode == 6, done.stderr
    assert f"cannot reach registry {registry.address}" in done.stderr
    assert run_of(home)["finished_at"] is None
    good(home.run("cancel", run_of(home)["run"]))


def test_cancel_ends_a_run_that_nobody_drives_and_retry_builds_the_rest(home, slow, tag):
    """Its build is ended on its host; another try reuses what was verified."""
    (home.folder / "inventory.yaml").write_text(ONE_AT_A_TIME)
    process = home.start("build", str(slow(3)), "-t", tag, "--platform", BOTH, "--no-cache")
    follow(process, "verified", BEGUN)
    kill(process)
    left = run_of(home)
    verified = [name for name, job in left["platforms"].items() if job["state"] == "verified"]
    refused = home.run("retry", left["run"])
    assert refused.returncode == 2
    assert f"archloom resume {left['run']}" in refused.stderr

    good(home.run("cancel", left["run"]))

    assert not list(results(home))
    done = good(home.run("retry", "--json"))
    again = json.loads(done.stdout)["archloom"]
    assert again["run"] != left["run"]
    assert [name for name, job in again["platforms"].items() if job["reused"]] == verified
    over = home.run("retry")
    assert over.returncode == 2
    assert "there is nothing to try again" in over.stderr


def test_retry_of_one_platform_leaves_the_others(home, slow, tag):
    """The named platform is built and pinned; the tag moves only when all of them are there."""
    process = home.start("build", str(slow(2)), "-t", tag, "--platform", BOTH)
    follow(process, rf"amd64.*{BEGUN}", rf"arm64.*{BEGUN}")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130

    one = home.run("retry", "linux/amd64")
    both = good(home.run("retry", "--json"))

    assert f"linux/amd64 built and kept; {tag} not touched, for want of linux/arm64" in one.stderr
    assert one.returncode == 2
    platforms = json.loads(both.stdout)["archloom"]["platforms"]
    assert {name: job["reused"] for name, job in platforms.items()} == {"linux/amd64": True, "linux/arm64": False}


def test_a_detached_run_goes_on_by_itself(home, slow, tag):
    """The id is printed once it has begun; waiting for it ends as it does."""
    begun = good(home.run("build", str(slow(2)), "-t", tag, "--platform", "linux/amd64", "--detach"))

    run = begun.stdout.strip()
    assert f"archloom attach {run}" in begun.stderr
    assert run_of(home)["exit_code"] is None
    eventually(lambda: run_of(home)["exit_code"] is not None)
    assert run_of(home, run)["state"] == "published"


def test_a_detached_run_keeps_nothing_of_its_caller(home, slow, tag):
    """A pipe, or a lock, that the caller had open is free as soon as the command has returned."""
    reading, writing = os.pipe()
    words = [COMMAND, "build", str(slow(3)), "-t", tag, "--platform", "linux/amd64", "--detach"]
    begun = run_limited(
        words, cwd=home.folder, env=home.environment, capture_output=True, text=True, check=True, pass_fds=[writing]
    )
    os.close(writing)

    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b""
    assert run_of(home)["exit_code"] is None
    good(home.run("wait", begun.stdout.strip()))


def test_what_goes_wrong_before_a_detached_run_begins_is_shown(home, slow, tag):
    """The errors and exit codes are those of a run that is not detached."""
    done = home.run("build", str(slow(1)), "-t", tag, "--platform", "linux/amd64", "--detach", "--on", "pi5")

    assert done.returncode == 2
    assert done.stdout == ""
    assert "error: " in done.stderr
    assert "pi5" in done.stderr


def test_a_run_goes_on_when_its_terminal_is_gone(home, slow, tag):
    """SIGHUP, and nobody reads any more: the run ends as it would have."""
    process = home.start("build", str(slow(2)), "-t", tag, "--platform", "linux/amd64")
    follow(process, BEGUN)
    assert process.stderr is not None
    assert process.stdout is not None
    process.stderr.close()
    process.stdout.close()
    os.killpg(process.pid, signal.SIGHUP)

    assert process.wait(timeout=60) == 0
    assert run_of(home)["state"] == "published"


def test_a_run_goes_on_when_its_window_is_closed(home, slow, tag):
    """The live view's terminal is gone while it draws: the tag is moved, and the run ends as it would have."""
    words = [COMMAND, "build", str(slow(2)), "-t", tag, "--platform", "linux/amd64"]
    with terminal(words, home.environment, home.folder) as shown:
        shown.expect("RUN echo begun")
        shown.hang_up()
        assert shown.wait(60) == 0

    assert run_of(home)["state"] == "published"
    with pulled(tag, "linux/amd64"):
        assert ran(tag, "linux/amd64") == "one\n"
