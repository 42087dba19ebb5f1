"""Answers from the golden files: greets, keeps each request it reads, and replies what the file has for its id."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.services.paths import CASES

WIRE = CASES / "wire"

for name in ("noise.txt", "hello.txt"):
    sys.stdout.write((WIRE / name).read_text())
sys.stdout.flush()
replies = [json.loads(line) for line in (WIRE / "replies.jsonl").open()]
with Path(sys.argv[1]).open("w") as kept:
    for line in sys.stdin:
        kept.write(line)
        kept.flush()
        for reply in replies:
            if reply["id"] == json.loads(line)["id"]:
                print(json.dumps(reply), flush=True)
