"""Records how builds fail on real engines into `tests/cases/failures`: `python -m tests.recorders.failures WORD…`.

Root only. Each cause is made on a board of its own (`tests/services/boards.py`). Recorded is what the agent there has
to judge it by: the engine's error, the end of the log, what the monitor saw. Words choose engines and causes by name.
`tests/unit/agents/test_recorded_failures.py` judges each recording.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from coordinator.hosts.agent.bundle import contents, sources
from tests.recorders.causes import CAUSES, Cause
from tests.services.board_lab import Lab, lab
from tests.services.board_spec import BoardSpec
from tests.services.boards import Board, board
from tests.services.busybox import busybox
from tests.services.commands import run_limited
from tests.services.paths import CASES, ROOT

FOLDER = CASES / "failures"
_DRIVER = Path(__file__).with_name("on_board.py")
_FILES = {"busybox": "linux/amd64", "busybox-arm64": "linux/arm64", "busybox-armv7": "linux/arm/v7"}


class Engine(NamedTuple):
    """`client` is what the agent builds with."""

    name: str
    system: str
    store: str
    client: str


ENGINES = (
    Engine("20.10-docker", "", "overlay2", "docker"),
    Engine("20.10-api", "", "overlay2", "api"),
    Engine("26.1-buildx", "trixie", "overlay2", "buildx"),
    Engine("28.5-buildx", "sid", "containerd", "buildx"),
    Engine("28.5-api", "sid", "overlay2", "api"),
)


def main(words: list[str]) -> int:
    chosen = [(engine, cause) for engine in ENGINES for cause in CAUSES if _chosen(words, engine, cause)]
    with tempfile.TemporaryDirectory(prefix="record-", dir="/var/tmp") as made, lab(Path(made) / "lab") as where:
        for engine, cause in chosen:
            if (engine.client == "api" and cause.needs_session) or cause.says_nothing == engine.name:
                continue
            with _board(where, engine, cause) as host:
                _record(host, engine, cause)
    return 0


def _chosen(words: list[str], engine: Engine, cause: Cause) -> bool:
    names = {engine.name, cause.name}
    return all(any(word in name for name in names) for word in words)


@contextmanager
def _board(where: Lab, engine: Engine, cause: Cause) -> Iterator[Board]:
    spec = BoardSpec(
        name="recorder",
        system=engine.system,
        store=engine.store,
        containerd=cause.containerd_service and engine.store == "containerd",
        disks=(("/var/lib/docker", cause.disk_mib),) if cause.disk_mib else (),
    )
    with board(where, spec) as host:
        root = Path(f"/proc/{host.pid}/root")
        (root / "var/tmp/agent.pyz").write_bytes(contents(sources()))
        (root / "var/tmp/files").mkdir()
        for name, platform in _FILES.items():
            shutil.copy(busybox(platform), root / "var/tmp/files" / name)
        (root / "var/tmp/files/busybox-no-elf").write_bytes(b"no program\0")
        (root / "var/tmp/files/busybox-no-elf").chmod(0o755)
        if engine.client == "docker":
            old = run_limited([ROOT / "scripts/fetch-docker"], capture_output=True, text=True, check=True)
            shutil.copy(old.stdout.strip(), root / "usr/local/bin/docker")
        yield host


def _record(host: Board, engine: Engine, cause: Cause) -> None:
    wanted = {
        "engine": engine.client,
        "dockerfile": cause.dockerfile,
        "platform": cause.platform,
        "before": cause.before,
        "word": cause.word,
        "then": cause.then,
    }
    Path(f"/proc/{host.pid}/root/var/tmp/on_board.py").write_bytes(_DRIVER.read_bytes())
    try:
        answer = host.run("python3 /var/tmp/on_board.py", stdin=json.dumps(wanted))
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(f"{engine.name} {cause.name}: not recorded: {error}")
        return
    record = json.loads(answer)
    result = record.pop("result")
    judged = (result["state"], result.get("code"))
    if "said" not in record:
        print(f"{engine.name} {cause.name}: nothing to judge: {result}")
        return
    mark = "ok " if judged == cause.verdict else "NOT"
    print(f"{mark} {engine.name} {cause.name}: {judged}, expected {cause.verdict}: {result.get('message')}", flush=True)
    folder = FOLDER / engine.name
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"dockerfile": cause.dockerfile, "verdict": cause.verdict, **record}
    (folder / f"{cause.name}.json").write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
