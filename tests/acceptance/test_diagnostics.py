"""What a build did at its edges, for whoever asks; never what only the registry and the hosts may know."""

from __future__ import annotations

import base64
import re

import pytest

from tests.acceptance.archloom import Home, good
from tests.services.fixtures import PASSWORD, USER
from tests.services.judges import docker_login

pytestmark = [pytest.mark.engine, pytest.mark.registry, pytest.mark.usefixtures("nothing_left")]


def test_every_edge_tells_and_no_secret_is_told(password_registry, home: Home, hello):
    """A push through the broker to a registry behind a password, all of it shown and written."""
    docker_login(home.folder / ".docker", password_registry.address, USER, PASSWORD)
    log = home.folder / "archloom.log"
    tag = f"{password_registry.address}/diagnostics/app:1"

    done = good(
        home.run(
            "-vv", "build", str(hello), "-t", tag, "--platform", "linux/amd64", environment={"ARCHLOOM_LOG": str(log)}
        )
    )

    written = log.read_text()
    for edge in ("agent", "broker", "registry"):
        assert re.search(rf"^\d\d:\d\d:\d\d\.\d{{3}} {edge} .* \d+\.\d+ s$", written, re.MULTILINE), edge
    told = done.stderr + written
    assert PASSWORD not in told
    assert base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode() not in told
    assert not re.search(r"(?i)authorization|\b(basic|bearer) [\w+/=]{8}|[?&](_state|token|x-amz)", told)


def test_a_detached_run_goes_on_in_the_log_file(registry, home: Home, hello):
    """It closes what it inherits, the file among it."""
    log = home.folder / "archloom.log"
    tag = f"{registry.address}/diagnostics/detached:1"
    words = ("build", str(hello), "-t", tag, "--platform", "linux/amd64", "--detach")

    run = good(home.run(*words, environment={"ARCHLOOM_LOG": str(log)})).stdout.strip()
    good(home.run("wait", run))

    assert re.search(r"(?m)^\S+ registry PUT \S+/manifests/1: 201", log.read_text())


def test_without_a_wish_nothing_is_told(registry, home: Home, hello):
    done = good(
        home.run("build", str(hello), "-t", f"{registry.address}/diagnostics/quiet:1", "--platform", "linux/amd64")
    )

    assert not re.search(r"^\d\d:\d\d:\d\d\.\d{3} (agent|broker|registry|ssh) ", done.stderr, re.MULTILINE)
