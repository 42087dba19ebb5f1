"""What an agent tells of its host while it is pinged: at once, whatever hangs there."""

from __future__ import annotations

import io
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agents.base.errors import AgentError
from agents.job.engine_facts import EngineFacts
from agents.server import control
from agents.server.vitals import Watch, beating, read_disk
from agents.wire.frames import Replies
from tests.services.paths import CASES

PATIENCE = 20.0
PING, PONG = (CASES / "wire" / "ping.jsonl").read_bytes().splitlines(keepends=True)


def until(done: Callable[[], bool]) -> None:
    """Fails where it does not come true."""
    for _ in range(int(PATIENCE * 100)):
        if done():
            return
        time.sleep(0.01)
    raise AssertionError("it does not come true")


class Check:
    """Hangs once it is told to, until it is let go; and counts how often it was asked."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.free.set()
        self.fails = False
        self.asked = 0

    def __call__(self) -> None:
        self.asked += 1
        assert self.free.wait(PATIENCE)
        if self.fails:
            raise AgentError("engine", "down", reason="down")


def test_what_answers_is_not_silent():
    """Asked again and again, by one thread."""
    check = Check()
    watch = Watch(check, pause=0.01)

    until(lambda: watch.silence() == 0.0 and check.asked > 3)
    assert watch.silence() == 0.0


@pytest.mark.parametrize("how", ["hangs", "fails"])
def test_a_silence_grows_until_there_is_an_answer(how: str):
    """Also where the check never comes back: nobody waits for it."""
    check = Check()
    watch = Watch(check, pause=0.01)
    if how == "hangs":
        check.free.clear()
    check.fails = how == "fails"
    until(lambda: watch.silence() > 1.2)
    longer = watch.silence() + 0.2
    until(lambda: watch.silence() > longer)

    check.fails = False
    check.free.set()
    until(lambda: watch.silence() == 0.0)


def test_a_ping_is_answered_while_everything_else_hangs(tmp_path: Path):
    """By the thread that reads the requests, and not in turn with those that wait."""
    hangs = threading.Event()
    (tmp_path / "jobs").mkdir()

    def observe() -> dict[str, object]:
        assert hangs.wait(PATIENCE)
        return {}

    asks, answers = os.pipe(), os.pipe()
    with (
        os.fdopen(asks[0], "rb") as stream,
        os.fdopen(asks[1], "wb", buffering=0) as asking,
        os.fdopen(answers[0], "rb") as heard,
        os.fdopen(answers[1], "wb", buffering=0) as told,
    ):
        server = control.Server(tmp_path, operations(observe, hangs.wait), Replies(told))
        serving = threading.Thread(target=server.run, args=(stream,))
        serving.start()
        asking.write(b'{"id": 1, "op": "probe"}\n' * 50 + PING)
        assert json.loads(heard.readline()) == json.loads(PONG) | {"ok": {"engine": 0.0, "disk": 0.0}}
        hangs.set()
        assert {heard.readline() for _ in range(50)} == {b'{"id": 1, "ok": {}}\n'}
        asking.close()
        serving.join(PATIENCE)
        assert not serving.is_alive()


def operations(observe: Callable[[], dict[str, object]], ping: Callable[[], object]) -> control.Operations:
    def never(*_: object) -> None:
        raise AssertionError

    return control.Operations(
        observe=observe,
        engine=lambda: EngineFacts("", "", "", "", ()),
        pull=never,
        push=never,
        discard=never,
        lacking=list,
        save=never,
        load=never,
        prune=int,
        job_command=(),
        ping_engine=ping,
        remove_leaked=never,
    )


def test_a_disk_is_read_past_the_cache(tmp_path: Path):
    """Where the file is on no disk, or is not there, that is no error: it is only not known."""
    (tmp_path / "version").write_text("1")
    for path in (tmp_path / "version", tmp_path / "missing", Path("/proc/version"), Path("/dev/shm")):
        read_disk(str(path))


def test_an_agent_at_work_says_so(tmp_path: Path):
    """Lines that stand for nothing, until the work is done."""
    stream = io.BytesIO()
    with beating(Replies(stream), str(tmp_path), 0.01):
        until(lambda: len(stream.getvalue()) > 3)
    assert set(stream.getvalue()) == {ord("\n")}
