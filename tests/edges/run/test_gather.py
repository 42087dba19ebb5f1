"""`--volatile`: what it takes, what it refuses, and what becomes of the build ids."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from coordinator.cli.main import run
from coordinator.config.credentials import DockerCredentials
from coordinator.domain.image.platforms import parse
from coordinator.domain.image.references import parse as parse_reference
from coordinator.domain.targets.request import BuildRequest, from_stored
from coordinator.domain.targets.target import Target
from coordinator.errors import UsageError
from coordinator.publish.registry_pool import Registries
from coordinator.run.inputs.gather import Earlier, gather, read_dockerfile
from tests.edges.run.environments import environment
from tests.services.images import push_image

ARM64 = parse("linux/arm64")
CREATED = "org.opencontainers.image.created"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nARG BUILD_DATE\nARG http_proxy\nCOPY Dockerfile main* /\n")
    return tmp_path


def target(folder: Path, **more) -> Target:
    return Target(
        name="default",
        context=str(folder),
        dockerfile=str(folder / "Dockerfile"),
        tags=(parse_reference("nas.lan:5000/app:1"),),
        platforms=(ARM64,),
        **more,
    )


async def id_of(asked: Target) -> str:
    async with Registries({}, DockerCredentials({}, Path(asked.context))) as registries:
        request = BuildRequest(target=asked)
        inputs = await gather(request, registries, environment(Path(asked.context).with_name("home")), print)
    assert inputs.unstable == ()
    return inputs.build_ids[ARM64]


def dated(folder: Path, date: str, *volatile: str) -> Target:
    return target(folder, build_args={"BUILD_DATE": date}, labels={CREATED: date}, volatile=volatile)


async def test_only_what_is_named_is_left_out(folder):
    """Another date is the same build where both the argument and the label are volatile, and another one elsewhere."""
    both = {await id_of(dated(folder, date, "BUILD_DATE", CREATED)) for date in "12"}
    one = {await id_of(dated(folder, date, "BUILD_DATE")) for date in "12"}
    none = {await id_of(dated(folder, date)) for date in "12"}

    assert [len(both), len(one), len(none)] == [1, 2, 2]
    assert len(both | one | none) == 5


async def test_a_volatile_value_is_no_excuse_for_another_change(folder):
    """What the values are used in still counts: the Dockerfile, the context, every other argument."""
    before = await id_of(dated(folder, "1", "BUILD_DATE", CREATED))
    (folder / "main.py").write_text("x")

    assert await id_of(dated(folder, "1", "BUILD_DATE", CREATED)) != before


async def test_a_proxy_counts_only_where_an_arg_asks_for_it(folder):
    """The farm may move behind another proxy without building everything again."""
    without = await id_of(target(folder))

    assert await id_of(target(folder, build_args={"HTTPS_PROXY": "http://a:1"})) == without
    assert await id_of(target(folder, build_args={"http_proxy": "http://a:1"})) != without


@pytest.mark.registry
async def test_a_base_whose_config_is_unread_makes_every_build_unique(registry, folder):
    """Its ONBUILD may fetch anything. A run that is taken up keeps its ids, whatever can be read by then."""
    push_image(registry, "bases/gather", {"architecture": "arm64", "os": "linux", "config": {"Env": ""}}, target="1")
    (folder / "Dockerfile").write_text(f"FROM {registry.address}/bases/gather:1\n")
    request, env = BuildRequest(target=target(folder)), environment(folder.with_name("home"))

    async with Registries({}, DockerCredentials({}, folder)) as registries:
        one, other = [await gather(request, registries, env, print) for _ in range(2)]
        (folder / "Dockerfile").write_text("FROM scratch\n")
        taken_up = await gather(request, registries, env, print, Earlier.from_json(one.to_json()))

    (reason,) = one.unstable
    assert "Dockerfile:1: the configuration of" in reason
    assert one.build_ids != other.build_ids
    assert (taken_up.unstable, taken_up.nonce) == ((), one.nonce)


def test_the_request_keeps_the_names_and_the_build_its_values(folder):
    """What is stored is enough to ask the same again."""
    request = BuildRequest(target=dated(folder, "1", "BUILD_DATE", CREATED), fail_fast=True)

    stored = request.to_json()

    assert stored["volatile"] == ["BUILD_DATE", CREATED]
    assert stored["build_args"] == {"BUILD_DATE": "1"}
    assert from_stored(json.loads(json.dumps(stored))) == request


@pytest.mark.parametrize("command", ["build", "plan"])
@pytest.mark.parametrize(
    ("name", "flags", "hint"),
    [
        ("BUILD_DAT", ("--build-arg", "BUILD_DATE=1"), "did you mean BUILD_DATE?"),
        ("build_date", ("--build-arg", "BUILD_DATE"), "did you mean BUILD_DATE?"),
        ("BUILD_DATE=1", ("--label", "BUILD_DATE=1"), "did you mean BUILD_DATE?"),
        ("created", ("--label", f"{CREATED}=1", "--build-arg", "A=1"), f"use one of: A, {CREATED}"),
        ("REVISION", (), "give its value too: --build-arg REVISION=…"),
        ("", (), "give its value too: --build-arg NAME=…"),
    ],
)
def test_a_name_nobody_gave_a_value_is_refused(folder, capsys, command, name, flags, hint):
    """A typing error must not turn reuse off, or on, in silence."""
    words = [command, str(folder), "-t", "nas.lan:5000/app:1", *flags, "--volatile", name]

    assert run(words) == 2

    message = f"--volatile '{name}' is neither a --build-arg nor a --label of this build"
    assert capsys.readouterr().err == f"error: {message}\nhint: {hint}\n"


def test_a_dockerfile_that_became_a_pipe_is_said(tmp_path: Path):
    """A run that is resumed reads it again, and does not wait for a writer."""
    os.mkfifo(tmp_path / "Dockerfile")
    dockerfile = str(tmp_path / "Dockerfile")
    target = Target(name="app", context=str(tmp_path), dockerfile=dockerfile, tags=(), platforms=())

    with pytest.raises(UsageError, match="it is a named pipe, not a file"):
        read_dockerfile(target)
