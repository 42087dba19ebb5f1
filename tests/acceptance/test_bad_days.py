"""What goes wrong on real parts: it is said once, with what to do; the tag stays and nothing is left behind."""

from __future__ import annotations

import json
import secrets
import signal
import time

import pytest

from tests.acceptance.archloom import BEGUN, context, eventually, follow, good
from tests.acceptance.conftest import FOUR
from tests.services.commands import run_limited
from tests.services.images import base_image
from tests.services.judges import pulled, ran, skopeo_raw
from tests.services.registry import garbage_collect

pytestmark = pytest.mark.engine


@pytest.mark.usefixtures("emulation", "nothing_left")
def test_a_failing_platform_lets_the_others_finish_and_moves_no_tag(registry, home, tmp_path):
    """Exit 4, the last lines of the failure, the other platform verified and reused later, the old tag as it was."""
    base = base_image(registry, "linux/amd64", "linux/arm64", repository="main/base2")
    tag = f"{registry.address}/main/half:1"
    folder = context(tmp_path / "half", f"FROM {base.reference}\nRUN echo fine >/a\n")
    good(home.run("build", str(folder), "-t", tag, "--platform", "linux/amd64"))
    before = skopeo_raw(tag)
    broken = (
        f"FROM {base.reference}\nARG TARGETARCH\n"
        'RUN echo step for $TARGETARCH; if [ "$TARGETARCH" = arm64 ]; then echo the reason; exit 3; fi\n'
    )
    (folder / "Dockerfile").write_text(broken)

    done = home.run("build", str(folder), "-t", tag, "--platform", "linux/amd64,linux/arm64")

    assert done.returncode == 4, done.stderr
    assert "linux/arm64" in done.stderr
    assert "  | the reason" in done.stderr
    assert "exit code: 3" in done.stderr
    assert f"{tag} not touched" in done.stderr
    assert "archloom logs " in done.stderr
    assert skopeo_raw(tag) == before
    run = json.loads(good(home.run("runs", "--json")).stdout)[0]
    assert {name: one["state"] for name, one in run["platforms"].items()} == {
        "linux/amd64": "verified",
        "linux/arm64": "failed",
    }
    assert "the reason" in good(home.run("logs", run["run"], "linux/arm64")).stdout
    mended = good(home.run("build", str(folder), "-t", tag, "--platform", "linux/amd64", "--json"))
    assert json.loads(mended.stdout)["archloom"]["platforms"]["linux/amd64"]["reused"]


@pytest.mark.usefixtures("emulation")
def test_the_old_tag_survives_a_failed_run_and_the_registry_s_garbage_collection(own_registry, home, tmp_path):
    """A run that fails after new children were pushed leaves the old tag, and everything it needs, as it was."""
    registry = own_registry()
    base = base_image(registry, "linux/amd64", "linux/arm64")
    tag = f"{registry.address}/app:1"
    folder = context(tmp_path / "app", f"FROM {base.reference}\nRUN echo one >/a\n")
    good(home.run("build", str(folder), "-t", tag, "--platform", "linux/amd64,linux/arm64"))
    (folder / "Dockerfile").write_text(
        f'FROM {base.reference}\nARG TARGETARCH\nRUN test "$TARGETARCH" = amd64 && echo two >/a\n'
    )
    assert home.run("build", str(folder), "-t", tag, "--platform", "linux/amd64,linux/arm64").returncode == 4

    garbage_collect(registry)

    for platform in ("linux/amd64", "linux/arm64"):
        with pulled(tag, platform):
            assert ran(tag, platform, "cat", "/a") == "one\n"


@pytest.mark.usefixtures("emulation", "nothing_left")
def test_fail_fast_stops_the_others_and_leaves_nothing(registry, home, tmp_path):
    """Exit 4 without waiting: what builds, or is sent to build next, is cancelled; what waits is skipped; with why."""
    base = base_image(registry, *FOUR, repository="main/base7")
    seconds = str(secrets.randbelow(10**9) + 10**8)
    folder = context(
        tmp_path / "fast",
        f"FROM {base.reference}\nARG TARGETARCH\n"
        f'RUN if [ "$TARGETARCH" = amd64 ]; then sleep 3; exit 3; fi; echo begun; sleep {seconds}\n',
    )
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text("emulators: {here: {host: local, jobs: 2}}\n")
    tag = f"{registry.address}/main/fast:1"
    words = ("--platform", ",".join(FOUR), "-i", str(inventory))

    done = home.run("build", str(folder), "-t", tag, *words, "--fail-fast")

    assert done.returncode == 4, done.stderr
    said = done.stderr.splitlines()
    assert "linux/arm64    here emulated CANCELLED: linux/amd64 failed (--fail-fast)" in said
    assert "linux/arm/v7   here emulated CANCELLED: linux/amd64 failed (--fail-fast)" in said
    assert "linux/arm/v6   SKIPPED: linux/amd64 failed (--fail-fast)" in said
    assert said[-2] == (
        "error: 4 of 4 platforms not built: linux/amd64 failed; linux/arm64 cancelled, linux/arm/v7 cancelled, "
        f"linux/arm/v6 skipped because of linux/amd64 (--fail-fast); {tag} not touched"
    )
    assert run_limited(["pgrep", "-f", f"sleep {seconds}"], capture_output=True).stdout == b""
    assert not list((home.folder / ".local/state/archloom-agent").glob("*/jobs/[a-z0-9]*"))


def test_a_denied_push_is_said_before_anything_is_built(password_registry, home, hello):
    """Exit 6 with the login command; no build has begun."""
    done = home.run("build", str(hello), "-t", f"{password_registry.address}/team/app:1", "--platform", "linux/amd64")

    assert done.returncode == 6
    assert f"docker login {password_registry.address}" in done.stderr
    assert "assigned" not in done.stderr


@pytest.mark.usefixtures("nothing_left")
def test_ctrl_c_cancels_the_build_and_leaves_nothing(registry, home, tmp_path):
    """Exit 130; the RUN step's process is gone, the run says cancelled, the engine holds nothing of it."""
    base = base_image(registry, "linux/amd64", repository="main/base4")
    seconds = str(secrets.randbelow(10**9) + 10**8)
    folder = context(tmp_path / "long", f"FROM {base.reference}\nRUN echo begun; sleep {seconds}\n")
    process = home.start("build", str(folder), "-t", f"{registry.address}/main/long:1", "--platform", "linux/amd64")
    seen = follow(process, BEGUN)

    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]

    assert process.returncode == 130, seen + rest
    assert "not touched\nhint: to build it after all: archloom retry " in rest
    assert run_limited(["pgrep", "-f", f"sleep {seconds}"], capture_output=True).stdout == b""
    run = json.loads(good(home.run("runs", "--json")).stdout)[0]
    assert run["exit_code"] == 130
    assert run["platforms"]["linux/amd64"]["state"] == "cancelled"
    assert not list((home.folder / ".local/state/archloom-agent").glob("*/jobs/[a-z0-9]*"))


def test_an_engine_that_does_not_run_is_said_with_the_cure(home, hello, registry):
    """Exit 5, the cause and the command that starts it; nothing was pushed."""
    done = home.run(
        "build",
        str(hello),
        "-t",
        f"{registry.address}/main/none:1",
        "--platform",
        "linux/amd64",
        environment={"DOCKER_HOST": "unix:///nonexistent/docker.sock"},
    )

    assert done.returncode == 5
    assert "is not running" in done.stderr
    assert "systemctl start docker" in done.stderr


def test_a_board_whose_name_does_not_resolve_is_said_with_the_cure(home, hello, registry):
    """It is shown as unreachable; a build uses the hosts it can, and says why it does not use this one."""
    (home.folder / "inventory.yaml").write_text("boards: {pi5: ssh://pi5.invalid}\nemulators: {here: local}\n")
    tag = f"{registry.address}/main/ssh:1"

    shown = good(home.run("boards"))
    plan = good(home.run("plan", str(hello), "-t", tag, "--platform", "linux/amd64"))
    asked = home.run("build", str(hello), "-t", tag, "--platform", "linux/amd64", "--on", "pi5")

    assert "unreachable" in shown.stdout
    assert "pi5: the name pi5.invalid does not resolve" in shown.stderr
    assert "s ago; it is asked again in" in plan.stdout
    assert asked.returncode == 5
    assert "the name pi5.invalid does not resolve" in asked.stderr


@pytest.mark.usefixtures("nothing_left")
def test_a_second_ctrl_c_does_not_wait_and_the_next_run_cleans_up(registry, home, hello, tmp_path):
    """Exit 130 at once; the run is written down as cancelled; what was left on the host goes with the next run."""
    base = base_image(registry, "linux/amd64", repository="main/base6")
    folder = context(tmp_path / "twice", f"FROM {base.reference}\nRUN echo begun {secrets.token_hex(8)}; sleep 60\n")
    process = home.start("build", str(folder), "-t", f"{registry.address}/main/twice:1", "--platform", "linux/amd64")
    follow(process, BEGUN)

    process.send_signal(signal.SIGINT)
    time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=10)[1]

    assert process.returncode == 130
    assert "main/twice:1 not touched" in rest
    run = json.loads(good(home.run("runs", "--json")).stdout)[0]
    assert (run["exit_code"], run["platforms"]["linux/amd64"]["state"]) == (130, "cancelled")
    jobs = home.folder / ".local/state/archloom-agent"
    eventually(lambda: all((job / "result.json").exists() for job in jobs.glob("*/jobs/[a-z0-9]*")))
    good(home.run("build", str(hello), "-t", f"{registry.address}/main/next:1", "--platform", "linux/amd64"))
    assert not list(jobs.glob("*/jobs/[a-z0-9]*"))


def test_a_host_nobody_has_is_refused_even_when_nothing_is_left_to_build(registry, home, hello):
    """A typing error in --on is one whether or not the registry has everything."""
    words = ("build", str(hello), "-t", f"{registry.address}/main/typo:1", "--platform", "linux/amd64")
    good(home.run(*words))

    done = home.run(*words, "--on", "locl")

    assert done.returncode == 2
    assert "did you mean local?" in done.stderr


@pytest.mark.usefixtures("nothing_left")
def test_what_a_dead_coordinator_left_is_swept_by_a_later_run(registry, home, hello, tmp_path):
    """kill -9: the job ends by itself on its host; once `keep_built` is over, the next run leaves nothing of it."""
    base = base_image(registry, "linux/amd64", repository="main/base5")
    # Random, so that the engine has not done it already.
    folder = context(tmp_path / "orphan", f"FROM {base.reference}\nRUN echo begun {secrets.token_hex(8)}; sleep 2\n")
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text("emulators: {here: {host: local, keep_built: 1s}}\n")
    words = ("--platform", "linux/amd64", "-i", str(inventory))
    process = home.start("build", str(folder), "-t", f"{registry.address}/main/orphan:1", *words)
    follow(process, BEGUN)
    process.kill()
    process.communicate(timeout=60)
    jobs = home.folder / ".local/state/archloom-agent"
    ended = eventually(lambda: list(jobs.glob("*/jobs/*/result.json")))
    eventually(lambda: time.time() - ended[0].stat().st_mtime > 1.5)

    good(home.run("build", str(hello), "-t", f"{registry.address}/main/after:1", *words))

    assert not list(jobs.glob("*/jobs/[a-z0-9]*"))
