"""Whose fault a failed build is, and which programs can build."""

from __future__ import annotations

import pytest

from agents.base.disk import Room
from agents.engine.build_cli import error_text
from agents.engine.docker_clis import Cli, choose
from agents.engine.failure_cause import classify_failure
from agents.engine.monitor import Evidence

MIB = 1 << 20
HEALTHY = Evidence(engine_died=False, oom_kills=0, least=Room("/var/lib/docker", 1 << 30, 5000, 8 << 30))
SAID = 'process "/bin/sh -c make" did not complete successfully: exit code: 2'
QEMU = "qemu: uncaught target signal 11 (Segmentation fault) - core dumped"
NO_SPACE = "tar: write error: No space left on device"


def log_of(*lines: str, said: str = SAID) -> str:
    """The end of the log of a step that printed these lines."""
    printed = "".join(f"#7 1.{number:03} {line}\n" for number, line in enumerate(lines))
    return (
        f"#6 [1/2] COPY . .\n#6 DONE 0.1s\n\n#7 [2/2] RUN make\n{printed}#7 ERROR: {said}\n------\n > [2/2] RUN make:\n"
    )


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
    """Words for it and a shortage in the build: the disk, with what was left and where."""
    nearly, log = Room("/var/lib/docker", 64 * MIB - 1, 5000), log_of("begun", NO_SPACE, "make: *** [all] Error 1")

    assert fault(log=log, least=nearly) == ("LOST", "disk", "too little space below /var/lib/docker: 63 MiB free")
    assert fault("failed to register layer: no space left on device", least=nearly)[:2] == ("LOST", "disk")
    assert fault(log=log, least=Room("/x", 1 << 40, 5)) == ("LOST", "disk", "5 file names (inodes) left below /x")
    assert fault(log=log, least=Room("/x", 90 << 20, 5000, 10 << 30))[1] == "disk", "less than 1 % of the disk"


def test_words_of_a_full_disk_are_none():
    """A tmpfs of the step is full, or another program of the log said so."""
    nearly = Room("/var/lib/docker", 64 * MIB - 1, 5000)

    assert fault(log=log_of(NO_SPACE))[0] == "FAILED"
    assert fault(log=log_of(NO_SPACE), least=nearly._replace(bytes=64 * MIB))[0] == "FAILED"
    assert fault(log=log_of(NO_SPACE), least=None)[0] == "FAILED"
    assert fault(log=f"#3 [a 1/1] RUN x\n#3 0.1 {NO_SPACE}\n{log_of('no')}", least=nearly)[0] == "FAILED"


def test_a_shortage_without_words_is_none():
    """A step that fails of something else fails on every host."""
    assert fault(log=log_of("main.c:1: error"), least=Room("/x", 0, 0))[:2] == ("FAILED", "build")


def test_a_disk_that_turned_read_only_is_the_hosts():
    """Said by the engine or by the step's program, and so: a read-only mount in a step is its own fault."""
    words = "sh: can't create /file: Read-only file system"

    assert fault(log=log_of(words), read_only="/var/lib/docker")[:2] == ("LOST", "read_only")
    assert fault("open /var/lib/docker/x: read-only file system", read_only="/var/lib/docker")[1] == "read_only"
    assert fault("write /var/lib/docker/x: input/output error", read_only="/var/lib/docker")[1] == "read_only"
    assert fault(log=log_of("sh: write error: Input/output error"))[0] == "FAILED"
    assert fault(log=log_of(words))[0] == "FAILED"
    assert fault(log=log_of("no"), read_only="/var/lib/docker")[0] == "FAILED"


@pytest.mark.parametrize("words", ["exit code: 137", "cc: fatal error: Killed signal terminated program cc1plus"])
def test_a_killed_process_is_the_hosts_when_the_kernel_killed_one(words):
    """The kernel's own count says that somebody was killed for want of memory, and the build that it was one of it."""
    assert fault(log=log_of(words), oom_kills=1)[:2] == ("LOST", "memory")
    assert fault(log=log_of(words))[0] == "FAILED"
    assert fault(log=f"#3 [a 1/1] RUN x\n#3 0.1 {words}\n{log_of('no')}", oom_kills=1)[0] == "FAILED"
    assert fault(oom_kills=1)[0] == "FAILED"


def test_a_held_base_that_the_engine_asks_for_is_no_trouble_of_the_network():
    """Nothing can ever answer for it, on any host."""
    said = "failed to resolve source metadata for {}/base:1: dial tcp 127.0.0.1:1: connect: connection refused"

    assert fault(said.format("localhost:1"))[:2] == ("FAILED", "build")
    assert fault(said.format("docker.io"))[:2] == ("LOST", "resolve")


def test_an_engine_that_went_away_is_the_hosts():
    """Seen on the connection that was open all the while, or said by gRPC."""
    assert fault(engine_died=True)[:2] == ("LOST", "engine")
    assert fault("rpc error: code = Unavailable desc = error reading from server: EOF")[:2] == ("LOST", "engine")
    assert fault(engine_died=True, oom_kills=1)[:2] == ("LOST", "memory")


DPKG = """\
Segmentation fault (core dumped)
dpkg: error processing package libc-bin (--configure):
 installed libc-bin package post-installation script subprocess returned error exit status 139
Errors were encountered while processing:
 libc-bin
E: Sub-process /usr/bin/dpkg returned an error code (1)
"""
CRASHES = (
    (QEMU,),
    (QEMU, "Segmentation fault"),
    (QEMU, "sh: line 1: 12 Segmentation fault gcc", "make[1]: *** [a] Error 139", "make: *** [b] Error 2"),
    (QEMU, *DPKG.splitlines()),
    ("exec /bin/sh: exec format error",),
)


@pytest.mark.parametrize("lines", CRASHES, ids=range(len(CRASHES)))
def test_a_crash_under_qemu_that_ends_the_step_is_the_emulators(lines):
    """Its own words, and after them only what reports the crash; on a native host they are a program's."""
    assert fault(log=log_of("cc a.c", *lines), foreign=True)[:2] == ("LOST", "emulator")
    assert fault(log=log_of("cc a.c", *lines))[0] == "FAILED"


def test_a_crash_under_qemu_whose_status_the_step_passed_on_is_the_emulators():
    """Whatever the program printed in between."""
    said = SAID.replace("exit code: 2", "exit code: 139")

    assert fault(said, log_of(QEMU, "cleaning up", said=said), foreign=True)[1] == "emulator"
    assert fault(SAID, log_of(QEMU, "cleaning up"), foreign=True)[1] == "build"


def test_a_crash_on_purpose_in_the_middle_of_a_step_is_the_dockerfiles():
    """A test for crashes passes, and then the compiler has a complaint; or it was another step."""
    lines = (QEMU, "Segmentation fault (core dumped)", "crash test: ok", "main.c:1:5: error: expected expression")

    assert fault(log=log_of(*lines), foreign=True)[:2] == ("FAILED", "build")
    assert fault(log=f"#3 [a 1/1] RUN x\n#3 0.1 {QEMU}\n{log_of('no')}", foreign=True)[:2] == ("FAILED", "build")


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
