"""What a build takes of its context is all that its build id and its transfer have of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.config.credentials import DockerCredentials
from coordinator.domain.image.platforms import parse
from coordinator.domain.image.references import parse as parse_reference
from coordinator.domain.targets.request import BuildRequest, from_stored
from coordinator.domain.targets.target import Target
from coordinator.environment import Environment
from coordinator.errors import UsageError
from coordinator.publish.registry_pool import Registries
from coordinator.run.inputs.gather import Inputs, gather
from coordinator.run.inputs.taken_context import _ignore, described
from tests.edges.run.environments import environment

DOCKERFILE_S = "Dockerfile.dockerignore"
AMD64, ARM64 = parse("linux/amd64"), parse("linux/arm64")


class Farm:
    """A folder to build, and the home of the user who builds it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.context = home / "app"
        (self.context / "src").mkdir(parents=True)
        (self.context / "src" / "main.py").write_text("1")
        (self.context / "README.md").write_text("1")
        self.dockerfile("FROM scratch\nCOPY src /src\n")

    def dockerfile(self, text: str) -> None:
        (self.context / "Dockerfile").write_text(text)

    def request(self, **more: object) -> BuildRequest:
        target = Target(
            name="default",
            context=str(self.context),
            dockerfile=str(self.context / "Dockerfile"),
            tags=(parse_reference("nas.lan:5000/app:1"),),
            platforms=(AMD64, ARM64),
        )
        return BuildRequest(target=target, **more)

    async def inputs(self, request: BuildRequest | None = None, env: Environment | None = None) -> Inputs:
        async with Registries({}, DockerCredentials({}, self.home)) as registries:
            return await gather(request or self.request(), registries, env or environment(self.home), print)


@pytest.fixture
def farm(tmp_path: Path) -> Farm:
    return Farm(tmp_path)


def paths(inputs: Inputs, platform=AMD64) -> list[str]:
    return [entry.path for entry in inputs.contexts[platform].manifest.entries]


async def test_only_what_is_copied_counts(farm):
    """A README, a commit or a mode of the folder itself is no reason to build; a copied file is."""
    before = await farm.inputs()
    assert paths(before) == ["src", "src/main.py"]

    (farm.context / "README.md").write_text("2")
    (farm.context / ".git").mkdir()
    (farm.context / ".git" / "HEAD").write_text("2")
    (farm.context / "src").chmod(0o700)
    assert (await farm.inputs()).build_ids == before.build_ids

    (farm.context / "src" / "main.py").write_text("2")
    after = await farm.inputs()
    assert set(after.build_ids.values()).isdisjoint(before.build_ids.values())


async def test_each_platform_has_what_it_takes(farm):
    """A file for one platform is no reason to build another one, and is not sent there."""
    farm.dockerfile("FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH.conf /\n")
    for name in ("amd64", "arm64"):
        (farm.context / f"{name}.conf").write_text("1")
    before = await farm.inputs()
    assert [paths(before, AMD64), paths(before, ARM64)] == [["amd64.conf"], ["arm64.conf"]]

    (farm.context / "arm64.conf").write_text("2")
    after = await farm.inputs()

    assert after.build_ids[AMD64] == before.build_ids[AMD64]
    assert after.build_ids[ARM64] != before.build_ids[ARM64]


async def test_platforms_that_take_the_same_share_it(farm):
    """It is read and kept once."""
    inputs = await farm.inputs()

    assert inputs.contexts[AMD64] is inputs.contexts[ARM64]


async def test_our_own_files_are_never_of_the_context(farm):
    """The home is the context: not its state folder, the agent's, nor the file that the result is written to."""
    farm.context = farm.home
    farm.dockerfile("FROM scratch\nCOPY . /\n")
    (farm.home / ".local/state").mkdir(parents=True)
    request = farm.request(outputs=(str(farm.home / "m.json"),))
    before = await farm.inputs(request)

    for path in ("state/archloom.db", ".local/state/archloom-agent/jobs/x", "m.json"):
        (farm.home / path).parent.mkdir(parents=True, exist_ok=True)
        (farm.home / path).write_text("ours")
    after = await farm.inputs(request)

    assert after.build_ids == before.build_ids
    assert "Dockerfile" in paths(after)
    assert not {"state", ".local/state/archloom-agent", "m.json"} & set(paths(after))
    assert from_stored(request.to_json()) == request


@pytest.mark.parametrize("name", ["app/debug.log", "{home}/app/debug.log"])
async def test_the_log_of_diagnostics_is_never_of_the_context(farm, name):
    """It grows with every command: it would be in the image, and nothing would be reused."""
    farm.dockerfile("FROM scratch\nCOPY . /\n")
    env = replace(environment(farm.home), environ={"ARCHLOOM_LOG": name.format(home=farm.home)})
    before = await farm.inputs(env=env)
    (farm.context / "debug.log").write_text("ours")

    assert (await farm.inputs(env=env)).build_ids == before.build_ids
    # A resume has the request of the run, and may have another environment.
    stored = farm.request(outputs=env.log_files)
    assert (await farm.inputs(stored)).build_ids == before.build_ids


@pytest.mark.parametrize(
    ("present", "in_force"),
    [((), ".dockerignore"), ((".dockerignore",), ".dockerignore"), ((".dockerignore", DOCKERFILE_S), DOCKERFILE_S)],
)
async def test_the_hint_for_what_cannot_be_read_names_the_ignore_file_in_force(farm, present, in_force):
    """With its whole path: the context may be another folder than the current one."""
    farm.dockerfile("FROM scratch\nCOPY . /\n")
    for name in present:
        (farm.context / name).write_text("# rules\n")

    rules = _ignore(farm.request().target)

    assert rules.path == str(farm.context / in_force)


async def test_a_required_secret_is_refused_before_a_host_is_asked(farm):
    """A plan and a build gather their inputs first."""
    farm.dockerfile("FROM scratch\nRUN --mount=type=secret,id=a,required=true x\n")

    with pytest.raises(UsageError, match="Dockerfile:2: --mount=type=secret,id=a,required=true requires a secret"):
        await farm.inputs()


async def test_a_missing_source_is_told_with_its_line(farm):
    """As BuildKit words it, before a host or a registry is asked."""
    farm.dockerfile("FROM scratch\nCOPY src /\nCOPY srv /srv\n")

    with pytest.raises(UsageError) as raised:
        await farm.inputs()

    assert '"/srv": not found' in raised.value.message
    assert "Dockerfile:3" in raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize(
    ("dockerfile", "says"),
    [
        ("FROM scratch\nCOPY src /src\n", "context for linux/amd64, linux/arm64: 1 file, 0.0 kB"),
        (
            "FROM scratch\nCOPY . /\n",
            "context for linux/amd64, linux/arm64: everything, 3 files, 0.0 kB, because {file}:2: ",
        ),
        ("FROM scratch\nARG BUILDARCH\nCOPY $BUILDARCH* /\n", "everything, 3 files, 0.0 kB, because {file}:3: "),
        ("FROM localhost:1/x\nCOPY src /\n", "everything, 3 files, 0.0 kB, because {file}:1: the configuration"),
    ],
)
async def test_the_plan_says_what_is_taken(farm, dockerfile, says):
    """And where it is everything, the line and the reason."""
    farm.dockerfile(dockerfile)

    (line,) = described((await farm.inputs()).contexts)

    assert says.format(file=farm.context / "Dockerfile") in line


async def test_a_frontend_given_as_argument_counts(farm):
    """It replaces that of the Dockerfile, and may be another one tomorrow: without its digest nothing is reused."""
    request = farm.request()
    target = replace(request.target, build_args={"BUILDKIT_SYNTAX": "localhost:1/docker/dockerfile:1"})

    inputs = await farm.inputs(replace(request, target=target))

    assert inputs.frontend == "localhost:1/docker/dockerfile:1"
    assert "localhost:1/docker/dockerfile:1 could not be resolved" in inputs.unstable[0]
    assert paths(inputs) == ["src", "src/main.py"]


async def test_a_base_for_the_build_platform_alone_takes_no_more(farm):
    """Its variant is the host's; what is copied does not depend on it."""
    farm.dockerfile("FROM --platform=$BUILDPLATFORM scratch AS b\nCOPY src /\nFROM scratch\nCOPY --from=b / /\n")

    assert paths(await farm.inputs()) == ["src", "src/main.py"]


async def test_a_missing_source_is_told_where_everything_is_taken(farm: Farm):
    """Also of one platform alone."""
    farm.dockerfile("FROM scratch\nARG TARGETARCH\nCOPY . .\nCOPY src/$TARGETARCH /x\n")
    (farm.context / "src/amd64").touch()

    with pytest.raises(UsageError, match='Dockerfile:4: "/src/arm64": not found'):
        await farm.inputs()
    (farm.context / "src/arm64").touch()
    found = (await farm.inputs()).contexts
    assert found[AMD64] is found[ARM64]


@pytest.mark.parametrize(("variable", "folder"), [("", ".local/state"), ("relative", ".local/state"), ("/", "xdg")])
async def test_the_state_of_an_agent_here_is_not_taken(farm: Farm, variable: str, folder: str):
    """Where the agent has it, wherever the coordinator's own is."""
    state = farm.home / folder / "archloom-agent"
    state.mkdir(parents=True)
    (state / "jobs").touch()
    (farm.home / "Dockerfile").write_text("FROM scratch\nCOPY . .\n")
    environ = {"XDG_STATE_HOME": str(farm.home / "xdg") if variable == "/" else variable}
    env = replace(environment(farm.home), environ=environ, state=farm.home / "elsewhere/archloom")
    context = str(farm.home)
    request = farm.request()
    request = replace(
        request, target=replace(request.target, context=context, dockerfile=str(farm.home / "Dockerfile"))
    )

    async with Registries({}, DockerCredentials({}, farm.home)) as registries:
        found = await gather(request, registries, env, print)

    assert "app/README.md" in paths(found)
    assert not [path for path in paths(found) if "archloom-agent" in path]
