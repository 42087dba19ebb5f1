"""What chaos happens to: two boards with disks of their own, an emulator, and a registry behind a scripted proxy."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tests.chaos.desk import Desk, desk
from tests.chaos.observer import Where, host_by_cgroup
from tests.chaos.registry_proxy import RegistryProxy, registry_proxy
from tests.services.board_lab import lab as open_lab
from tests.services.board_spec import BoardSpec
from tests.services.boards import Board, board
from tests.services.engine import engine_socket, require_emulation
from tests.services.images import Base, base_image
from tests.services.judges import docker_login
from tests.services.registry import Registry, with_password
from tests.services.ssh_home import ssh_home

EMULATOR = "beast"
PLATFORMS = ("linux/amd64", "linux/386", "linux/arm64")
USER = "ada"
_ENGINE_MB, _HOME_MB = 1024, 192
SPECS = (
    BoardSpec(name="pi-a", disks=(("/var/lib/docker", _ENGINE_MB), ("/root", _HOME_MB))),
    BoardSpec(name="pi-b", user="pi", containerd=True, disks=(("/var/lib/docker", _ENGINE_MB), ("/home/pi", _HOME_MB))),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosLab:
    """`proxy` is the registry's address for everybody but the judges, who ask `registry` itself."""

    folder: Path
    boards: Mapping[str, Board]
    registry: Registry
    proxy: RegistryProxy
    base: Base
    password: str
    where: Where

    @contextmanager
    def desk(self, folder: Path, patience: tuple[int, int] = (60, 300)) -> Iterator[Desk]:
        """A user who has just been given the boards and a login to the registry.

        `patience`: how many seconds archloom waits for a host that is away, and for a registry.
        """
        with desk(folder) as made:
            docker_login(made.home.folder / ".docker", self.proxy.address, USER, self.password)
            ssh_home(made.home.folder, *self.boards.values())
            entries = "".join(f"  {name}: ssh://{name}\n" for name in self.boards)
            # As many at once as a trial has platforms: others use this machine's engine too.
            emulator = f"emulators:\n  {EMULATOR}: {{host: local, jobs: {len(PLATFORMS)}}}\n"
            waits = f"defaults: {{reconnect_for: {patience[0]}s}}\nregistry_patience: {patience[1]}s\n"
            made.inventory.write_text(f"{waits}boards:\n{entries}{emulator}")
            yield made

    def restore(self) -> None:
        """Boards and proxy are as they were at the beginning, whatever a trial did to them."""
        self.proxy.behave()
        for one in self.boards.values():
            one.restore()
            if not is_sound(one):
                one.power_off()
                one.power_on()
            one.clear()
            names = [*one.held(), *one.docker("images", "--quiet", "--filter", "dangling=true").split()]
            if names:
                one.docker("rmi", "--force", *names)


def is_sound(one: Board) -> bool:
    """Engine and sshd answer, and disks can be written."""
    places = " ".join(place for place, _ in one.spec.disks)
    with suppress(Exception):
        one.run(f"for place in {places}; do touch $place/.sound && rm $place/.sound || exit 1; done")
        return one._is_up()
    return False


@contextmanager
def chaos_lab(folder: Path) -> Iterator[ChaosLab]:
    """Everything is up when the block begins, and nothing is left of it afterwards."""
    engine_socket()
    require_emulation("linux/arm64")
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        lab = stack.enter_context(open_lab(folder / "lab"))
        made = list(pool.map(stack.enter_context, (board(lab, spec) for spec in SPECS)))
        password = f"pw-{secrets.token_hex(12)}"
        registry = stack.enter_context(with_password(folder / "registry", USER, password))
        proxy = stack.enter_context(registry_proxy(registry.address))
        # Nobody else's base, so that what is left of it in an engine is ours.
        base = base_image(
            replace(registry, address=proxy.address),
            *PLATFORMS,
            repository="chaos/base",
            more=secrets.token_bytes(300_000),
        )
        running = ChaosLab(
            folder=folder,
            boards={one.name: one for one in made},
            registry=registry,
            proxy=proxy,
            base=base,
            password=password,
            where=host_by_cgroup({one._kernel_name: one.name for one in made}, EMULATOR),
        )
        with running.desk(folder / "first") as user:
            user.ask("boards")  # so that each board has the agent's file, whichever trial comes first
        yield running


def until(found: object, seconds: float) -> bool:
    """Whether `found()` becomes true in time."""
    assert callable(found)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found():
            return True
        time.sleep(0.1)
    return bool(found())
