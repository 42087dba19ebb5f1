"""Builds that end before their time: cancelled, the engine gone, the emulator crashed."""

from __future__ import annotations

import os
import threading
import uuid
from pathlib import Path

import pytest

from agents.base.errors import AgentError
from agents.engine import engines, images
from agents.engine.docker_clis import installed
from tests.edges.agents.engine_bed import (
    BUILD_CLIENTS,
    PATIENCE,
    came,
    comes_back,
    cut_off,
    gone,
    job,
    running,
    sleeps,
    use_driver,
)

pytestmark = [pytest.mark.engine]


@pytest.fixture(params=BUILD_CLIENTS)
def driver(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Path) -> str:
    use_driver(request.param, tmp_path, monkeypatch)
    return request.param


@pytest.fixture
def marker() -> str:
    """Seconds to sleep that nobody else asks for."""
    return str(uuid.uuid4().int % 10**8 + 10**6)


def sleeper(marker: str) -> str:
    return (
        "FROM scratch\nCOPY busybox /bin/busybox\n"
        f'RUN ["/bin/busybox", "sh", "-c", "trap \'\' TERM INT; echo started; /bin/busybox sleep {marker}"]\n'
    )


def test_a_cancelled_build_ends_at_once_with_its_steps(driver, tmp_path, marker):
    """`cancel` ends the step that runs within 2 seconds, also one that ignores TERM."""
    with job(tmp_path, driver, sleeper(marker)) as made:
        build = made.build()
        with running(build, made, "started") as answers:
            assert sleeps(marker, PATIENCE)

            build.cancel()

            assert gone(marker, 2.0)

    assert answers == [{"state": "CANCELLED"}]


def test_a_build_cancelled_before_it_runs_does_not_run(driver, tmp_path):
    """`cancel` may come before `run`."""
    with job(tmp_path, driver, "FROM scratch\nCOPY busybox /b\n") as made:
        build = made.build()
        build.cancel()

        assert build.run() == {"state": "CANCELLED"}


class Exporting:
    """A build that is cancelled in its last step, of which the engine takes no notice."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()

    def run(self) -> str:
        assert self._cancelled.wait(PATIENCE)
        return "cancelled"

    def cancel(self) -> None:
        self._cancelled.set()


def test_an_image_that_is_named_after_the_build_was_cancelled_goes_too(tmp_path, engine):
    """The engine was past the point where it would have noticed, and no line of the log said so."""
    with job(tmp_path, "api", "FROM scratch\nCOPY busybox /b\n") as made:
        assert made.run()["state"] == "BUILT"
        local = engines.local_engine()
        images.tag(local, made.spec.image, f"{made.spec.image}-held")
        images.untag(local, made.spec.image)
        build = engines.EngineBuild(made.spec, made.folder, local, engines.local_facts(), Exporting())
        build.cancel()
        try:
            assert build.run() == {"state": "CANCELLED"}
            late = threading.Timer(0.8, images.tag, (local, f"{made.spec.image}-held", made.spec.image))
            late.start()
            build.clean_up()
            late.join(PATIENCE)
            assert images.inspect(local, made.spec.image) is None
        finally:
            images.untag(local, f"{made.spec.image}-held")


def test_an_engine_that_does_not_answer_for_a_moment_is_looked_at_again(tmp_path, engine, monkeypatch):
    """It is restarted as its build is cancelled: the name comes, and goes, when it is back."""
    with job(tmp_path, "api", "FROM scratch\nCOPY busybox /b\n") as made:
        assert made.run()["state"] == "BUILT"
        with cut_off(tmp_path / "cut.sock", engine, monkeypatch) as proxy:
            local = engines.local_engine()
            build = engines.EngineBuild(made.spec, made.folder, local, engines.local_facts(), Exporting())
            build.cancel()
            assert build.run() == {"state": "CANCELLED"}
            proxy.stop()
            proxy.path.unlink()
            with comes_back(proxy.path, engine, 0.8):
                build.clean_up()
        assert images.inspect(engines.local_engine(), made.spec.image) is None


def test_an_image_that_was_built_as_its_build_was_cancelled_stays(tmp_path, engine):
    """It is a result like any other: who cancels and is late finds it, and drops it or pushes it."""
    with job(tmp_path, "api", "FROM scratch\nCOPY busybox /b\n") as made:
        build = made.build()
        assert build.run()["state"] == "BUILT"
        build.cancel()
        build.clean_up()
        assert images.inspect(engines.local_engine(), made.spec.image) is not None


@pytest.mark.parametrize("back", [False, True], ids=["gone", "back at once"])
def test_an_engine_that_goes_away_is_lost(driver, back, tmp_path, marker, engine, monkeypatch):
    """An engine that ends in the middle is the host's fault, also where it answers again by the time one looks."""
    with job(tmp_path, driver, sleeper(marker)) as made:
        with (
            cut_off(tmp_path / "cut.sock", engine, monkeypatch) as proxy,
            running(made.build(), made, "started") as answers,
        ):
            end = proxy.cut if back else proxy.stop
            end()
            assert gone(marker, PATIENCE)
            # The program that builds hears of it later than its step; left now, it would be cancelled.
            assert came(answers, PATIENCE)
        assert [(answer["state"], answer["code"]) for answer in answers] == [("LOST", "engine")], made.log


@pytest.mark.usefixtures("emulation")
def test_a_crash_of_the_emulator_is_not_the_dockerfiles_fault(driver, tmp_path):
    """What QEMU says when a program dies in its hands makes the attempt LOST on this host."""
    step = 'RUN ["/bin/busybox", "sh", "-c", "/bin/busybox sh -c \'kill -SEGV $$\'; exit 1"]'

    with job(tmp_path, driver, f"FROM scratch\nCOPY busybox /bin/busybox\n{step}\n", "linux/arm64") as made:
        result = made.run()

    assert (result["state"], result["code"]) == ("LOST", "emulator"), made.log
    assert "uncaught target signal 11" in result["message"]


def test_an_engine_that_is_not_there_is_an_engine_error(driver, tmp_path, monkeypatch):
    """Without an engine a build raises what every request that needs one raises."""
    with job(tmp_path, driver, "FROM scratch\n") as made, monkeypatch.context() as patched:
        patched.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
        with pytest.raises(AgentError) as refused:
            made.run()

    assert (refused.value.code, refused.value.detail["reason"]) == ("engine", "absent")


def test_a_plugin_that_cannot_be_run_is_none(tmp_path, monkeypatch):
    """Docker lists a link to nowhere among its plugins; a build must not be planned on it."""
    (tmp_path / "cli-plugins").mkdir()
    (tmp_path / "cli-plugins" / "docker-buildx").symlink_to(tmp_path / "nowhere")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    assert str(tmp_path) not in "".join(cli.plugin for cli in installed(os.environ, tmp_path))
