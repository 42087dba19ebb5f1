"""Runs on a board: one build that fails, by the agent's own code, and what the agent had to judge it by, as JSON.

stdin: `{"engine", "dockerfile", "platform", "before", "word", "then"}`. `before` is a shell command that runs before
the build, `then` one that runs when a line of the log contains `word`.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import uuid
from pathlib import Path

sys.path.insert(0, "/var/tmp/agent.pyz")

from agents.engine import engines, failure_cause
from agents.job.follow import follow
from agents.job.results import LOG, reserve
from agents.job.spec import parse

wanted = json.load(sys.stdin)
name = uuid.uuid4().hex[:8]
folder = Path("/var/tmp/jobs") / name
context = folder / "context"
context.mkdir(parents=True)
os.environ["HOME"] = "/var/tmp/jobs"
for path in Path("/var/tmp/files").iterdir():
    shutil.copy(path, context / path.name)
(context / "Dockerfile").write_text(wanted["dockerfile"])
spec = parse(
    {
        "format": 1,
        "platform": wanted["platform"],
        "engine": wanted["engine"],
        "dockerfile": wanted["dockerfile"],
        "dockerfile_path": "Dockerfile",
        "dockerfile_apart": False,
        "stage": "",
        "build_args": {},
        "labels": {},
        "no_cache": True,
        "image": f"archloom/{name}:test-1",
        "bases": [],
        "context_key": "0" * 32,
        "has_context": True,
    }
)
record: dict = {}
classify = failure_cause.classify_failure


def recording(said, log, evidence, *, foreign):
    record.update(said=said, log=log, foreign=foreign, evidence=evidence._asdict())
    if evidence.least is not None:
        record["evidence"]["least"] = evidence.least._asdict()
    return classify(said, log, evidence, foreign=foreign)


failure_cause.classify_failure = recording


def shell(command):
    subprocess.run(["sh", "-c", command], check=False, stdout=sys.stderr)


def watch(text, _):
    if any(wanted["word"] in line and "RUN" not in line for line in text.splitlines()):
        shell(wanted["then"])


reserve(folder)
with (folder / LOG).open("ab", buffering=0) as output:
    build = engines.prepare(spec, folder, output)
    if wanted["before"]:
        shell(wanted["before"])
    stop = threading.Event()
    reader = threading.Thread(target=follow, args=(folder, 0, watch, stop), daemon=True)
    if wanted["word"]:
        reader.start()
    threading.Timer(90, build.cancel).start()
    try:
        result = build.run()
    except Exception as error:  # noqa: BLE001 - reported
        result = {"state": "raised", "message": repr(error)}
    stop.set()
record["result"] = result
print(json.dumps(record), flush=True)
os._exit(0)
