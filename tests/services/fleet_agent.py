"""The agent of a board by script, for farms too large for a real one per board: greets, and answers probes."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tests.services.fleet import Behaviour, Reply
from tests.services.paths import CASES

_STARTS_THE_AGENT = "archloom-boot"
# As the script that starts it says it, and `agents/README.md`.
_IS_THERE = b"\narchloom-boot here \n"


def observed(case: str) -> Mapping[str, object]:
    """What a probe of such a board finds: a case of `tests/cases/observations`."""
    found: Mapping[str, object] = json.loads((CASES / "observations" / f"{case}.json").read_text("utf-8"))
    return found


def probed(observation: Mapping[str, object]) -> Behaviour:
    """A board whose agent is there already and answers every probe with this. Any other request fails."""

    def answer(line: bytes) -> bytes:
        request = json.loads(line)
        refused = {"error": {"code": "bug", "message": f"a scripted agent does not {request['op']}"}}
        body = {"ok": observation} if request["op"] == "probe" else refused
        return json.dumps({"id": request["id"], **body}).encode() + b"\n"

    hello = (CASES / "wire" / "hello.txt").read_bytes()
    return Behaviour(replies={_STARTS_THE_AGENT: Reply(stdout=_IS_THERE + hello, answer=answer)})
