"""What the agent finds on a host: this one for real, others from what their kernels and engines would say."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import socket
import socketserver
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from agents.base import memory
from agents.probe import elf_stubs, emulation, engine, machine, observe
from tests.services.commands import run_limited
from tests.services.missing import program
from tests.services.paths import CASES, ROOT

GOLDEN = CASES / "observations"
QEMU = {"amd64": "x86_64", "386": "i386", "arm64": "aarch64"}
OBSERVATIONS = sorted(path for path in GOLDEN.glob("*.json") if not path.stem.endswith(".facts"))
OWN = {"x86_64": ("amd64", "386"), "aarch64": ("arm64",)}.get(platform.machine(), ())


@pytest.mark.parametrize("architecture", elf_stubs.ARCHITECTURES)
def test_every_program_ends_with_0_on_its_own_architecture(architecture, tmp_path):
    """The CPU, or QEMU called by name, runs each of them to its end."""
    path = tmp_path / "program"
    path.write_bytes(elf_stubs.program(architecture))
    path.chmod(0o755)
    by = [] if architecture in OWN else [program(f"qemu-{QEMU.get(architecture, architecture)}-static")]

    assert run_limited([*by, path], timeout=10).returncode == 0


@pytest.mark.parametrize("architecture", elf_stubs.ARCHITECTURES)
def test_a_program_is_recognised_by_its_first_bytes(architecture):
    """They are what emulators register themselves for."""
    assert elf_stubs.architecture_of(elf_stubs.program(architecture)[:20]) == architecture


@pytest.mark.parametrize("header", [b"", b"\x7fELF", b"#!/bin/sh" + bytes(20), b"\x7fELF\x07\x07" + bytes(20)])
def test_other_beginnings_are_no_architecture(header):
    """Scripts, cut headers and unknown classes are nobody's."""
    assert elf_stubs.architecture_of(header) is None


def test_this_machine_runs_its_own_programs(tmp_path):
    """Whatever else runs here, its own architecture does."""
    found = emulation.runs({"HOME": str(tmp_path)})

    assert set(found) == set(elf_stubs.ARCHITECTURES)
    assert all(found[name] for name in OWN[:1])


def test_programs_are_run_from_a_file_where_memory_cannot_hold_them(tmp_path):
    """A kernel may forbid running from memory, and folders may be noexec: the next place is tried."""
    script = (
        "import os, sys\n"
        "def forbidden(*_): raise PermissionError(1, 'forbidden')\n"
        "os.memfd_create = forbidden\n"
        "from agents.probe import emulation\n"
        "print(sorted(name for name, ran in emulation.runs(os.environ).items() if ran))\n"
    )
    answer = run_limited(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )

    assert all(f"'{name}'" in answer.stdout for name in OWN[:1])


def entry(lines: str) -> str:
    return lines.strip().replace("    ", "") + "\n"


def test_emulators_are_read_by_what_they_are_registered_for(tmp_path):
    """The name of an entry is anybody's choice; its magic is an ELF header."""
    (tmp_path / "status").write_text("enabled\n")
    (tmp_path / "register").write_text("")
    (tmp_path / "FEX").write_text(
        entry("""
    enabled
    interpreter /usr/libexec/qemu-binfmt/arm-binfmt-P
    flags: POF
    offset 0
    magic 7f454c4601010100000000000000000002002800
    mask ffffffffffffff00fffffffffffffffffeffffff
    """)
    )
    (tmp_path / "qemu-s390x").write_text(
        entry("""
    disabled
    interpreter /usr/bin/qemu-s390x
    flags:
    offset 0
    magic 7f454c4602020100000000000000000000020016
    """)
    )
    (tmp_path / "jar").write_text("enabled\ninterpreter /usr/bin/jexec\nflags: \noffset 0\nmagic 504b0304\n")
    (tmp_path / "python").write_text("enabled\ninterpreter /usr/bin/python3\nflags: \nextension .pyc\n")

    found = emulation.binfmt(tmp_path)

    assert (found["mounted"], found["enabled"]) == (True, True)
    assert found["entries"] == [
        {
            "name": "FEX",
            "enabled": True,
            "interpreter": "/usr/libexec/qemu-binfmt/arm-binfmt-P",
            "flags": "POF",
            "magic_arch": "arm",
        },
        {
            "name": "qemu-s390x",
            "enabled": False,
            "interpreter": "/usr/bin/qemu-s390x",
            "flags": "",
            "magic_arch": "s390x",
        },
    ]


def test_a_register_that_is_not_mounted_is_said_to_be(tmp_path):
    """Nobody knows then what is emulated."""
    assert emulation.binfmt(tmp_path) == {"mounted": False, "enabled": False, "entries": []}


def test_the_cpu_of_a_pi_zero_is_read_as_the_kernel_writes_it():
    """Only the first processor counts, and the model is what tells an ARMv6."""
    text = (
        "processor\t: 0\nmodel name\t: ARMv6-compatible processor rev 7 (v6l)\n"
        "Features\t: half thumb vfp tls\nCPU architecture: 7\n\nprocessor\t: 1\nmodel name\t: another\n"
    )

    assert machine.cpuinfo(text) == {
        "architecture": "7",
        "model": "ARMv6-compatible processor rev 7 (v6l)",
        "features": ["half", "thumb", "vfp", "tls"],
    }


def test_memory_is_counted_in_bytes():
    """The kernel writes kB, and means KiB."""
    text = "MemTotal:         437512 kB\nMemFree:  1000 kB\nMemAvailable:     310000 kB\nSwapFree: 102396 kB\n"

    assert memory.memory(text) == {"total": 448012288, "available": 317440000, "swap_free": 104853504}
    assert memory.memory("MemFree: 7 kB\n")["available"] == 7168


@pytest.mark.parametrize(
    ("readings", "hottest"), [((), None), (("48200", "51900"), 51.9), (("-273000", "200000"), None), (("odd",), None)]
)
def test_the_temperature_is_the_hottest_zones(readings, hottest, tmp_path):
    """Sensors that are not there, or that make no sense, are left out."""
    for number, reading in enumerate(readings):
        zone = tmp_path / f"thermal_zone{number}"
        zone.mkdir()
        (zone / "temp").write_text(f"{reading}\n")

    assert machine.temperature(tmp_path) == hottest


@pytest.mark.parametrize(
    ("controllers", "table", "limits"),
    [
        ("cpuset cpu io pids\n", "", False),
        ("cpuset cpu io memory pids\n", "", True),
        ("", "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t0\t1\t0\n", False),
        ("", "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t9\t4\t1\n", True),
        ("", "", None),
    ],
)
def test_whether_memory_can_be_limited(controllers, table, limits, tmp_path):
    """The second version of cgroups lists its controllers, the first has a table; without either nobody knows."""
    if controllers:
        (tmp_path / "cgroup.controllers").write_text(controllers)
    (tmp_path / "cgroups").write_text(table)

    assert machine.memory_cgroup(tmp_path, tmp_path / "cgroups") is limits


@contextmanager
def engine_at(path: Path, answers: Mapping[str, object]) -> Iterator[None]:
    """An engine that says these things over its unix socket."""

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(answers[self.path]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

        def address_string(self):
            return "unix"

    with socketserver.ThreadingUnixStreamServer(str(path), Answering) as server:
        server.daemon_threads = True
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        try:
            yield
        finally:
            server.shutdown()
            serving.join(60)


VERSION = {"Version": "5.4.2", "ApiVersion": "1.41", "MinAPIVersion": "1.24", "Os": "linux", "Arch": "arm64"}


def test_an_engine_is_asked_for_its_own_architecture_and_disk(tmp_path):
    """Not the kernel's architecture, and the disk that holds its images even where we may not look into it."""
    root = tmp_path / "images" / "no" / "such"
    answers = {
        "/version": VERSION,
        "/info": {"ID": "AB:CD", "DockerRootDir": str(root), "Driver": "overlay2", "Architecture": "x86_64",
                  "SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]},
    }  # fmt: skip
    with engine_at(tmp_path / "sock", answers):
        found = engine.engine({"DOCKER_HOST": f"unix://{tmp_path}/sock"})

    assert (found["kind"], found["arch"], found["rootless"], found["error"]) == ("docker", "arm64", True, None)
    assert found["total"] == shutil.disk_usage(tmp_path).total


def test_podman_is_recognised_behind_dockers_socket(tmp_path):
    """It answers like an engine, and cannot build like one."""
    version = VERSION | {"Components": [{"Name": "Podman Engine", "Version": "5.4.2"}]}
    with engine_at(tmp_path / "sock", {"/version": version, "/info": {}}):
        found = engine.engine({"DOCKER_HOST": f"unix://{tmp_path}/sock"})

    assert found["kind"] == "podman"


def test_an_engine_that_is_not_there_is_absent_or_down(tmp_path):
    """What is installed and does not run is mended in another way than what was never installed."""
    found = engine.engine({"DOCKER_HOST": f"unix://{tmp_path}/none", "PATH": str(tmp_path)})

    installed = shutil.which("dockerd", path="/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin:/snap/bin")
    assert found["error"]["code"] == ("down" if installed else "absent")
    assert set(found) == {"kind", "socket", "error"}


def test_an_engine_elsewhere_is_not_asked():
    """DOCKER_HOST may name another machine, and this probe is of this one."""
    assert engine.engine({"DOCKER_HOST": "tcp://nas.lan:2375"})["error"]["code"] == "odd"


def test_an_engine_that_hangs_is_down_and_the_rest_is_told(tmp_path):
    """It accepts connections and never answers; the probe does not wait for it."""
    environ = {**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/sock", "XDG_STATE_HOME": str(tmp_path)}
    with closing(socket.socket(socket.AF_UNIX)) as silent:
        silent.bind(f"{tmp_path}/sock")
        silent.listen()
        found = observe.observe(environ, engine_patience=0.05)

    assert found["engine"]["error"]["code"] == "down"
    assert found["cores"] >= 1


def promised() -> dict[str, object]:
    """The observation in the wire contract."""
    text = (ROOT / "agents" / "README.md").read_text("utf-8")
    example = re.search(r'^    (\{"time":.*?\})\n\n', text, re.DOTALL | re.MULTILINE)
    assert example is not None
    return json.loads(example[1])


def test_the_observation_has_the_fields_the_contract_promises(tmp_path):
    """No more and no less than the page by which the coordinator was written, and it fits a frame."""
    found = observe.observe({**os.environ, "XDG_STATE_HOME": str(tmp_path)})

    contract = promised()
    assert set(found) == set(contract)
    assert set(found["runs"]) == set(contract["runs"])
    for part in ("uname", "cpuinfo", "memory", "binfmt", *(["engine"] if not found["engine"]["error"] else [])):
        assert set(found[part]) == set(contract[part]), part
    assert len(json.dumps(found)) < 64 * 1024


@pytest.mark.parametrize("path", OBSERVATIONS, ids=lambda path: path.stem)
def test_the_cases_are_what_an_agent_says(path):
    """The coordinator's golden observations have the contract's fields, but for what an older agent leaves out."""
    case, contract = json.loads(path.read_text("utf-8")), promised()

    assert set(case) <= set(contract)
    assert path.stem == "older-agent" or set(case) == set(contract)
