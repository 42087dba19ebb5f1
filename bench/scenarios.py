"""What `ratios.py` builds: folders, Dockerfiles and what changes before each build."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.ways import Layout

_NATIVE = {"pi-a": ("linux/amd64",), "pi-b": ("linux/386",)}
_ONE_EMULATED = {"pi-a": ("linux/amd64", "linux/arm64"), "pi-b": ("linux/386",)}
_FOUR = {"pi-a": ("linux/amd64", "linux/arm64"), "pi-b": ("linux/386", "linux/arm/v7")}
_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Scenario:
    """`cold`: the engines hold nothing and the registry none of the results, before each build.

    `budgets` are the greatest ratios of ours to a way's: `seconds` or `bytes`, by the way's name.
    """

    about: str
    dockerfile: str
    fill: Callable[[Path], None]
    change: Callable[[Path], None] = lambda _: None
    layout: Layout = field(default_factory=lambda: _NATIVE)
    cold: bool = False
    budgets: Mapping[tuple[str, str], float] = field(default_factory=dict)

    @property
    def platforms(self) -> tuple[str, ...]:
        return tuple(platform for each in self.layout.values() for platform in each)

    def make(self, folder: Path, base: str) -> Path:
        folder.mkdir()
        self.fill(folder)
        (folder / "Dockerfile").write_text(self.dockerfile.replace("BASE", base))
        return folder


def noise(path: Path, size: int) -> None:
    """Bytes that do not compress."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for start in range(0, size, _MB):
            file.write(os.urandom(min(_MB, size - start)))


def files(folder: Path, count: int, size: int) -> None:
    """A hundred to a folder."""
    for number in range(count):
        noise(folder / str(number // 100) / str(number), size)


_TINY = "FROM BASE\nCOPY data /data\nRUN uname -m >/machine\n"
# The tree is compiled: what it becomes is small, so that the layer's way to the registry does not hide the context's.
_COMPILED = (
    "FROM BASE AS compile\nCOPY . /src\nRUN sha256sum /src/tree/0/7 >/out\nFROM BASE\nCOPY --from=compile /out /\n"
)
_SUMS = "FROM BASE\nCOPY data /data\nRUN for n in {numbers}; do sha256sum /data; done >/sums; uname -m >>/sums\n"

SCENARIOS = {
    "tiny-cold": Scenario(
        "1 kB, two platforms and an emulated one, engines empty",
        _TINY,
        lambda folder: noise(folder / "data", 1000),
        lambda folder: noise(folder / "data", 1000),
        _ONE_EMULATED,
        cold=True,
        budgets={("shell", "seconds"): 1.1},
    ),
    "tiny-warm": Scenario(
        "the same, one file changed",
        _TINY,
        lambda folder: noise(folder / "data", 1000),
        lambda folder: noise(folder / "data", 1000),
        _ONE_EMULATED,
        budgets={("shell", "seconds"): 1.1, ("buildx", "seconds"): 1.5},
    ),
    "one-changed": Scenario(
        "200 MB in 3 000 files, one changed",
        _COMPILED,
        lambda folder: files(folder / "tree", 3000, 66_667),
        lambda folder: noise(folder / "tree/0/7", 66_667),
        budgets={("shell", "seconds"): 1.0, ("shell", "bytes"): 1.0},
    ),
    "few-taken": Scenario(
        "600 MB, 2 MB of it taken, one file of these changed",
        "FROM BASE\nCOPY src /src\nRUN uname -m >/machine\n",
        lambda folder: (files(folder / "data", 60, 10 * _MB), files(folder / "src", 20, _MB // 10))[0],
        lambda folder: noise(folder / "src/0/7", _MB // 10),
        budgets={("buildx", "seconds"): 1.3},
    ),
    "unchanged": Scenario(
        "8 MB, four platforms, nothing changed",
        _TINY,
        lambda folder: noise(folder / "data", 8 * _MB),
        layout=_FOUR,
        budgets={("buildx", "seconds"): 1.0},
    ),
    "computing": Scenario(
        "half a minute of work for the CPU of each board",
        _SUMS.format(numbers=" ".join(map(str, range(900)))),
        lambda folder: noise(folder / "data", 8 * _MB),
        cold=True,
        budgets={("raw", "seconds"): 1.05},
    ),
}
