"""The corpus of `.dockerignore` texts: a tree, and what `docker build` sends of it for each text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tests.services import paths

_CORPUS = json.loads((paths.CASES / "dockerignore" / "corpus.json").read_bytes())


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`sent` is sorted, folders end in `/`. `docker` is the first version that does so, 0 for every one."""

    ignore: str
    refused: bool
    sent: tuple[str, ...]
    docker: int


def _paths() -> tuple[str, ...]:
    found = set()
    for line in _CORPUS["tree"]:
        path = line.partition(" -> ")[0]
        parts = path.rstrip("/").split("/")
        found |= {"/".join(parts[:count]) + "/" for count in range(1, len(parts))} | {path}
    return tuple(sorted(found))


def build(root: Path) -> None:
    """Makes the tree in an empty folder."""
    for line in _CORPUS["tree"]:
        name, _, target = line.partition(" -> ")
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if target:
            path.symlink_to(target)
        elif name.endswith("/"):
            path.mkdir()
        else:
            path.write_text(name)


TREE = _paths()
CASES = tuple(
    Case(
        ignore=case["ignore"],
        refused=case.get("refused", False),
        sent=tuple(case["sends"]) if "sends" in case else tuple(sorted(set(TREE) - set(case.get("drops", ())))),
        docker=case.get("docker", 0),
    )
    for case in _CORPUS["cases"]
)
