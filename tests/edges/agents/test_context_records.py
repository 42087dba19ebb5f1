"""The engine's records of folders that are gone: removed, and tried again as long as they are there."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from agents.engine import context_records
from agents.engine.context_records import Copied
from agents.engine.engine_api import EngineSocket
from agents.job.context_places import DROPPED, RECORDS, ROOT

NOTHING = Copied(0.0, 0.0, {})


class Engine(socketserver.ThreadingUnixStreamServer):
    """A build cache: ids of records, and of those that a build uses."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.records = {"a", "b", "other"}
        self.used = {"b"}
        self.asked: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: Engine

    def do_GET(self) -> None:
        self._answer({"BuildCache": [{"ID": number} for number in sorted(self.server.records)]})

    def do_POST(self) -> None:
        filters = json.loads(parse_qs(urlsplit(self.path).query)["filters"][0])
        self.server.records -= set(filters["id"]) - self.server.used
        self._answer({"SpaceReclaimed": 0})

    def _answer(self, what: object) -> None:
        self.server.asked.append(self.path.partition("?")[0])
        body = json.dumps(what).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(tmp_path / "engine.sock") as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join(60)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    place = tmp_path / ROOT / "key" / "1"
    (place / "key-1").mkdir(parents=True)
    (place / RECORDS).write_text(json.dumps({"name": "key-1", "ids": []}))
    return place / "key-1"


def test_a_record_in_use_is_tried_again(engine: Engine, context: Path, tmp_path: Path):
    """What is not listed stays, and an engine that has nothing to remove is not asked."""
    (tmp_path / ROOT / DROPPED).write_text("a\nb\ngone\n")
    client = EngineSocket(str(tmp_path / "engine.sock"))

    context_records.settle(client, context, NOTHING)
    assert engine.records == {"b", "other"}
    engine.used.clear()
    context_records.settle(client, context, NOTHING)
    assert engine.records == {"other"}

    asked = len(engine.asked)
    context_records.settle(client, context, NOTHING)
    assert len(engine.asked) == asked
