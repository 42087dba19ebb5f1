"""Whose fault a failed build is, and which programs can build."""

from __future__ import annotations

import pytest

from agents.base.disk import Room
from agents.engine.build_cli import error_text
from agents.engine.docker_clis import Cli, choose
from agents.engine.failure_cause import classify_failure
from agents.engine.monitor import Evidence

HEALTHY = Evidence(engine_died=False, oom_kills=0, least=Room("/var/lib/docker", 1 << 30, 1000))
SAID = 'process "/bin/sh -c make" did not complete successfully: exit code: 2'
QEMU = "#7 1.2 qemu: uncaught target signal 11 (Segmentation fault) - core dumped\n"


def fault(said: str = SAID, log: str = "", *, foreign: bool = False, **seen: object) -> tuple[str, str, str]:
    return tuple(classify_failure(said, log, HEALTHY._replace(**seen), foreign=foreign))


@pytest.mark.parametrize(
    "wrapped",
    [
        "ERROR: failed to solve: ",
        "ERROR: failed to build: failed to solve: ",
        "ERROR: failed to solve: rpc error: code = Unknown desc = failed to solve with frontend dockerfile.v0: ",
        "failed to solve with frontend dockerfile.v0: failed to create LLB definition: ",
        "",
    ],
)
def test_a_healthy_host_means_the_dockerfile(wrapped):
    """Without any sign against the host a build that failed has FAILED, in the engine's own words."""
    assert fault(wrapped + SAID) == ("FAILED", "build", SAID)


def test_a_full_disk_is_the_hosts():
    """Less than 16 MiB or no inode at any moment of the build: the disk, with what was left and where."""
    nearly = Room("/var/lib/docker", (16 << 20) - 1, 1000)

    assert fault(least=nearly) == ("LOST", "disk", "too little space below /var/lib/docker: 15 MiB free")
    assert fault(least=nearly._replace(bytes=16 << 20))[0] == "FAILED"
    assert fault(least=Room("/x", 1 << 40, 0)) == ("LOST", "disk", "no file names (inodes) left below /x")
    assert fault(least=None)[0] == "FAILED"


@pytest.mark.parametrize("words", ["exit code: 137", "cc: fatal error: Killed signal terminated program cc1plus"])
def test_a_killed_process_is_the_hosts_when_the_kernel_killed_one(words):
    """The kernel's own count says that somebody was killed for want of memory, and the build that it was one of it."""
    assert fault(log=words, oom_kills=1)[:2] == ("LOST", "memory")
    assert fault(log=words)[0] == "FAILED"
    assert fault(oom_kills=1)[0] == "FAILED"


def test_an_engine_that_went_away_is_the_hosts():
    """Seen on the connection that was open all the while, or said by gRPC."""
    assert fault(engine_died=True)[:2] == ("LOST", "engine")
    assert fault("rpc error: code = Unavailable desc = error reading from server: EOF")[:2] == ("LOST", "engine")
    assert fault(engine_died=True, oom_kills=1)[:2] == ("LOST", "memory")


def test_qemus_own_words_are_the_emulators():
    """Only for a platform that is not the engine's own: a native build may well print them."""
    assert fault(log=QEMU, foreign=True)[:2] == ("LOST", "emulator")
    assert fault(log=QEMU)[0] == "FAILED"


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("#3 DONE\n------\n > [2/2] RUN x:\n------\nexecutor failed: exit code: 3\n", "executor failed: exit code: 3"),
        ("ERROR: failed to solve: y\nView build details: docker-desktop://z\n", "ERROR: failed to solve: y"),
        ("------\n", ""),
        ("", ""),
    ],
)
def test_a_programs_complaint_is_its_last_line(log, said):
    """Old programs end with the bare sentence, newer ones mark it and may say more after it."""
    assert error_text(log) == said


def test_buildx_is_any_dockers_plugin_and_buildkit_only_an_old_dockers():
    """From 23 on `docker build` without it is the legacy builder, which answers with other platforms' images."""
    new, old, older = (Cli(f"/{number}", number, "", "") for number in ("28.2.2", "20.10.24+dfsg1", "18.06.1-ce"))
    plugged = Cli("/b", "28.2.2", "/p/docker-buildx", "0.13.1")

    assert choose("docker", [new, older, old]) == "/20.10.24+dfsg1"
    assert choose("docker", [new, older]) is None
    assert choose("buildx", [new, plugged]) == "/p/docker-buildx"
    assert choose("buildx", [new, old]) is None


@pytest.mark.parametrize(
    ("buildx", "least", "newest", "takes"),
    [
        ("v0.10.5", "1.12", "1.41", True),
        ("v0.10.5", "1.24", "1.51", True),
        ("v0.10.5", "1.43", "1.52", False),
        ("v0.12.1", "1.43", "1.52", True),
        ("v0.12.1", "1.44", "1.52", False),
        ("0.13.1+ds1-3", "1.44", "1.52", True),
        ("v0.31.1", "1.12", "1.41", False),
        ("v0.31.1", "1.24", "1.44", True),
        ("v0.32.0", "1.12", "1.41", True),
        ("a build of their own", "1.44", "1.52", True),
        ("v0.12.1", "", "", True),
        ("v0.31.1", "", "odd", True),
    ],
)
def test_a_buildx_that_does_not_speak_the_engines_api_is_none(buildx, least, newest, takes):
    """Docker 29 takes nothing below 1.44, which buildx speaks from 0.13 on; 0.31 alone asks as much of the engine."""
    odd, fit = Cli("/o", "28.2.2", "/odd", buildx), Cli("/f", "28.2.2", "/fit", "v0.29.1")

    assert choose("buildx", [odd, fit], least, newest) == ("/odd" if takes else "/fit")
    assert choose("buildx", [odd], least, newest) == ("/odd" if takes else None)
