"""The main job on real parts: this machine's engine, QEMU and a real registry; docker and skopeo are the judges."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable

import pytest

from tests.acceptance.archloom import PATIENCE, Home, context, good
from tests.services.commands import run_limited
from tests.services.fixtures import PASSWORD, USER
from tests.services.images import base_image
from tests.services.judges import docker_login, pulled, ran, skopeo_inspect, skopeo_raw
from tests.services.missing import missing
from tests.services.paths import ROOT

pytestmark = pytest.mark.engine

# What a build on this machine has no use for. Each takes a tenth of a second or more to import.
HEAVY = {"asyncssh", "cryptography", "docker", "paramiko", "requests", "rich"}
FOUR = ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6")


@pytest.mark.usefixtures("emulation", "nothing_left")
def test_four_platforms_become_one_tag(registry, home, hello):
    """Every platform pulls back as itself and runs; the last line tells tag, digest, platforms, what was emulated."""
    tag = f"{registry.address}/main/four:1"

    done = good(home.run("build", str(hello), "-t", tag, "--platform", ",".join(FOUR), "--json"))

    result = json.loads(done.stdout)
    assert list(result["archloom"]["platforms"]) == list(FOUR)
    assert {one["mode"] for one in result["archloom"]["platforms"].values()} >= {"emulated"}
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"published {tag} {result['containerimage.digest']} for {', '.join(FOUR)} (emulated: ")
    for platform, says in zip(FOUR, ("x86_64", "aarch64", "armv7l", "armv7l"), strict=True):
        with pulled(tag, platform) as image:
            words = platform.split("/")
            assert (image["Os"], image["Architecture"], image.get("Variant", "")) == (*words[:2], "".join(words[2:]))
            assert ran(tag, platform) == f"hello from {says}\n"
        found = skopeo_inspect(tag, platform)
        assert found["Architecture"] == platform.split("/")[1]


@pytest.mark.usefixtures("emulation")
def test_platforms_pushed_at_once_stay_apart(registry, home, hello):
    """Jobs of one run share an engine and a tunnel: each pushes its own image, however they meet."""
    for attempt in range(4):
        words = ("-t", f"{registry.address}/main/apart:1", "--platform", ",".join(FOUR), "--label", f"n={attempt}")

        done = good(home.run("build", str(hello), *words))

        assert "mismatch" not in done.stderr


def test_the_same_build_again_touches_no_host(registry, home, hello):
    """What is finished is reused from the registry, verified; the index is the same to the byte."""
    words = (
        "build",
        str(hello),
        "-t",
        f"{registry.address}/main/again:1",
        "--platform",
        "linux/amd64",
        "--json",
    )
    first = json.loads(good(home.run(*words)).stdout)

    second = json.loads(good(home.run(*words, environment={"DOCKER_HOST": "unix:///nonexistent.sock"})).stdout)

    assert second["containerimage.digest"] == first["containerimage.digest"]
    assert [one["reused"] for one in second["archloom"]["platforms"].values()] == [True]
    assert second["archloom"]["platforms"]["linux/amd64"]["host"] == ""


def test_the_same_build_again_imports_nothing_of_hosts(registry, home, hello):
    """From Enter to the first line is mostly imports: what reaches hosts is not among them where none is reached."""
    words = ("build", str(hello), "-t", f"{registry.address}/main/lean:1", "--platform", "linux/amd64")
    built = set(home.imported(*words))

    # What the inventory says is kept from the second run on.
    for _ in range(2):
        lines = home.imported(*words, environment={"DOCKER_HOST": "unix:///nonexistent.sock"})
    reused = set(lines)

    of_hosts = {
        "coordinator.broker.server",
        "coordinator.domain.hosts.facts",
        "coordinator.domain.placement.plan",
        "coordinator.farm.farm",
        "coordinator.hosts.agent.client",
        "coordinator.run.steps.build",
    }
    assert of_hosts - built == set(), "modules of other names"
    assert reused & of_hosts == set()
    assert packages(reused) & (HEAVY | {"pydantic", "ruamel"}) == set()
    # 266 with Python 3.11, of which 149 are coordinator's. What Python and an installer import is not ours to choose.
    assert sum(bool(packages([name])) for name in reused) <= 290
    first = next(number for number, line in enumerate(lines) if line.startswith("reading "))
    assert not {"coordinator.usecases.build", "coordinator.registry.client", "httpx2"} & set(lines[:first])


def packages(modules: Iterable[str]) -> set[str]:
    """Those of modules of archloom and of its dependencies: neither Python's own nor those of an installer."""
    names = {name.partition(".")[0] for name in modules if all(map(str.isidentifier, name.split(".")))}
    return {name for name in names - sys.stdlib_module_names if not name.startswith("_")}


def test_the_durations_of_a_run_agree(registry, home, hello):
    """`published in` and `why` count from the same beginning, which is the command's, to the same end."""
    began = time.time()
    words = ("-t", f"{registry.address}/main/timed:1", "--platform", "linux/amd64")
    done = good(home.run("build", str(hello), *words))
    wall = time.time() - began

    created_at = json.loads(good(home.run("why", "--json")).stdout)["created_at"]
    why = good(home.run("why")).stdout.splitlines()[0]

    told = done.stderr.splitlines()[-1].rpartition(" in ")[2]
    assert why.endswith(f" in {told}")
    assert created_at == pytest.approx(began, abs=1.0)
    assert float(told.removesuffix(" s")) <= wall + 0.1


def test_a_plan_on_this_machine_imports_no_ssh(home, hello):
    """`local` needs no SSH."""
    imported = set(home.imported("plan", str(hello), "-t", "localhost/plan:1", "--platform", "linux/amd64"))

    assert "coordinator.hosts.agent.client" in imported
    assert imported & HEAVY == set()


def test_another_volatile_date_is_no_reason_to_build(registry, home, tmp_path):
    """The image keeps the date it was built at, which reached the build; without --volatile it is built again."""
    base = base_image(registry, "linux/amd64", repository="main/base4")
    folder = context(tmp_path / "dated", f"FROM {base.reference}\nARG BUILD_DATE\nRUN echo $BUILD_DATE >/date\n")
    tag = f"{registry.address}/main/dated:1"

    def built(date: str, *more: str) -> tuple[str, bool, str]:
        words = ("-t", tag, "--platform", "linux/amd64", "--build-arg", f"BUILD_DATE={date}", "--json", *more)
        result = json.loads(good(home.run("build", str(folder), *words)).stdout)
        with pulled(tag, "linux/amd64"):
            baked = ran(tag, "linux/amd64", "cat", "/date").strip()
        return result["containerimage.digest"], result["archloom"]["platforms"]["linux/amd64"]["reused"], baked

    first = built("monday", "--volatile", "BUILD_DATE")
    second = built("tuesday", "--volatile", "BUILD_DATE")
    third = built("wednesday")

    assert first[1:] == (False, "monday")
    assert second == (first[0], True, "monday")
    assert third[1:] == (False, "wednesday")


@pytest.mark.usefixtures("emulation", "nothing_left")
@pytest.mark.parametrize("engine_path", ["docker", "api", "buildx"])
def test_a_base_behind_a_token_registry_is_built_from(token_registry, registry, home, tmp_path, engine_path):
    """On every engine path the coordinator's credentials fetch the base, and the engine never has them."""
    base = base_image(token_registry, "linux/amd64", "linux/arm64", repository="private/base")
    docker_login(home.folder / ".docker", token_registry.address, USER, PASSWORD)
    if engine_path == "buildx":
        install_buildx(home)
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(f"emulators: {{here: {{host: local, engine: {engine_path}}}}}\n")
    folder = context(tmp_path / "app", f"FROM {base.reference}\nRUN echo built by {engine_path} >/a\n")
    tag = f"{registry.address}/main/private-{engine_path}:1"

    done = good(home.run("build", str(folder), "-t", tag, "--platform", "linux/arm64", "-i", str(inventory)))

    assert "could not be resolved" not in done.stderr
    with pulled(tag, "linux/arm64"):
        assert ran(tag, "linux/arm64", "cat", "/a") == f"built by {engine_path}\n"


def install_buildx(home: Home) -> None:
    """Debian's buildx as this user's plugin."""
    fetched = run_limited([ROOT / "scripts" / "fetch-buildx"], capture_output=True, text=True, timeout=240)
    if fetched.returncode:
        missing(f"there is no buildx: {fetched.stderr.strip()}")
    plugins = home.folder / ".docker" / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-buildx").symlink_to(fetched.stdout.strip())


def test_two_tags_in_two_registries(registry, password_registry, home, hello):
    """Further repositories and registries get the children by copy, then the same index, to the byte."""
    docker_login(home.folder / ".docker", password_registry.address, USER, PASSWORD)
    tags = [
        f"{registry.address}/main/two:1",
        f"{registry.address}/other/two:1",
        f"{password_registry.address}/team/two:1",
    ]

    done = good(
        home.run("build", str(hello), *(w for tag in tags for w in ("-t", tag)), "--platform", "linux/amd64", "--json")
    )

    digest = json.loads(done.stdout)["containerimage.digest"]
    credentials = f"{USER}:{PASSWORD}"
    raw = [*map(skopeo_raw, tags[:2]), skopeo_raw(tags[2], credentials=credentials)]
    assert [f"sha256:{hashlib.sha256(one).hexdigest()}" for one in raw] == [digest] * 3
    assert skopeo_inspect(tags[2], "linux/amd64", credentials=credentials)["Architecture"] == "amd64"
    assert all(f"tag {tag} → {digest[:19]}" in done.stderr for tag in tags)


def test_metadata_iidfile_and_quiet(registry, home, hello):
    """Programs get the digest on stdout, in the iidfile and in the metadata file; people get nothing to read."""
    words = ("-t", f"{registry.address}/main/meta:1", "--platform", "linux/amd64", "-q")

    done = good(home.run("build", str(hello), *words, "--metadata-file", "meta.json", "--iidfile", "iid"))

    digest = done.stdout.strip()
    meta = json.loads((home.folder / "meta.json").read_text())
    assert done.stderr == ""
    assert (home.folder / "iid").read_text() == digest
    assert meta["containerimage.digest"] == digest
    assert meta["containerimage.descriptor"]["digest"] == digest
    assert meta["image.name"] == f"{registry.address}/main/meta:1"
    assert meta["archloom"]["platforms"]["linux/amd64"]["pin"].startswith("archloom-")


def test_the_context_arrives_as_docker_build_would_send_it(registry, home, tmp_path):
    """.dockerignore, links, odd names, empty folders and modes: the image holds what `docker build` would put there."""
    base = base_image(registry, "linux/amd64", repository="main/base3")
    folder = context(
        tmp_path / "odd",
        f"FROM {base.reference}\nCOPY . /ctx/\nRUN cd /ctx && find . | sort >/list && ls -ld run.sh link >/modes\n",
        {
            ".dockerignore": "secret*\n!secret-not\n",
            "secret.txt": "x",
            "secret-not": "y",
            "a b\tc": "odd",
            "run.sh": "#!",
        },
    )
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("run.sh")
    (folder / "run.sh").chmod(0o750)
    tag = f"{registry.address}/main/odd:1"

    good(home.run("build", str(folder), "-t", tag, "--platform", "linux/amd64"))

    with pulled(tag, "linux/amd64"):
        listed = ran(tag, "linux/amd64", "cat", "/list").splitlines()
        modes = ran(tag, "linux/amd64", "cat", "/modes")
    assert listed == [
        ".",
        "./.dockerignore",
        "./Dockerfile",
        "./a b\tc",
        "./empty",
        "./link",
        "./run.sh",
        "./secret-not",
    ]
    assert "link -> run.sh" in modes
    assert "-rwxr-x---" in modes


@pytest.mark.usefixtures("emulation")
def test_image_inspect_tells_what_each_platform_gets(registry, home, hello):
    """The index, its entries, and which of them a client takes."""
    tag = f"{registry.address}/main/look:1"
    good(home.run("build", str(hello), "-t", tag, "--platform", "linux/amd64,linux/arm/v6"))

    text = good(home.run("image", "inspect", tag)).stdout
    data = json.loads(good(home.run("image", "inspect", tag, "--json")).stdout)

    assert "linux/arm/v6" in text
    assert data["resolves"]["linux/arm/v7"] == data["resolves"]["linux/arm/v6"]
    assert data["resolves"]["linux/arm64"] is None
    missing = home.run("image", "inspect", f"{registry.address}/main/look:none")
    assert missing.returncode == 6
    assert "error:" in missing.stderr


def test_plan_shows_hosts_and_reasons_and_builds_nothing(registry, home, hello):
    """The table names the host, the mode and why; a platform nobody can build ends with exit 3."""
    tag = f"{registry.address}/main/plan:1"

    done = good(home.run("plan", str(hello), "-t", tag, "--platform", "linux/amd64"))
    never = home.run("plan", str(hello), "-t", tag, "--platform", "linux/arm64", "--emulate", "never")
    dry = good(home.run("build", str(hello), "-t", tag, "--platform", "linux/amd64", "--dry-run"))

    assert "linux/amd64" in done.stdout
    assert "native" in done.stdout
    assert never.returncode == 3
    assert "--emulate never" in never.stdout + never.stderr
    assert dry.stdout == done.stdout
    assert json.loads(good(home.run("runs", "--json")).stdout) == []


def test_a_large_context_is_never_held_in_memory(registry, home, tmp_path):
    """200 MB more to send cost the coordinator and its agent no memory worth naming."""
    folder = context(tmp_path / "large", "FROM scratch\nCOPY . /\n")
    words = ("build", str(folder), "--platform", "linux/amd64")
    small = peak_memory(home, *words, "-t", f"{registry.address}/main/small:1")
    with (folder / "large").open("wb") as file:
        file.truncate(200 * 1024 * 1024)

    large = peak_memory(home, *words, "-t", f"{registry.address}/main/large:1")

    assert large < small + 32 * 1024 * 1024


def peak_memory(home: Home, *words: str) -> int:
    """Peak resident bytes of the coordinator or of a process it waited for."""
    process = home.start(*words)
    with process.stdout, process.stderr, process.within(PATIENCE):
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, said
    return usage.ru_maxrss * 1024
