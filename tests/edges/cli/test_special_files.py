"""Pipes, devices and folders where a file is named; output that cannot be written; users without a home or a name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from coordinator.hosts.agent.bundle import bundle
from tests.acceptance.archloom import COMMAND, Home
from tests.services.commands import run_limited
from tests.services.missing import missing
from tests.services.paths import ROOT

# A user whom this machine has no entry for.
STRANGER = 54321
BUILD = ("build", ".", "-t", "127.0.0.1:1/app")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    return Home(tmp_path)


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """A device as /dev/null is one: never that one itself, which root may replace."""
    path = tmp_path / "device"
    try:
        os.mknod(path, 0o020666, os.makedev(1, 3))
    except PermissionError:
        missing("root is needed, to make a device")
    return path


@pytest.mark.parametrize(
    "words",
    [
        ("inventory", "check", "-i", "pipe"),
        ("boards", "-i", "pipe"),
        ("boards", "add", "local", "-i", "pipe"),
        ("boards", "remove", "pi5", "-i", "pipe"),
        ("plan", ".", "-t", "127.0.0.1:1/app", "-f", "pipe"),
        (*BUILD, "-i", "pipe"),
        (*BUILD, "-f", "pipe"),
        (*BUILD, "--metadata-file", "pipe"),
        (*BUILD, "--iidfile", "pipe"),
        ("boards", "import", "ssh-config", "pipe"),
        ("boards", "import", "ansible", "pipe"),
    ],
    ids=lambda words: " ".join(words[:3] + words[-2:]),
)
def test_a_named_pipe_is_no_file(home: Home, words: tuple[str, ...]):
    """Nobody writes to it, and nobody would ever: it is said, and not waited for."""
    refused = home.run(*words)

    assert refused.returncode == 2, refused.stderr
    assert "named pipe" in refused.stderr


@pytest.mark.parametrize("name", ["config", "known_hosts"])
def test_configuration_of_ssh_that_is_a_pipe_is_said(home: Home, name: str):
    path = home.folder / ".ssh" / name
    path.parent.mkdir()
    os.mkfifo(path)

    refused = home.run("boards", "add", "pi@127.0.0.1")

    assert refused.returncode in (2, 5), refused.stderr
    assert f"cannot read {path}: it is a named pipe" in refused.stderr


def test_a_log_that_nobody_reads_is_said(home: Home):
    refused = home.run("runs", environment={"ARCHLOOM_LOG": "pipe"})

    assert refused.returncode == 2
    assert "it is a named pipe that nobody reads" in refused.stderr


def test_a_shells_pipe_is_read(home: Home):
    """`<(command)`, which some make their inventory with."""
    command = f"{COMMAND} inventory check -i <(echo 'emulators: {{local: local}}')"

    done = run_limited(["bash", "-c", command], env=home.environment, cwd=home.folder, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "1 emulator" in done.stdout


@pytest.mark.parametrize("words", [("boards", "add", "local"), ("inventory", "check"), ("boards",)])
def test_a_device_stays_what_it_is(home: Home, device: Path, words: tuple[str, ...]):
    """Root may replace what is in /dev: no command does."""
    before = device.stat()

    refused = home.run(*words, "-i", "device")

    assert (refused.returncode, "it is a device, not a file" in refused.stderr) == (2, True), refused.stderr
    assert (device.stat().st_ino, device.stat().st_rdev) == (before.st_ino, before.st_rdev)


@pytest.mark.parametrize("flag", ["-q", "--json", "-d"])
def test_output_that_nobody_gets_ends_a_build_before_it_begins(home: Home, flag: str):
    """The digest is all that the command is run for. A closed stream is another matter: it was closed on purpose."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(os.devnull) as unwritable, os.fdopen(writing, "wb") as unread:  # noqa: PTH123
        for stdout, reason in ((unwritable, "it is open for reading only"), (unread, "nobody reads it")):
            refused = run_limited(
                [COMMAND, *BUILD, flag],
                env=home.environment,
                cwd=home.folder,
                stdout=stdout,
                stderr=subprocess.PIPE,
                text=True,
            )

            assert refused.returncode == 2
            assert refused.stderr.splitlines()[0] == f"error: cannot write to standard output: {reason}"


def test_a_closed_stream_is_open_by_its_own_number():
    """A process that is forked, and closes all others, can still write to it."""
    code = "import sys; from coordinator.cli import main; main._open_closed_streams(); sys.exit(sys.stdout.fileno())"
    command = f'exec {sys.executable} -c "{code}" >&-'

    done = run_limited(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (1, "")


@pytest.fixture
def nowhere() -> Iterator[Path]:
    """A folder that everybody may read: pytest's own are root's alone."""
    with TemporaryDirectory() as made:
        path = Path(made)
        path.chmod(0o755)
        (path / "Dockerfile").write_text("FROM scratch\n")
        yield path


def as_a_stranger(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command, in an empty environment but for the words before it; it may read what root may read."""
    if os.geteuid():
        missing("root is needed, to be somebody else")
    reads = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")
    command = ["setpriv", f"--reuid={STRANGER}", "--clear-groups", *reads, "--", "env", "-i", *words]
    return run_limited(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("runs",), 2),
        (("boards",), 0),
        (("inventory", "check"), 0),
        (("boards", "add", "ssh://pi@127.0.0.1:1"), 5),
        (("plan", ".", "-t", "127.0.0.1:1/app", "--platform", "linux/amd64"), 5),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else str(value),
)
def test_a_user_without_home_and_name_gets_clear_errors(nowhere: Path, words: tuple[str, ...], code: int):
    """As with `docker run --user 54321` and an image that has no such user."""
    done = as_a_stranger(nowhere, COMMAND, *words)

    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr


def test_such_a_user_has_runs_where_a_state_folder_is_given(nowhere: Path):
    state = nowhere / "state"
    state.mkdir()
    os.chown(state, STRANGER, -1)

    done = as_a_stranger(nowhere, f"XDG_STATE_HOME={state}", COMMAND, "runs")

    assert (done.returncode, done.stderr) == (0, "no runs yet\n")


def test_the_agent_of_such_a_user_starts(nowhere: Path):
    """On a host, and here: its state goes to a folder that everybody may write to."""
    done = as_a_stranger(nowhere, sys.executable, "-I", "-S", str(bundle({"XDG_CACHE_HOME": str(nowhere)})), "serve")

    try:
        assert '"protocol"' in done.stdout, done.stderr
        assert f"/archloom-{STRANGER}/archloom-agent/" in done.stdout
    finally:
        shutil.rmtree(f"/var/tmp/archloom-{STRANGER}")
