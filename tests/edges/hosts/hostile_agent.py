"""In the agent's place on a board: says what it was told to, whatever it is asked. Standard library only.

It is told by `create`, whose spec is `{"control": [text, …], "bulk": [text, …], "greeting": text}`: with what the next
request, the next bulk channel, and the next coordinator are answered, in Latin-1. `@ID@` stands for the id of the
request, `@MANY text number@` for the text so many times. `@FLOOD text@` repeats the text for ever, with a number that
grows in place of `@N@`, and `@END@` ends the process.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

HELLO = {
    "protocol": 1, "agent": "0", "python": "3.9.0", "pid": 1, "parent": 1, "parent_start": 1, "machine_id": "0",
    "boot_id": "0", "state": "/",
}  # fmt: skip
NEXT = Path.home() / "hostile-next"


def main() -> None:
    if sys.argv[1] == "serve":
        greeting = json.loads(NEXT.read_text()).get("greeting") if NEXT.exists() else None
        say(greeting or "\narchloom-agent " + json.dumps(HELLO) + "\n", 0)
        serve()
    else:
        for text in json.loads(NEXT.read_text())["bulk"]:
            say(text, 0)


def serve() -> None:
    answers: list[str] = []
    for line in sys.stdin:
        request = json.loads(line)
        number = request["id"]
        if request["op"] == "ping":
            say('{"id": 0, "ok": {"engine": 0, "disk": 0}}\n', 0)
        elif request["op"] == "create" and "control" in request["spec"]:
            answers = request["spec"]["control"]
            NEXT.write_text(json.dumps(request["spec"]))
            say('{"id": @ID@, "ok": {}}\n', number)
        else:
            for text in answers:
                say(text, number)


def say(text: str, number: int) -> None:
    flood = re.fullmatch(r"@FLOOD (.*)@", text, re.DOTALL)
    if text == "@END@":
        sys.exit()
    times = 0
    while flood or not times:
        times += 1
        words = (flood[1] if flood else text).replace("@ID@", str(number)).replace("@N@", str(times))
        words = re.sub("@MANY (.+?) ([0-9]+)@", lambda many: many[1] * int(many[2]), words)
        sys.stdout.buffer.write(words.encode("latin-1"))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
