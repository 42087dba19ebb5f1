"""What is published has the contents that `docker build` of the folder has on that engine, by every builder."""

from __future__ import annotations

import hashlib
import os
import secrets
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from agents.engine.docker_clis import find_cli
from tests.acceptance.archloom import Home, context, good
from tests.services.boards import Board
from tests.services.commands import run_limited
from tests.services.images import base_image
from tests.services.layer_entries import Entry, Image, published, saved
from tests.services.missing import missing
from tests.services.nasty_trees import grow
from tests.services.registry import Registry
from tests.services.ssh_home import ssh_home

pytestmark = [pytest.mark.engine, pytest.mark.registry]

NASTY = 'FROM scratch\nCOPY . /all\nCOPY deep /taken/\nCMD ["nothing"]\n'
Ours = Callable[..., Image]


@pytest.fixture
def ours(home: Home, registry: Registry) -> Ours:
    """Builds a folder on a board whose engine is driven so (`docker`, `buildx`, `api`), and returns what came of it."""

    def build(board: Board, engine: str, folder: Path, *words: str) -> Image:
        ssh_home(home.folder, board)
        inventory = f"emulators: {{{board.name}: {{host: {board.name}, engine: {engine}}}}}\n"
        (home.folder / "inventory.yaml").write_text(inventory)
        tag = secrets.token_hex(8)
        reference = f"{registry.address}/exact/{engine}:{tag}"
        good(home.run("build", str(folder), "-t", reference, "--platform", "linux/amd64", "--no-cache", *words))
        return published(registry, f"exact/{engine}", tag)

    return build


def theirs(board: Board, folder: Path, tmp_path: Path) -> Image:
    """What `docker build` by root makes of the folder with the board's engine, which has never seen the folder."""
    program = find_cli("docker", os.environ, tmp_path, "", "")
    if program is None:
        missing("every docker command line here is 23 or newer, and has no BuildKit of its own")
    configuration = tmp_path / secrets.token_hex(4)
    configuration.mkdir()
    image = f"theirs:{configuration.name}"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(configuration),
        "DOCKER_CONFIG": str(configuration),
        "DOCKER_BUILDKIT": "1",
        "DOCKER_HOST": f"unix://{board.engine_socket}",
    }
    words = [program, "build", "--no-cache", "--quiet", "--platform", "linux/amd64", "--tag", image, str(folder)]
    run_limited(words, check=True, capture_output=True, env=environment)
    try:
        return saved(board.engine_socket, image, tmp_path)
    finally:
        board.docker("rmi", image)


def differences(right: Image, found: Image) -> list[str]:
    """A line for each entry of each layer that is not the same in both."""
    lines = []
    for one, other in zip(right.layers, found.layers, strict=True):
        ones, others = ({entry.name: entry for entry in layer} for layer in (one, other))
        for name in sorted(ones.keys() | others.keys()):
            if name not in ones or name not in others:
                lines.append(f"{name[-60:]!a} only in {'ours' if name in others else 'theirs'}")
            elif ones[name] != others[name]:
                pairs = zip(Entry._fields, ones[name], others[name], strict=True)
                lines.append(f"{name[-60:]!a}: {[(field, a, b) for field, a, b in pairs if a != b]}")
    return lines


def compare(board: Board, engine: str, folder: Path, tmp_path: Path, ours: Ours) -> None:
    right, found = theirs(board, folder, tmp_path), ours(board, engine, folder)

    wrong = differences(right, found)
    assert not wrong, "\n".join(wrong)
    assert [len(layer) for layer in found.layers] == [len(layer) for layer in right.layers]
    assert found.config == right.config


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("engine", ["docker", "api"])
def test_a_nasty_tree_is_the_same(farm: Mapping[str, Board], ours: Ours, tmp_path: Path, engine: str, seed: int):
    """Docker 20.10 and an ordinary login, which cannot open some of it."""
    grow(tmp_path / "tree", seed, NASTY, early=engine != "api")

    compare(farm["pi-b"], engine, tmp_path / "tree", tmp_path, ours)


@pytest.mark.parametrize("engine", ["docker", "api"])
def test_the_locale_of_the_login_has_no_say(own_board, ours: Ours, tmp_path: Path, engine: str):
    """Names in any bytes, and a build argument that its locale has no characters for."""
    board = own_board(name="posix", user="pi", sshd=("SetEnv LC_ALL=POSIX PYTHONUTF8=0 PYTHONCOERCECLOCALE=0",))
    grow(tmp_path / "tree", 3, "FROM scratch\nARG WORD\nCOPY . /all\nLABEL word=$WORD\n", early=False)

    found = ours(board, engine, tmp_path / "tree", "--build-arg", "WORD=caf\u00e9")

    wrong = differences(theirs(board, tmp_path / "tree", tmp_path), found)
    assert not wrong, "\n".join(wrong)
    assert found.config["config"]["Labels"]["word"] == "caf\u00e9"


# What newer engines refuse, also of `docker build`: names that are not UTF-8.
ENGINES = [("docker20", "docker"), ("docker20", "api"), ("stored", "buildx"), ("stored", "api"), ("graph", "buildx")]


@pytest.mark.slow
@pytest.mark.board_engines
@pytest.mark.parametrize("seed", range(10, 14))
@pytest.mark.parametrize(("name", "engine"), ENGINES)
def test_nasty_trees_are_the_same_on_every_engine(
    engines: Mapping[str, Board], ours: Ours, tmp_path: Path, name: str, engine: str, seed: int
):
    """More of them, and larger ones."""
    options = {"not_utf8": name == "docker20", "early": engine != "api"}
    grow(tmp_path / "tree", seed, NASTY, entries=300, **options)

    compare(engines[name], engine, tmp_path / "tree", tmp_path, ours)


def closed(folder: Path) -> Path:
    """A context of root's that an ordinary login can open only in part."""
    made = context(folder, "FROM scratch\nCOPY rootfs /\n", {"rootfs/etc/shadow": b"root:*:19000:0:99:7"})
    for mode in (0o311, 0o000):
        below = made / f"rootfs/mode-{mode:o}"
        below.mkdir()
        (below / "file").write_text("x")
        (below / "file").chmod(0o4711)
        below.chmod(mode)
    (made / "rootfs/etc/shadow").chmod(0)
    return made


@pytest.mark.parametrize("engine", ["docker", "api"])
def test_what_the_login_cannot_open_is_in_the_image(farm: Mapping[str, Board], ours: Ours, tmp_path: Path, engine: str):
    """A file of mode 0000, and folders that cannot be entered or listed."""
    folder = closed(tmp_path / "closed")

    compare(farm["pi-b"], engine, folder, tmp_path, ours)

    [layer] = ours(farm["pi-b"], engine, folder).layers
    [shadow] = [entry for entry in layer if entry.name == "etc/shadow"]
    assert (shadow.mode, shadow.content) == (0, hashlib.sha256(b"root:*:19000:0:99:7").hexdigest())


def test_without_a_namespace_the_context_is_an_archive(
    own_board, ours: Ours, home: Home, registry: Registry, tmp_path: Path
):
    """Where entries get another group than the login's; a build that would take the Dockerfile is refused by name."""
    board = own_board(name="setgid", user="pi")
    state = f"/home/pi/.local/state/archloom-agent/{board.machine_id}"
    folders = " ".join(f"{state}/{name}" for name in ("jobs", "contexts", "objects"))
    board.run(f"mkdir -p {folders} && chown -R pi:pi /home/pi/.local && chown pi:games {folders}")
    board.run(f"chmod 700 {state} && chmod 2700 {folders}")
    folder = closed(tmp_path / "closed")

    compare(board, "docker", folder, tmp_path, ours)
    base = base_image(registry, "linux/amd64", repository="exact/base")
    (folder / "Dockerfile").write_text(f"FROM {base.reference}\nCOPY . /\n")
    done = home.run("build", str(folder), "-t", f"{registry.address}/exact/refused:2", "--platform", "linux/amd64")

    assert done.returncode == 5, done.stderr
    assert "LOST (unreadable)" in done.stderr
    assert "'rootfs/mode-0' (mode 0000)" in done.stderr


@pytest.mark.parametrize("ignored", ["", "Dockerfile\n"])
def test_the_users_dockerfile_is_copied_or_none(
    farm: Mapping[str, Board], ours: Ours, home: Home, registry: Registry, tmp_path: Path, ignored: str
):
    """Not the one with pinned bases. An engine that takes the Dockerfile from the context alone gets no such build."""
    base = base_image(registry, "linux/amd64", repository="exact/base")
    text = f"FROM {base.reference}\nCOPY . /ctx\n"
    folder = context(tmp_path / "app", text, {"file": b"x", ".dockerignore": ignored})

    *_, layer = ours(farm["pi-b"], "docker", folder).layers
    (home.folder / "inventory.yaml").write_text("emulators: {pi-b: {host: pi-b, engine: api}}\n")
    tag = f"{registry.address}/exact/refused:1"
    done = home.run("build", str(folder), "-t", tag, "--platform", "linux/amd64")

    own = {} if ignored else {"ctx/Dockerfile": hashlib.sha256(text.encode()).hexdigest()}
    found = {entry.name: entry.content for entry in layer if entry.kind == tarfile.REGTYPE}
    assert found == {
        **own,
        "ctx/file": hashlib.sha256(b"x").hexdigest(),
        "ctx/.dockerignore": found["ctx/.dockerignore"],
    }
    assert done.returncode == 3, done.stdout + done.stderr
    assert "adds archloom's Dockerfile to the files that are copied" in done.stdout + done.stderr


@pytest.mark.parametrize("engine", ["docker", "api"])
def test_links_of_a_file_are_links_in_the_layer(farm: Mapping[str, Board], ours: Ours, tmp_path: Path, engine: str):
    """One content under seven names, of which an instruction may take a part; a twin that is no link stays one."""
    content = secrets.token_bytes(20 << 20)
    text = "FROM scratch\nCOPY bin /bin\nCOPY bin/a other/z /\n"
    folder = context(tmp_path / "app", text, {"bin/a": content})
    (folder / "other").mkdir()
    for name in ("bin/b", "bin/c", "bin/d", "bin/e", "other/y", "other/z"):
        (folder / name).hardlink_to(folder / "bin/a")
    (folder / "bin/twin").write_bytes(content)

    compare(farm["pi-b"], engine, folder, tmp_path, ours)

    first, _ = ours(farm["pi-b"], engine, folder).layers
    assert [entry.kind for entry in first if entry.mtime is not None].count(tarfile.LNKTYPE) == 4
