"""In the place of a board's python: `liar.py OPERATION WHAT ARGUMENTS…` runs the real agent, and answers one operation.

It is copied to a board, and needs nothing but Python.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any, BinaryIO

_NESTED = b"[" * 100_000


def lies(number: int, what: str) -> list[bytes]:
    """The lines that are sent in place of the answer to this request."""
    answers: dict[str, list[bytes]] = {
        "deep": [b'{"id":%d,"ok":%s' % (number, _NESTED)],
        "surrogate": [b'{"id":%d,"ok":{"machine":"\\ud800","message":"\\udfff"}}' % number],
        "types": [b'{"id":%d,"ok":[1,{}]}' % number, b'{"id":[%d],"ok":7}' % number],
        "bytes": [bytes(range(128, 256)), b'{"id":%d,"ok":{"state":"\xff\xfe"}}' % number],
        "code": [b'{"id":%d,"error":{"code":"refused","message":"\\ud800 no","holder":7}}' % number],
        "nothing": [],
    }
    return answers[what]


def main(operation: str, what: str, arguments: list[str]) -> int:
    agent = subprocess.Popen(["/usr/bin/python3", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert agent.stdin is not None
    assert agent.stdout is not None
    numbers: set[int] = set()
    out = threading.Lock()
    threading.Thread(target=_relay, args=(agent.stdin, operation, what, numbers, out), daemon=True).start()
    for line in agent.stdout:
        if not (numbers and _is_of(line, numbers)):
            _send(out, line)
    return agent.wait()


def _relay(agent: BinaryIO, operation: str, what: str, numbers: set[int], out: threading.Lock) -> None:
    for line in sys.stdin.buffer:
        request: dict[str, Any] = json.loads(line)
        if request.get("op") != operation:
            agent.write(line)
            agent.flush()
            continue
        numbers.add(request["id"])
        if what == "endless":
            while True:
                _send(out, b'{"id":%d,"event":{"log":"%s","offset":0}}\n' % (request["id"], b"x" * 1000))
        for lie in lies(request["id"], what):
            _send(out, lie + b"\n")
    agent.close()


def _is_of(line: bytes, numbers: set[int]) -> bool:
    try:
        return json.loads(line).get("id") in numbers
    except ValueError:
        return False


def _send(out: threading.Lock, line: bytes) -> None:
    with out:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
