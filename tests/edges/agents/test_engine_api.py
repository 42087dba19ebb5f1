"""The engine's socket: what is said when nobody answers, and streams that end in every way."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agents.base.errors import AgentError
from agents.engine.engine_api import EngineSocket, RefusedError, find_socket, target, translated
from agents.engine.engine_stream import Stream, aborted_by

HEAD = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"

Script = Callable[[socket.socket], None]


@pytest.fixture
def engine_that(tmp_path: Path) -> Iterator[Callable[[Script], str]]:
    """Starts an engine that does to its one connection what the script says."""
    listener = socket.socket(socket.AF_UNIX)
    path = str(tmp_path / "engine.sock")
    threads: list[threading.Thread] = []

    def start(script: Script) -> str:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            with suppress(OSError):
                near, _ = listener.accept()
                near.settimeout(60)
                with near:
                    script(near)

        threads.append(threading.Thread(target=serve))
        threads[0].start()
        return path

    yield start
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def answer(status: int, *bodies: bytes, last: bytes = b"0\r\n\r\n") -> Script:
    """Reads the request's head and answers; without `last` the connection is cut."""

    def script(near: socket.socket) -> None:
        while b"\r\n\r\n" not in (heard := near.recv(65536)):
            assert heard, "the request has no end"
        near.sendall(HEAD % status + b"".join(map(chunk, bodies)) + last)

    return script


def reason(error: AgentError) -> tuple[str, object]:
    return error.code, error.detail["reason"]


def test_an_engine_that_is_not_installed_is_absent(tmp_path):
    """No socket: no engine."""
    with pytest.raises(AgentError, match=r"none\.sock does not exist") as refused:
        EngineSocket(str(tmp_path / "none.sock")).version()

    assert reason(refused.value) == ("engine", "absent")


def test_an_engine_that_does_not_run_is_down(tmp_path):
    """A socket nobody listens on is what an engine leaves that was killed."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left.sock"))

    with pytest.raises(AgentError, match="Connection refused") as refused:
        EngineSocket(str(tmp_path / "left.sock")).version()

    assert reason(refused.value) == ("engine", "down")


def test_a_user_without_the_right_is_told_which_group(tmp_path):
    """The socket's own group is the one to join."""
    path = tmp_path / "engine.sock"
    path.touch()

    with pytest.raises(AgentError, match=f"usermod -aG {path.group()} ") as refused, translated(str(path)):
        raise PermissionError

    assert reason(refused.value) == ("engine", "denied")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b""])
def test_what_is_no_engine_is_odd(body, engine_that):
    """Something else may listen there."""
    with pytest.raises(AgentError) as refused:
        EngineSocket(engine_that(answer(200, body) if body else answer(200))).version()

    assert reason(refused.value) == ("engine", "odd")


def test_an_engines_refusal_is_its_own_sentence(engine_that):
    """The status tells programs, the message tells people."""
    engine = EngineSocket(engine_that(answer(404, json.dumps({"message": "No such image: x"}).encode())))

    with pytest.raises(RefusedError, match=r"^No such image: x$") as refused:
        engine.call("GET", "/images/x/json")

    assert refused.value.status == 404


def test_a_socket_is_looked_for_where_engines_put_them(tmp_path, engine_that):
    """DOCKER_HOST decides; a rootless engine is found by its user's runtime folder."""
    assert find_socket({"DOCKER_HOST": "unix:///some/where.sock"}) == "/some/where.sock"
    with pytest.raises(AgentError, match="tcp://pi:2375") as refused:
        find_socket({"DOCKER_HOST": "tcp://pi:2375"})
    assert reason(refused.value) == ("engine", "odd")
    assert find_socket({"XDG_RUNTIME_DIR": str(tmp_path)}).endswith("/docker.sock")


def test_names_and_values_survive_the_query():
    """Whatever is in an argument arrives as it was; names of images keep their separators."""
    assert target("/images/127.0.0.1:5/a@sha256:b/push") == "/images/127.0.0.1:5/a@sha256:b/push"
    assert target("/build", {"labels": '{"a":"b&c=ü"}'}) == "/build?labels=%7B%22a%22%3A%22b%26c%3D%C3%BC%22%7D"


def test_a_stream_gives_objects_as_they_come(engine_that):
    """One object a line, however the engine cuts its chunks."""
    path = engine_that(answer(200, b'{"a":', b'1}\r\n{"b":2}\r\n\r\n', b'{"c":3}'))

    assert list(Stream(path).post("/x")) == [{"a": 1}, {"b": 2}, {"c": 3}]


@pytest.mark.parametrize("last", [b"", b"5\r\n{"])
def test_a_stream_that_is_cut_just_ends(last, engine_that):
    """Whoever reads has to know the last word of what they asked for."""
    path = engine_that(answer(200, b'{"a":1}\n', b'{"b"', last=last))

    assert list(Stream(path).post("/x")) == [{"a": 1}]


def test_a_refusal_in_the_middle_of_the_body_is_heard(engine_that):
    """The engine may say no, and stop reading, before all is sent: its sentence counts, not the broken pipe."""

    def refuse(near: socket.socket) -> None:
        near.recv(100)
        body = b'{"message":"dockerfile parse error"}'
        near.sendall(HEAD % 400 + chunk(body) + b"0\r\n\r\n")
        near.shutdown(socket.SHUT_RD)

    def send(emit: Callable[[bytes], None]) -> None:
        for _ in range(1000):
            emit(b"." * 65536)

    with pytest.raises(RefusedError, match="dockerfile parse error"):
        list(Stream(engine_that(refuse)).post("/build", {}, send))


def test_an_event_ends_a_stream_that_is_silent(engine_that):
    """`aborted_by` closes the connection, which is how an engine learns that nobody wants its work any more."""
    cancelled, closed = threading.Event(), threading.Event()

    def stall(near: socket.socket) -> None:
        near.recv(65536)
        near.sendall(HEAD % 200 + chunk(b'{"a":1}\n'))
        cancelled.set()
        if not near.recv(1):
            closed.set()

    stream = Stream(engine_that(stall))
    with aborted_by(cancelled, stream):
        assert list(stream.post("/x")) == [{"a": 1}]

    assert closed.wait(10)


def test_a_stream_that_was_aborted_is_not_opened(tmp_path):
    """`abort` may come first; then not even the engine's absence matters."""
    stream = Stream(str(tmp_path / "none.sock"))
    stream.abort()

    with pytest.raises(AgentError, match="dropped"):
        list(stream.post("/x"))
