"""Boards, a registry and a user who has both, for measurements: what the tests have as fixtures, without pytest."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.board_core import Core, core, starts_on
from bench.measure import LIMIT, run
from tests.acceptance.archloom import COMMAND, Home
from tests.services.board_lab import lab as open_lab
from tests.services.board_spec import BoardSpec
from tests.services.boards import Board, board
from tests.services.commands import Child
from tests.services.registry import Registry, plain
from tests.services.ssh_home import ssh_command, ssh_home


@dataclass(frozen=True, slots=True)
class Bench:
    """`boards` are reached by their names, by ssh and by archloom. `cores` are theirs, where each has one."""

    folder: Path
    home: Home
    registry: Registry
    boards: tuple[Board, ...]
    cores: tuple[Core, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        return {**self.home.environment, "ARCHLOOM_INVENTORY": str(self.home.folder / "inventory.yaml")}

    def inventory(self, platforms: Mapping[str, str], *, kind: str = "boards") -> None:
        """These boards alone, each for these platforms alone; empty: for what it can build. `kind`: or `emulators`."""
        lines = [
            f"  {name}: {{host: {name}, platforms: [{platform}]}}" if platform else f"  {name}: {name}"
            for name, platform in platforms.items()
        ]
        (self.home.folder / "inventory.yaml").write_text("\n".join([f"{kind}:", *lines, ""]))

    def archloom(self, *words: str) -> None:
        """As the user runs it, quietly."""
        run([COMMAND, *words], self.environment)

    def seen(self, *words: str) -> Iterator[str]:
        """The lines of its event stream as they come; it has to end well."""
        command = [COMMAND, *words, "--progress", "rawjson"]
        with (
            Child(
                command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            ) as process,
            process.within(LIMIT),
        ):
            assert process.stderr is not None
            yield from process.stderr
        if process.returncode:
            raise SystemExit(f"{shlex.join(command)}\nexit status {process.returncode}")

    def ssh(self, where: Board) -> list[str]:
        """OpenSSH's client, with the registry on the board's loopback as it is here; append what to run there."""
        port = self.registry.address.rpartition(":")[2]
        forward = f"{port}:{self.registry.address}"
        return [*ssh_command(self.home.folder, *self.boards), "-R", forward, where.name]

    def prune(self) -> None:
        """Nothing is left in the boards' engines: no image, no cache."""
        for one in self.boards:
            one.docker("system", "prune", "--all", "--force")


@contextmanager
def bench(*specs: BoardSpec, one_core: bool = False) -> Iterator[Bench]:
    """Boards that are on, each in the user's inventory for whatever it can build; `one_core`: each has one."""
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack, ThreadPoolExecutor() as pool:
        folder = Path(temporary)
        lab = stack.enter_context(open_lab(folder / "lab"))

        def on(number: int, spec: BoardSpec) -> tuple[Board, Core | None]:
            if not one_core:
                return stack.enter_context(board(lab, spec)), None
            group, place = f"{lab.name}core-{number}", number % (os.cpu_count() or 1)
            with starts_on(place, group):
                made = stack.enter_context(board(lab, spec))
            return made, core(made, place, group)

        started = list(pool.map(on, range(len(specs)), specs))
        boards, cores = tuple(made for made, _ in started), tuple(one for _, one in started if one)
        home = Home(folder / "home")
        ssh_home(home.folder, *boards)
        made = Bench(folder, home, stack.enter_context(plain(folder / "registry")), boards, cores)
        made.inventory({one.name: "" for one in boards})
        yield made
