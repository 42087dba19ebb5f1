"""What is in an image is what `docker build` puts there; what reuse has to know is in the pin's name, or the store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.acceptance.archloom import Home, context, good
from tests.acceptance.test_main_job import install_buildx
from tests.edges.context.build_judge import before_buildx
from tests.services.commands import run_limited
from tests.services.images import base_image
from tests.services.judges import docker, pulled, ran, skopeo_inspect
from tests.services.missing import program
from tests.services.registry import Registry
from tests.services.ssh_home import forwarded, ssh_home

pytestmark = [pytest.mark.engine, pytest.mark.registry]

AMD64 = "linux/amd64"
Build = Callable[..., dict[str, Any]]


@pytest.fixture
def app(registry: Registry, tmp_path: Path) -> Path:
    """A context with every kind of instruction that makes a layer or a setting."""
    base = base_image(registry, AMD64, "linux/arm64", repository="stable/base")
    dockerfile = (
        f"FROM {base.reference} AS tools\nRUN echo {tmp_path} >/tool\n"
        f"FROM {base.reference}\nARG WORD=one\nLABEL theirs=yes\nENV A=$WORD\nWORKDIR /app\n"
        f'COPY data ./\nCOPY --from=tools /tool /tool\nRUN echo "$WORD" >/word\nUSER 7\nCMD ["cat", "/word"]\n'
    )
    return context(tmp_path / "app", dockerfile, {"data/one": "1", "data/sub/two": "2"})


@pytest.fixture
def build(home: Home, app: Path, registry: Registry, tmp_path: Path) -> Build:
    """Builds the app for AMD64 into a repository of its own and returns what is told of that platform."""

    def run(*words: str, pins: str = "", engine: str = "auto", **environ: str) -> dict[str, Any]:
        inventory = tmp_path / "inventory.yaml"
        entry = f'registries: {{"{registry.address}": {{pins: {pins}}}}}\n' if pins else ""
        inventory.write_text(f"emulators: {{here: {{host: local, engine: {engine}}}}}\n{entry}")
        words = ("-t", reference(registry, tmp_path), "--platform", AMD64, "-i", str(inventory), "--json", *words)
        done = good(home.run("build", str(app), *words, environment=environ))
        found: dict[str, Any] = json.loads(done.stdout)["archloom"]["platforms"][AMD64]
        return {**found, "stderr": done.stderr}

    return run


def reference(registry: Registry, folder: Path) -> str:
    return f"{registry.address}/stable/{folder.name.replace('_', '-')}:1"


def tags(registry: Registry, folder: Path) -> list[str]:
    repository = reference(registry, folder).partition("/")[2].rpartition(":")[0]
    with urlopen(f"{registry.url}/v2/{repository}/tags/list", timeout=30) as answer:
        return sorted(json.load(answer)["tags"])


@pytest.mark.parametrize("engine", ["docker", "api", "buildx"])
def test_the_image_is_the_one_that_docker_build_makes(registry, home, app, build, engine, tmp_path):
    """On the same engine and cache: the same config to the byte, so the same layers, in every engine path."""
    if engine == "buildx":
        install_buildx(home)
        client = program("docker")
    else:
        client = before_buildx().command[0]

    built = build("--build-arg", "WORD=two", engine=engine)

    image = f"stable-judge:{tmp_path.name}"
    words = ("build", "--quiet", "--platform", AMD64, "--build-arg", "WORD=two", "--tag", image, str(app))
    run_limited([client, *words], env={**home.environment, "DOCKER_BUILDKIT": "1"}, check=True, capture_output=True)
    try:
        theirs = json.loads(docker("image", "inspect", image))[0]
    finally:
        docker("rmi", image)
    with pulled(reference(registry, tmp_path), AMD64) as ours:
        assert ours["RootFS"] == theirs["RootFS"]
        assert ours["Config"] == theirs["Config"]
        assert ours["Id"] == theirs["Id"] == built["config_digest"]
    labels = skopeo_inspect(reference(registry, tmp_path), AMD64)["Labels"]
    assert labels == {"theirs": "yes"}


def test_a_pin_names_the_build_and_serves_the_next_run(registry, home, build, tmp_path):
    """A store that knows nothing of it finds it too; a mode that is not allowed is not taken."""
    first = build()

    (home.folder / ".local").rename(tmp_path / "another-machines")
    second = build()
    emulated = home.run(
        "build",
        str(tmp_path / "app"),
        *("-t", reference(registry, tmp_path), "--platform", AMD64, "--emulate", "only"),
    )

    pin = first["pin"]
    assert pin.startswith("archloom-")
    assert pin.endswith("-amd64-n")
    assert len(pin) == len("archloom--amd64-n") + 64
    assert (second["reused"], second["digest"], second["pin"]) == (True, first["digest"], pin)
    assert "reused" not in emulated.stderr
    assert tags(registry, tmp_path) == ["1", pin]


def test_a_pin_that_was_moved_by_hand_is_neither_used_nor_moved_back(registry, home, build, tmp_path):
    """The child gets a pin beside it: from the store that knows it, or built again where none does."""
    first = build()
    name = reference(registry, tmp_path).rpartition(":")[0]
    other = base_image(registry, "linux/arm64", repository=name.partition("/")[2], tag="other")
    run_limited(
        [program("skopeo"), "copy", "--override-arch=arm64", "--src-tls-verify=false", "--dest-tls-verify=false",
         f"docker://{other.reference}", f"docker://{name}:{first['pin']}"],
        check=True, capture_output=True,
    )  # fmt: skip

    beside = f"{first['pin']}-{first['digest'][7:19]}"

    second = build()
    (home.folder / ".local").rename(tmp_path / "another-machines")
    third, fourth = build(), build()

    assert {one["digest"] for one in (first, second, third, fourth)} == {first["digest"]}
    assert [one["reused"] for one in (second, third, fourth)] == [True, False, True]
    assert [one["pin"] for one in (second, third, fourth)] == [beside] * 3
    assert tags(registry, tmp_path) == ["1", first["pin"], beside, "other"]
    moved = skopeo_inspect(f"{name}:{first['pin']}", "linux/arm64")
    assert moved["Architecture"] == "arm64"


def test_without_tags_the_store_remembers(registry, home, build, tmp_path):
    """The tag list stays the user's own; a store that knows nothing builds again; `why` says so too."""
    first, second = build(pins="store"), build(pins="store")
    why = good(home.run("why")).stdout

    (home.folder / ".local").rename(tmp_path / "another-machines")
    third = build(pins="store")

    assert [one["reused"] for one in (first, second, third)] == [False, True, False]
    assert {one["digest"] for one in (first, second, third)} == {first["digest"]}
    assert [one["pin"] for one in (first, second, third)] == ["", "", ""]
    assert tags(registry, tmp_path) == ["1"]
    assert "(no tag): no host was touched" in why
    assert first["stderr"].count("seems to be distribution 2.x: with `pins: store`") == 1


def test_without_pins_nothing_is_reused(registry, home, build, tmp_path):
    """The engine's cache makes the same image again; back with `keep`, it gets its pin."""
    first, second = build(pins="off"), build(pins="off")
    why = good(home.run("why")).stdout
    kept = build(pins="keep")

    assert [one["reused"] for one in (first, second, kept)] == [False, False, False]
    assert first["digest"] == second["digest"] == kept["digest"]
    assert "since the registry keeps no pins" in why
    assert tags(registry, tmp_path) == ["1", kept["pin"]]


def test_the_source_date_counts_and_reaches_the_build(registry, build, app, tmp_path):
    """BuildKit before 0.11, as in Docker 20.10, gives it to an ARG only."""
    text = (app / "Dockerfile").read_text()
    date_step = 'ARG SOURCE_DATE_EPOCH\nRUN echo "${SOURCE_DATE_EPOCH:-none}" >/date\nUSER 7\n'
    (app / "Dockerfile").write_text(text.replace("USER 7\n", date_step))

    def date(**environ: str) -> tuple[str, bool]:
        built = build(**environ)
        with pulled(reference(registry, tmp_path), AMD64):
            return ran(reference(registry, tmp_path), AMD64, "cat", "/date").strip(), built["reused"]

    assert date() == ("none", False)
    assert date(SOURCE_DATE_EPOCH="1700000000") == ("1700000000", False)
    assert date(SOURCE_DATE_EPOCH="1700000000") == ("1700000000", True)
    assert date(SOURCE_DATE_EPOCH="1700000001") == ("1700000001", False)
    assert date(SOURCE_DATE_EPOCH="") == ("none", True)


@pytest.mark.board_engines
@pytest.mark.parametrize("host", ["graph", "stored"])
def test_a_newer_engine_makes_the_same_image_and_dates_it(engines, home, registry, host, tmp_path):
    """Docker 28.5: the config, or with containerd's store the whole manifest, is the one of `docker build`.

    Only with containerd's store does BuildKit write the source date into an image. With that store its cache knows a
    base by the digest that names it, so this `docker build` names it as we do: by the digest of its platform's image.
    """
    board = engines[host]
    ssh_home(home.folder, *engines.values())
    (home.folder / "inventory.yaml").write_text(f"emulators: {{{host}: {{keep_built: 1s}}}}\n")
    base = base_image(registry, AMD64, repository="stable/newer")
    steps = f"ARG SOURCE_DATE_EPOCH\nLABEL theirs=yes\nCOPY data /data\nRUN echo {tmp_path} >/a\n"
    folder = context(tmp_path / "app", f"FROM {base.reference}\n{steps}", {"data": "1"})
    tag, epoch = reference(registry, tmp_path), {"SOURCE_DATE_EPOCH": "1700000000"}

    done = good(home.run("build", str(folder), "-t", tag, "--platform", AMD64, "--json", environment=epoch))
    built = json.loads(done.stdout)["archloom"]["platforms"][AMD64]

    with forwarded(home.folder, board, registry.address) as port:
        own = f"FROM 127.0.0.1:{port}/stable/newer@{base.children[AMD64]}\n{steps}"
        board.run("mkdir -p /tmp/judge; printf 1 >/tmp/judge/data; cat >/tmp/judge/Dockerfile", stdin=own)
        words = f"--provenance=false --platform {AMD64} --build-arg SOURCE_DATE_EPOCH=1700000000 -t judge:1"
        board.run(f"docker build {words} /tmp/judge")
    theirs = board.docker("image", "inspect", "--format", "{{.Id}}", "judge:1").strip()
    board.docker("rmi", "judge:1")
    assert theirs == built["config_digest" if host == "graph" else "digest"]
    assert (skopeo_inspect(tag, AMD64)["Created"] == "2023-11-14T22:13:20Z") == (host == "stored")
    assert skopeo_inspect(tag, AMD64)["Labels"] == {"theirs": "yes"}
