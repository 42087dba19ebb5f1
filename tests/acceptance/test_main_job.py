"""The main job on real parts: this machine's engine, QEMU and a real registry; docker and skopeo are the judges."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.archloom import Home, context, good
from tests.services.fixtures import PASSWORD, USER
from tests.services.images import base_image
from tests.services.judges import docker, docker_login, pulled, ran, skopeo_inspect, skopeo_raw
from tests.services.missing import ROOT, missing
from tests.services.registry import garbage_collect

pytestmark = pytest.mark.engine

FOUR = ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6")
HELLO = """\
FROM {base}
ARG GREETING=hello
RUN echo "$GREETING from $(uname -m)" >/hello.txt
CMD ["cat", "/hello.txt"]
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    folder = tmp_path / "home"
    folder.mkdir()
    return Home(folder)


@pytest.fixture
def hello(registry, tmp_path: Path) -> Path:
    """A context whose RUN executes code of each platform."""
    base = base_image(registry, *FOUR, repository="main/base")
    return context(tmp_path / "hello", HELLO.format(base=base.reference))


def lines_of(text: str, start: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(start)]


def held() -> set[str]:
    """Images that an engine holds for us."""
    names = docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    return {name for name in names if name.startswith(("archloom/", "localhost:1/", "127.0.0.1"))}


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """What the test builds is gone from the engine when it ends."""
    before = held()
    yield
    assert held() <= before


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
            assert ran(tag, platform) == f"hello from {says}\n" or platform == "linux/amd64"
        found = skopeo_inspect(tag, platform)
        assert found["Architecture"] == platform.split("/")[1]


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

    second = json.loads(good(home.run(*words)).stdout)

    assert second["containerimage.digest"] == first["containerimage.digest"]
    assert [one["reused"] for one in second["archloom"]["platforms"].values()] == [True]
    assert [one["host"] for one in second["archloom"]["platforms"].values()] == [""]


@pytest.mark.usefixtures("nothing_left")
def test_a_failing_platform_lets_the_others_finish_and_moves_no_tag(registry, home, tmp_path):
    """Exit 4, the last lines of the failure, the other platform verified and reused later, the old tag as it was."""
    base = base_image(registry, "linux/amd64", "linux/arm64", repository="main/base2")
    tag = f"{registry.address}/main/half:1"
    folder = context(tmp_path / "half", f"FROM {base.reference}\nRUN echo fine >/a\n")
    good(home.run("build", str(folder), "-t", tag, "--platform", "linux/amd64"))
    before = skopeo_raw(tag)
    broken = (
        f"FROM {base.reference}\nARG TARGETARCH\n"
        'RUN echo step for $TARGETARCH; if [ "$TARGETARCH" = arm64 ]; then echo the reason; exit 3; fi\n'
    )
    (folder / "Dockerfile").write_text(broken)

    done = home.run("build", str(folder), "-t", tag, "--platform", "linux/amd64,linux/arm64")

    assert done.returncode == 4, done.stderr
    assert "linux/arm64" in done.stderr
    assert "  | the reason" in done.stderr
    assert "exit code: 3" in done.stderr
    assert f"{tag} not touched" in done.stderr
    assert "archloom logs " in done.stderr
    assert skopeo_raw(tag) == before
    run = json.loads(good(home.run("runs", "--json")).stdout)[0]
    assert {name: one["state"] for name, one in run["platforms"].items()} == {
        "linux/amd64": "verified",
        "linux/arm64": "failed",
    }
    assert "the reason" in good(home.run("logs", run["run"], "linux/arm64")).stdout


def test_the_old_tag_survives_a_failed_run_and_the_registry_s_garbage_collection(own_registry, home, tmp_path):
    """A run that fails after new children were pushed leaves the old tag, and everything it needs, as it was."""
    registry = own_registry()
    base = base_image(registry, "linux/amd64", "linux/arm64")
    tag = f"{registry.address}/app:1"
    folder = context(tmp_path / "app", f"FROM {base.reference}\nRUN echo one >/a\n")
    good(home.run("build", str(folder), "-t", tag, "--platform", "linux/amd64,linux/arm64"))
    (folder / "Dockerfile").write_text(
        f'FROM {base.reference}\nARG TARGETARCH\nRUN test "$TARGETARCH" = amd64 && echo two >/a\n'
    )
    assert home.run("build", str(folder), "-t", tag, "--platform", "linux/amd64,linux/arm64").returncode == 4

    garbage_collect(registry)

    for platform in ("linux/amd64", "linux/arm64"):
        with pulled(tag, platform):
            assert ran(tag, platform, "cat", "/a") == "one\n"


@pytest.mark.usefixtures("nothing_left")
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
    fetched = subprocess.run([ROOT / "scripts" / "fetch-buildx"], capture_output=True, text=True, check=False)
    if fetched.returncode:
        missing(f"there is no buildx: {fetched.stderr.strip()}")
    plugins = home.folder / ".docker" / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-buildx").symlink_to(fetched.stdout.strip())


def test_two_tags_in_two_registries(registry, password_registry, home, hello):
    """Further repositories and registries get the children by copy, then the same index."""
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
    assert {json.loads(skopeo_raw(tag))["manifests"][0]["platform"]["architecture"] for tag in tags[:2]} == {"amd64"}
    assert all(f"tag {tag} → {digest[:19]}" in done.stderr for tag in tags)
    found = skopeo_inspect(tags[2], "linux/amd64", credentials=f"{USER}:{PASSWORD}")
    assert found["Architecture"] == "amd64"


def test_a_denied_push_is_said_before_anything_is_built(password_registry, home, hello):
    """Exit 6 with the login command; no build has begun."""
    done = home.run("build", str(hello), "-t", f"{password_registry.address}/team/app:1", "--platform", "linux/amd64")

    assert done.returncode == 6
    assert f"docker login {password_registry.address}" in done.stderr
    assert "assigned" not in done.stderr


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


@pytest.mark.usefixtures("nothing_left")
def test_ctrl_c_cancels_the_build_and_leaves_nothing(registry, home, tmp_path):
    """Exit 130; the RUN step's process is gone, the run says cancelled, the engine holds nothing of it."""
    base = base_image(registry, "linux/amd64", repository="main/base4")
    folder = context(tmp_path / "long", f"FROM {base.reference}\nRUN echo begun; sleep 987654\n")
    process = home.start("build", str(folder), "-t", f"{registry.address}/main/long:1", "--platform", "linux/amd64")
    seen = read_until(process, "begun")

    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]

    assert process.returncode == 130, seen + rest
    assert "not touched" in rest
    assert subprocess.run(["pgrep", "-f", "sleep 987654"], check=False, capture_output=True).stdout == b""
    run = json.loads(good(home.run("runs", "--json")).stdout)[0]
    assert run["exit_code"] == 130
    assert run["platforms"]["linux/amd64"]["state"] == "cancelled"
    assert not list((home.folder / ".local/state/archloom-agent").glob("*/jobs/[a-z0-9]*"))


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
    assert not home.state.exists()


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
    with process.stdout, process.stderr:
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, said
    return usage.ru_maxrss * 1024


def test_an_engine_that_does_not_run_is_said_with_the_cure(home, hello, registry):
    """Exit 5, the cause and the command that starts it; nothing was pushed."""
    done = home.run(
        "build",
        str(hello),
        "-t",
        f"{registry.address}/main/none:1",
        "--platform",
        "linux/amd64",
        environment={"DOCKER_HOST": "unix:///nonexistent/docker.sock"},
    )

    assert done.returncode == 5
    assert "is not running" in done.stderr
    assert "systemctl start docker" in done.stderr


def test_boards_over_ssh_are_refused_with_a_clear_word(home, hello, registry, tmp_path):
    """They are read and shown; a build uses the hosts it can, and says why it does not use the others."""
    (home.folder / "inventory.yaml").write_text("boards: {pi5: ssh://pi5}\nemulators: {here: local}\n")
    tag = f"{registry.address}/main/ssh:1"

    shown = good(home.run("boards"))
    plan = good(home.run("plan", str(hello), "-t", tag, "--platform", "linux/amd64"))
    asked = home.run("build", str(hello), "-t", tag, "--platform", "linux/amd64", "--on", "pi5")

    assert "pi5" in shown.stdout
    assert "boards over SSH (ssh://pi5) cannot be used yet" in plan.stdout
    assert asked.returncode == 5
    assert "boards over SSH (ssh://pi5) cannot be used yet" in asked.stderr


@pytest.mark.usefixtures("nothing_left")
def test_what_a_dead_coordinator_left_is_swept_by_a_later_run(registry, home, hello, tmp_path):
    """kill -9: the job ends by itself on its host; once `keep_built` is over, the next run leaves nothing of it."""
    base = base_image(registry, "linux/amd64", repository="main/base5")
    folder = context(tmp_path / "orphan", f"FROM {base.reference}\nRUN echo begun; sleep 2\n")
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text("emulators: {here: {host: local, keep_built: 1s}}\n")
    words = ("--platform", "linux/amd64", "-i", str(inventory))
    process = home.start("build", str(folder), "-t", f"{registry.address}/main/orphan:1", *words)
    read_until(process, "begun")
    process.kill()
    process.communicate(timeout=60)
    jobs = home.folder / ".local/state/archloom-agent"
    while not (ended := list(jobs.glob("*/jobs/*/result.json"))):
        time.sleep(0.05)
    while time.time() - ended[0].stat().st_mtime < 1.5:
        time.sleep(0.05)

    good(home.run("build", str(hello), "-t", f"{registry.address}/main/after:1", *words))

    assert not list(jobs.glob("*/jobs/[a-z0-9]*"))


def read_until(process: subprocess.Popen[str], word: str) -> str:
    """What the command printed, up to the line of the build's own output that has this word."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if word in line and "echo" not in line:
            break
    return "".join(seen)
