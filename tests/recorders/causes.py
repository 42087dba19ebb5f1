"""The causes of which failures are recorded: what is done to a board, what it builds, and whose fault that is."""

from __future__ import annotations

from dataclasses import dataclass

_BASE = "FROM scratch\nCOPY busybox /bin/busybox\n"
_ARM64 = "FROM scratch\nCOPY busybox-arm64 /bin/busybox\n"
_ARMV7 = "FROM scratch\nCOPY busybox-armv7 /bin/busybox\n"
BUILD = ("FAILED", "build")
NETWORK = ("FAILED", "network")
DISK, READ_ONLY, ENGINE = ("LOST", "disk"), ("LOST", "read_only"), ("LOST", "engine")
RESOLVE, MEMORY, EMULATOR = ("LOST", "resolve"), ("LOST", "memory"), ("LOST", "emulator")

# As a kernel does that finds its ext4 damaged: Documentation/ABI/testing/sysfs-fs-ext4, trigger_fs_error. The name of
# the loop device is checked: this machine's own disk is in the same folder.
REMOUNT = (
    "mount -o remount,errors=remount-ro /var/lib/docker;"
    " disk=$(sed -n 's|^/dev/\\(loop[0-9]*\\) /var/lib/docker .*|\\1|p' /proc/mounts | tail -n 1);"
    ' [ -z "$disk" ] || echo 1 >/sys/fs/ext4/$disk/trigger_fs_error'
)
_LIMIT = (
    "parent=$(sed 's/.*cgroup-parent[^/]*\\([^\"]*\\).*/\\1/' /etc/docker/daemon.json);"
    " mkdir -p /sys/fs/cgroup/memory$parent; echo 67108864 >/sys/fs/cgroup/memory$parent/memory.limit_in_bytes"
)
_ANSWER = """cat >/var/tmp/registry.py <<'END'
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response({status})
        self.send_header("Content-Length", "0")
        self.end_headers()
    do_HEAD = do_GET
http.server.HTTPServer(("0.0.0.0", 5055), Handler).serve_forever()
END
python3 /var/tmp/registry.py >/dev/null 2>&1 &
sed -i 's/^{/{"insecure-registries": ["127.0.0.1:5055"], /' /etc/docker/daemon.json
kill -HUP $(pidof dockerd)
sleep 2"""
LEAVE = "fallocate -l $(( $(df -B1 --output=avail /var/lib/docker | tail -n 1) - {} )) /var/lib/docker/pad"
NAMESERVER = "echo nameserver {} >/var/tmp/resolv.conf; mount --bind /var/tmp/resolv.conf /etc/resolv.conf; sleep 6"
FAKE_RUNC = "printf '%s\\n' '#!/bin/sh' '{}' >/var/tmp/runc; chmod {} /var/tmp/runc; mount --bind /var/tmp/runc {}"
RUNC = "$(command -v runc)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """`before` runs on the board before the build, `then` when a line of the log contains `word`.

    `needs_session`: the Engine API alone refuses such a Dockerfile, so there is nothing to record. `says_nothing`: an
    engine that tries TLS first on any registry, and reports nothing else, so its words hold nothing of the cause.
    """

    name: str
    verdict: tuple[str, str]
    dockerfile: str
    platform: str = "linux/amd64"
    before: str = ""
    word: str = ""
    then: str = ""
    disk_mib: int = 0
    containerd_service: bool = False
    needs_session: bool = False
    says_nothing: str = ""


def _run(program: str, base: str = _BASE) -> str:
    words = program.replace("\\", "\\\\").replace('"', '\\"')
    return f'{base}RUN ["/bin/busybox", "sh", "-c", "{words}"]\n'


CAUSES = (
    # A disk that is full, and words for it without one.
    Cause(
        name="disk-full-in-step",
        verdict=DISK,
        disk_mib=300,
        dockerfile=_run("/bin/busybox dd if=/dev/zero of=/fill bs=1M"),
    ),
    Cause(
        name="disk-full-in-copy",
        verdict=DISK,
        disk_mib=300,
        dockerfile=_BASE + "COPY . /again\nCOPY . /more\n",
        before=LEAVE.format(3000000),
    ),
    Cause(
        name="disk-full-in-export",
        verdict=DISK,
        disk_mib=300,
        dockerfile=_run(
            "echo begun; /bin/busybox dd if=/dev/urandom of=/big bs=1M count=100; /bin/busybox sleep 2; echo made"
        ),
        word="made",
        then=LEAVE.format(1000000),
    ),
    Cause(
        name="no-inodes-in-step",
        verdict=DISK,
        disk_mib=300,
        dockerfile=_run("i=0; while /bin/busybox mkdir /d$i; do i=$((i+1)); done; exit 1"),
        before="mkdir /var/lib/docker/pad; cd /var/lib/docker/pad; seq 1 76000 | xargs touch",
    ),
    Cause(
        name="tmpfs-full-in-step",
        verdict=BUILD,
        needs_session=True,
        dockerfile=_BASE
        + 'RUN --mount=type=tmpfs,target=/t,size=1m ["/bin/busybox", "dd", "if=/dev/zero", "of=/t/x", "bs=1M"]\n',
    ),
    Cause(
        name="shm-full-in-step",
        verdict=BUILD,
        dockerfile=_run("/bin/busybox dd if=/dev/zero of=/dev/shm/fill bs=1M count=99"),
    ),
    Cause(
        name="short-disk-ordinary-failure",
        verdict=BUILD,
        disk_mib=300,
        dockerfile=_run("echo main.c:1: error: expected expression; exit 2"),
        before=LEAVE.format(20000000),
    ),
    Cause(
        name="words-of-disk-and-network-in-passing",
        verdict=BUILD,
        dockerfile=_run(
            "echo test_no_space_left_on_device ok; echo test_connection_timed_out: Connection timed out ... ok;"
            " echo curl: Could not resolve host in test_dns; echo Killed 3 mutants of 4; echo 1 test failed; exit 1"
        ),
    ),
    # A disk that turned read-only.
    Cause(
        name="read-only-before-build", verdict=READ_ONLY, disk_mib=300, dockerfile=_run("echo hello"), before=REMOUNT
    ),
    Cause(
        name="read-only-in-step",
        verdict=READ_ONLY,
        disk_mib=300,
        dockerfile=_run("echo begun; /bin/busybox sleep 2; echo now; echo word >/file"),
        word="begun",
        then=REMOUNT,
    ),
    Cause(
        name="read-only-mount-in-step",
        verdict=BUILD,
        dockerfile=_run("echo word >/proc/version; echo word >/sys/kernel/x"),
    ),
    # An engine that starts nothing, and a program that no engine can start.
    Cause(
        name="runc-without-cgroups",
        verdict=ENGINE,
        dockerfile=_run("echo hello"),
        before="for group in /sys/fs/cgroup /sys/fs/cgroup/*; do mount -o remount,bind,ro $group; done",
    ),
    Cause(
        name="runc-reports-an-error",
        verdict=ENGINE,
        dockerfile=_run("echo hello"),
        before=FAKE_RUNC.format(
            "echo runc run failed: unable to start container process: error during container init >&2; exit 1",
            "755",
            RUNC,
        ),
    ),
    Cause(
        name="runc-dies",
        verdict=ENGINE,
        dockerfile=_run("echo hello"),
        before=FAKE_RUNC.format("kill -SEGV $$", "755", RUNC),
    ),
    Cause(
        name="runc-not-executable",
        verdict=ENGINE,
        dockerfile=_run("echo hello"),
        before=FAKE_RUNC.format("", "644", RUNC),
    ),
    Cause(name="no-shell-in-image", verdict=BUILD, dockerfile=_BASE + "RUN echo hello\n"),
    Cause(name="no-such-program", verdict=BUILD, dockerfile=_BASE + 'RUN ["nothing", "here"]\n'),
    Cause(name="not-executable", verdict=BUILD, dockerfile=_BASE + 'COPY Dockerfile /x\nRUN ["/x"]\n'),
    Cause(name="a-folder-as-program", verdict=BUILD, dockerfile=_BASE + 'RUN ["/bin"]\n'),
    Cause(name="unknown-user", verdict=BUILD, dockerfile=_BASE + 'USER nobody\nRUN ["/bin/busybox", "true"]\n'),
    Cause(
        name="closed-workdir", verdict=BUILD, dockerfile=_BASE + 'WORKDIR /bin/busybox\nRUN ["/bin/busybox", "true"]\n'
    ),
    Cause(
        name="exec-format-native",
        verdict=BUILD,
        dockerfile=_run("echo hello", "FROM scratch\nCOPY busybox-no-elf /bin/busybox\n"),
    ),
    # containerd and the engine gone.
    Cause(
        name="containerd-gone-in-step",
        verdict=ENGINE,
        containerd_service=True,
        dockerfile=_run("echo begun; /bin/busybox sleep 5; echo end") + 'RUN ["/bin/busybox", "true"]\n',
        word="begun",
        then="kill -9 $(pidof containerd)",
    ),
    Cause(
        name="engine-gone-in-step",
        verdict=ENGINE,
        dockerfile=_run("echo begun; /bin/busybox sleep 60"),
        word="begun",
        then="kill -9 $(pidof dockerd)",
    ),
    # The engine's own requests.
    Cause(
        name="syntax-no-dns",
        verdict=RESOLVE,
        needs_session=True,
        dockerfile="# syntax=docker/dockerfile:1\n" + _run("echo hello"),
        before=NAMESERVER.format("127.0.0.1"),
    ),
    Cause(
        name="syntax-dns-silent",
        verdict=RESOLVE,
        needs_session=True,
        dockerfile="# syntax=docker/dockerfile:1\n" + _run("echo hello"),
        before=NAMESERVER.format("192.0.2.1") + "; iptables -A OUTPUT -p udp --dport 53 -j DROP",
    ),
    Cause(
        name="syntax-connection-refused",
        verdict=RESOLVE,
        needs_session=True,
        dockerfile="# syntax=127.0.0.1:5055/dockerfile:1\n" + _run("echo hello"),
    ),
    *(
        Cause(
            name=f"syntax-answers-{status}",
            verdict=BUILD if status in {401, 403, 404} else RESOLVE,
            needs_session=True,
            says_nothing="26.1-buildx" if status in {401, 403, 404} else "",
            dockerfile="# syntax=127.0.0.1:5055/dockerfile:1\n" + _run("echo hello"),
            before=_ANSWER.replace("{status}", str(status)),
        )
        for status in (401, 403, 404, 429, 500, 503)
    ),
    Cause(
        name="base-no-dns",
        verdict=RESOLVE,
        dockerfile="FROM docker.io/library/nothing:1\n",
        before=NAMESERVER.format("127.0.0.1"),
        needs_session=True,
    ),
    Cause(
        name="add-no-dns",
        verdict=RESOLVE,
        dockerfile=_BASE + "ADD https://files.example/x /x\n",
        before=NAMESERVER.format("127.0.0.1"),
    ),
    # Memory.
    Cause(name="killed-for-memory", verdict=MEMORY, dockerfile=_run("/bin/busybox tail /dev/zero"), before=_LIMIT),
    Cause(
        name="child-killed-for-memory",
        verdict=MEMORY,
        dockerfile=_run("/bin/busybox tail /dev/zero; exit 1"),
        before=_LIMIT,
    ),
    Cause(name="kills-itself", verdict=BUILD, dockerfile=_run("/bin/busybox sh -c 'kill -9 $$'; exit $?")),
    # QEMU.
    Cause(
        name="crash-ends-step",
        verdict=EMULATOR,
        platform="linux/arm64",
        dockerfile=_run("/bin/busybox sh -c 'kill -SEGV $$'; exit 1", _ARM64),
    ),
    Cause(
        name="crash-passed-on",
        verdict=EMULATOR,
        platform="linux/arm64",
        dockerfile=_run("/bin/busybox sh -c 'kill -SEGV $$' || { s=$?; echo make: Error $s; exit $s; }", _ARM64),
    ),
    Cause(
        name="crash-of-the-emulator-itself",
        verdict=EMULATOR,
        platform="linux/arm/v7",
        dockerfile=_run("QEMU_CPU=arm1176 /bin/busybox true || exit $?", _ARMV7),
    ),
    Cause(
        name="crash-on-purpose-then-error",
        verdict=BUILD,
        platform="linux/arm64",
        dockerfile=_run(
            "/bin/busybox sh -c 'kill -SEGV $$' || echo as it should be; echo main.c:1:5: error: unknown; exit 1",
            _ARM64,
        ),
    ),
    Cause(
        name="foreign-ordinary-failure",
        verdict=BUILD,
        platform="linux/arm64",
        dockerfile=_run("echo no; exit 3", _ARM64),
    ),
    # The network of a step, and steps that only talk of it.
    Cause(
        name="wget-no-dns",
        verdict=NETWORK,
        dockerfile=_run("/bin/busybox wget http://files.example/x"),
        before=NAMESERVER.format("127.0.0.1"),
    ),
    Cause(
        name="wget-answers-503",
        verdict=NETWORK,
        dockerfile=_run(
            """/bin/busybox wget http://$(/bin/busybox ip route | /bin/busybox awk '/default/ {print $3}'):5055/x"""
        ),
        before=_ANSWER.replace("{status}", "503"),
    ),
    Cause(name="wget-refused", verdict=NETWORK, dockerfile=_run("/bin/busybox wget http://127.0.0.1:9/x")),
    Cause(
        name="ordinary-exit-code", verdict=BUILD, dockerfile=_run("echo main.c:1: error: expected expression; exit 2")
    ),
    Cause(name="parse-error", verdict=BUILD, dockerfile="FROM scratch\nRUN --nonsense x\n"),
    Cause(name="missing-file", verdict=BUILD, dockerfile="FROM scratch\nCOPY nowhere /\n"),
)
