"""What every command shares: help without loading anything, errors in one form, exit codes, and no traceback."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from coordinator import __version__
from coordinator.cli.environment import read_environment
from coordinator.cli.failures import report_errors
from coordinator.cli.main import COMMANDS, run
from coordinator.cli.output import in_colour, print_error, print_message
from coordinator.config.documents import schema
from coordinator.errors import BuildFailedError, LostError, RegistryError, UsageError
from tests.services.commands import run_limited
from tests.services.paths import ROOT

IMPORTED_AT = time.time()
HEAVY = ("click", "pydantic", "ruamel", "rich", "docker", "httpx2", "asyncssh", "paramiko", "sqlite3", "asyncio")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def failing(error: BaseException):
    def action() -> int:
        raise error

    return action


def python(code: str, **more) -> subprocess.CompletedProcess[str]:
    return run_limited([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, **more)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_lists_every_command(words, capsys):
    """Help goes to stdout, with a line per command, and is no error."""
    assert run(words) == 0
    told = capsys.readouterr()
    assert told.err == ""
    for name, text in COMMANDS.items():
        assert f"{name} " in told.out
        assert text in told.out
    assert max(map(len, told.out.splitlines())) <= 80


def test_help_loads_nothing_heavy():
    """`archloom --help` and `--version` import no library: they must feel instant on a Raspberry Pi."""
    code = f"""
import sys
from coordinator.cli.main import run
assert run(["--help"]) == run(["--version"]) == 0
sys.exit(", ".join(name for name in {HEAVY!r} if name in sys.modules))
"""
    assert python(code).stderr.strip() == ""


def test_a_command_is_loaded_when_it_is_asked_for(capsys):
    """Each command is a click command called `command` in the module of its name."""
    assert run(["inventory", "--help"]) == 0
    assert "Usage: archloom inventory" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "status"), [(["--version"], 0), (["--no-such-option"], 2)])
def test_nothing_is_freed_before_the_process_ends(words, status):
    """At its end Python is spared the search for garbage: it took as long as the start of a short command."""
    code = f"""
import sys
from coordinator.cli.main import main

class Garbage:
    def __del__(self):
        print("freed")

garbage = Garbage()
garbage.itself = garbage
del garbage
sys.argv = ["archloom", *{words!r}]
main()
"""
    ended = python(code)
    assert (ended.returncode, "freed" in ended.stdout) == (status, False)


def test_version(capsys):
    """`--version` prints the one version there is."""
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"archloom {__version__}\n"


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["biuld"], "no such command: biuld", "did you mean build?"),
        (["deploy"], "no such command: deploy", "archloom --help"),
        (["--hlp"], "no such option: --hlp", "did you mean --help?"),
        (["-x", "build"], "no such option: -x", "archloom --help"),
        (["inventory", "chekc"], "no such command: chekc", "did you mean check?"),
        (["inventory", "check", "--jsno"], "no such option: --jsno", "did you mean --json?"),
        (["inventory", "check", "--zzz"], "no such option: --zzz", "archloom inventory check --help"),
        (["inventory", "check", "-i"], "option '-i' requires an argument", "archloom inventory --help"),
        (
            ["inventory", "check", "x"],
            "got unexpected extra argument (x)",
            "archloom inventory check --help",
        ),
    ],
)
def test_a_wrong_command_line_is_answered_with_the_right_one(words, message, hint, capsys):
    """Exit 2, one line that says what, one that says what to do; nothing on stdout."""
    assert run(words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == f"error: {message}\nhint: {hint}\n"


def test_a_group_alone_shows_its_help(capsys):
    """`archloom inventory` says what it can do."""
    assert run(["inventory"]) == 0
    assert "check" in capsys.readouterr().out


def test_several_lines_stay_together(capsys):
    """Further lines of a message or a hint are indented below their first one."""
    print_error(UsageError("two\nlines", hint="paste\nthis"))
    assert capsys.readouterr().err == "error: two\n  lines\nhint: paste\n      this\n"


def test_an_error_cannot_drive_the_terminal(capsys):
    """What a board or a registry said may be in it."""
    print_error(UsageError("found \x1b[2J", hint="not \x1b]0;mine\x07"))
    print_message("pi5: \x1b[2J")
    assert capsys.readouterr().err == "error: found \\x1b[2J\nhint: not \\x1b]0;mine\\x07\npi5: \\x1b[2J\n"


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colour_is_for_terminals_that_want_it(environ, wanted):
    """NO_COLOR with any value but an empty one turns colour off, as no-color.org says; so does not being a terminal."""
    assert in_colour(Terminal(), environ) is wanted
    assert not in_colour(io.StringIO(), environ)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (BuildFailedError("x"), 4),
        (RegistryError("x"), 6),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (ExceptionGroup("both", [UsageError("x"), UsageError("y")]), 2),
        (ExceptionGroup("both", [LostError("x"), ExceptionGroup("in", [BuildFailedError("y")])]), 4),
        (BaseExceptionGroup("both", [KeyboardInterrupt(), LostError("y")]), 130),
    ],
)
def test_an_error_ends_with_its_exit_code(error, code, capsys, tmp_path, monkeypatch):
    """Each class has its code; of several errors all are shown and the worst decides."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert report_errors(failing(error)) == code
    told = capsys.readouterr()
    assert told.out == ""
    leaves = 2 if isinstance(error, BaseExceptionGroup) else 1
    assert told.err.count("error: ") == leaves


def test_a_bug_is_one_line_and_a_file(tmp_path, monkeypatch, capsys):
    """An error nobody foresaw is named in a line; its traceback is kept for a report and never shown."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert report_errors(failing(ValueError("first\nsecond"))) == 1
    told = capsys.readouterr().err
    (report,) = (tmp_path / "archloom" / "bugs").iterdir()
    assert told == f"error: bug: ValueError: first second\nhint: please report it, with {report}\n"
    assert "Traceback" in report.read_text("utf-8")
    assert f"archloom {__version__}" in report.read_text("utf-8")
    assert report.stat().st_mode & 0o077 == 0


def test_a_bug_is_kept_even_without_a_state_folder(tmp_path, monkeypatch, capsys):
    """Where the state folder cannot be written, the traceback goes to a temporary file."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert report_errors(failing(ZeroDivisionError())) == 1
    report = Path(capsys.readouterr().err.rsplit(" ", 1)[1].strip())
    assert "ZeroDivisionError" in report.read_text("utf-8")
    report.unlink()


def test_sys_exit_is_left_alone():
    """Only SystemExit passes: a driver that forks ends its child with it."""
    with pytest.raises(SystemExit):
        report_errors(failing(SystemExit(7)))


@pytest.mark.parametrize("words", [["inventory", "schema"], ["--help"]])
def test_a_reader_that_goes_away_is_no_error(words):
    """`archloom … | head -0` ends quietly, as a program that SIGPIPE ended."""
    reader, writer = os.pipe()
    os.close(reader)
    code = f"from coordinator.cli.main import run; import sys; sys.exit(run({words!r}))"
    ended = run_limited([sys.executable, "-c", code], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_an_error_without_a_reader_keeps_its_code():
    """With stderr gone too the exit code is what is left."""
    reader, writer = os.pipe()
    os.close(reader)
    code = "from coordinator.cli.main import run; import sys; sys.exit(run(['nope']))"
    ended = run_limited([sys.executable, "-c", code], cwd=ROOT, stdout=writer, stderr=writer)
    os.close(writer)
    assert ended.returncode == 2


def test_a_broken_pipe_elsewhere_is_not_a_reader_that_goes_away(tmp_path, monkeypatch, capfd):
    """A pipe to some child that breaks is an error like any other."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert report_errors(failing(BrokenPipeError())) == 1
    assert "error: bug: BrokenPipeError" in capfd.readouterr().err


def test_the_module_is_the_command():
    """`python -m coordinator` is `archloom`."""
    ended = run_limited([sys.executable, "-m", "coordinator", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, f"archloom {__version__}\n")


def test_inventory_schema(capsys):
    """`archloom inventory schema` prints the JSON schema and nothing else."""
    assert run(["inventory", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()


def test_inventory_check_counts_the_hosts(tmp_path, monkeypatch, capsys):
    """A good file is summed up in a line, or in full as JSON."""
    monkeypatch.chdir(tmp_path)
    text = "boards: {a: , b: }\nemulators: {local: }\nregistries: {nas.lan: {http: true}}\n"
    (tmp_path / "inventory.yaml").write_text(text)
    monkeypatch.delenv("ARCHLOOM_INVENTORY", raising=False)
    assert run(["inventory", "check"]) == 0
    assert capsys.readouterr().out == "inventory.yaml: 2 boards, 1 emulator, 1 registry\n"
    assert run(["inventory", "check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "source": str(tmp_path / "inventory.yaml"),
        "boards": ["a", "b"],
        "emulators": ["local"],
        "registries": ["nas.lan"],
    }


def test_inventory_check_without_a_file(tmp_path, monkeypatch, capsys):
    """No file is fine, and the output says what is used instead."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ARCHLOOM_INVENTORY", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert run(["inventory", "check"]) == 0
    assert capsys.readouterr().out == "no inventory file: this machine is used, as the emulator `local`\n"


def test_inventory_check_tells_every_problem(tmp_path, monkeypatch, capsys):
    """A bad file ends with exit 2 and all its problems on stderr."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "farm.yaml").write_text("boards:\n  a: {jobs: 0}\n  b: {sped: 1}\n")
    assert run(["inventory", "check", "-i", "farm.yaml"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()[:2] == [
        "error: 2 problems in farm.yaml",
        "  farm.yaml:2:13: boards.a.jobs: expected a whole number from 1 to 64, found 0",
    ]


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_discards_what_is_printed(tmp_path: Path, closed: str):
    """A file that is opened next would have its number: here the store, which stays a store."""
    command = f"{sys.executable} -m coordinator runs --json {closed}"
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}

    for _ in range(2):
        ended = run_limited(["sh", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True)

        assert (ended.returncode, "bug" in ended.stderr) == (0, False)


def test_a_folder_that_is_gone_is_said(tmp_path: Path):
    folder = tmp_path / "gone"
    folder.mkdir()
    command = f"cd {folder} && rmdir {folder} && exec {sys.executable} -m coordinator runs"
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}

    ended = run_limited(["sh", "-c", command], env=environment, capture_output=True, text=True)

    assert (ended.returncode, ended.stderr.splitlines()) == (
        2,
        ["error: the current folder no longer exists", "hint: cd to a folder that does"],
    )


def test_a_command_begins_when_its_process_was_started():
    """The durations that a user reads have the beginning that `time archloom …` has: imports count."""
    began = read_environment().began

    assert began is not None
    assert began < IMPORTED_AT < began + 3600
