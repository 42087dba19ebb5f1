"""Bases as a real registry has them: which image each platform gets, which configs are known, what is asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.config.credentials import DockerCredentials
from coordinator.domain.dockerfile import stages
from coordinator.domain.dockerfile.bases import BUILD_PLATFORM, BaseUse, Configs, plan_bases
from coordinator.domain.image.platforms import Platform, parse
from coordinator.domain.image.references import HUB
from coordinator.errors import ArchloomError, UsageError
from coordinator.publish.registry_pool import Registries
from coordinator.run.inputs.base_images import ResolvedBases, base_digest, foreign_bases, resolve_bases, unresolved
from tests.services.images import push_image, push_index
from tests.services.registry import Registry

AMD64, ARM64, ARMV6 = parse("linux/amd64"), parse("linux/arm64"), parse("linux/arm/v6")

UNRESOLVED = ", which could not be resolved: gone"
MEANT = ". Did you mean the stage build?"

pytestmark = pytest.mark.registry


def use(text: str, platform: Platform = ARM64) -> BaseUse:
    return BaseUse(text=text, platform=platform, line=1, position=0, written=text, is_from=True)


def config(platform: Platform, **inner: object) -> dict[str, object]:
    return {"os": platform.os, "architecture": platform.architecture, "variant": platform.variant, "config": inner}


def listed(entry: Mapping[str, object], platform: Platform) -> dict[str, object]:
    words = {"os": platform.os, "architecture": platform.architecture, "variant": platform.variant or None}
    return {**entry, "platform": words}


async def resolved(state: Path, *uses: BaseUse, images: Sequence[str] = (), **more: object) -> ResolvedBases:
    async with Registries({}, DockerCredentials({}, state)) as registries:
        return await resolve_bases(lambda _: {ARM64: uses}, images, registries, state=state, **more)


def pushed(registry: Registry, repository: str, **inner: object) -> tuple[str, dict[Platform, str]]:
    """An index of two platforms whose configs have this content; its name, and its images."""
    entries = {one: push_image(registry, repository, config(one, **inner)) for one in (AMD64, ARM64)}
    push_index(registry, repository, "1", *(listed(entry, one) for one, entry in entries.items()))
    return f"{registry.address}/{repository}:1", {one: str(entry["digest"]) for one, entry in entries.items()}


async def test_each_platform_gets_its_image_and_config(registry, tmp_path):
    """Also an entry whose variant is null."""
    text, images = pushed(registry, "bases/each", Env=["A=1"], OnBuild=["COPY . /src"])

    found = await resolved(tmp_path, use(text), use(text, AMD64), images=[text])

    base = found.bases[text]
    assert {one: base.for_platform(one) for one in (AMD64, ARM64)} == images
    assert set(found.configs) == {(text, ARM64), (text, AMD64)}
    known = found.configs[text, ARM64]
    assert (known.platform, known.environment["A"], known.triggers) == (ARM64, "1", ("COPY . /src",))
    assert found.failures == {}
    assert base_digest(use(text), base) == images[ARM64]
    assert base_digest(use(text, BUILD_PLATFORM), base) == base.manifest.digest


async def test_content_is_asked_for_once(own_registry, tmp_path):
    """A second run asks only which digest the tag has: Docker Hub counts every GET of a manifest as a pull."""
    registry = own_registry()
    text, images = pushed(registry, "bases/once")
    before = len(registry.asked("bases/once"))

    first = await resolved(tmp_path, use(text), use(text, BUILD_PLATFORM))
    asked = registry.asked("bases/once")[before:]
    again = await resolved(tmp_path, use(text), use(text, BUILD_PLATFORM))

    assert sorted(line.split("/")[0] for line in asked) == ["GET blobs"] * 2 + ["GET manifests"] * 3 + [
        "HEAD manifests"
    ]
    assert registry.asked("bases/once")[before + len(asked) :] == ["HEAD manifests/1"]
    assert again == first
    assert again.bases[text].for_platform(ARM64) == images[ARM64]


class Mirror(Registries):
    """Docker Hub, as a registry of the test has it."""

    def __init__(self, address: str, folder: Path) -> None:
        super().__init__({}, DockerCredentials({}, folder))
        self.address = address

    async def registry(self, host: str):
        assert host == "docker.io"
        return await super().registry(self.address)


async def test_counted_pulls_are_spared(own_registry, tmp_path):
    """On Docker Hub the image of a `COPY --from` is not read; that of a FROM is, and a single image is read anyway."""
    registry = own_registry()
    _, images = pushed(registry, "bases/hub")
    push_image(registry, "bases/hub", config(AMD64), target="single")
    begun = len(registry.asked("bases/hub"))
    copied, single = (replace(use(f"bases/hub:{tag}"), is_from=False) for tag in ("1", "single"))

    async with Mirror(registry.address, tmp_path) as registries:
        first = await resolve_bases(lambda _: {ARM64: [copied, single]}, [], registries, state=tmp_path)
        asked = registry.asked("bases/hub")[begun:]
        again = await resolve_bases(lambda _: {ARM64: [copied, use(copied.text)]}, [], registries, state=tmp_path)

    assert set(first.configs) == {(single.text, ARM64)}
    assert sum(line.startswith("GET manifests") for line in asked) == 2
    assert f"GET manifests/{images[ARM64]}" not in asked
    assert set(again.configs) == {(copied.text, ARM64)}
    assert f"GET manifests/{images[ARM64]}" in registry.asked("bases/hub")[begun:]


async def test_a_tag_that_moved_is_noticed(own_registry, tmp_path):
    """The digest of a tag is asked for in every run, unless the run began with another one."""
    registry = own_registry()
    text, images = pushed(registry, "bases/moved", Env=["A=1"])
    first = await resolved(tmp_path, use(text))
    pushed(registry, "bases/moved", Env=["A=2"])

    second = await resolved(tmp_path, use(text))
    held = await resolved(tmp_path, use(text), earlier={text: first.bases[text].manifest.digest})

    assert second.configs[text, ARM64].environment["A"] == "2"
    assert held.configs[text, ARM64].environment["A"] == "1"
    assert held.bases[text].for_platform(ARM64) == images[ARM64]


async def test_the_placeholder_has_what_all_images_agree_on(registry, tmp_path):
    """The host that builds is not known: its config counts only where every platform's is the same."""
    same, _ = pushed(registry, "bases/same", Env=["A=1"], OnBuild=["RUN x"])
    entries = [
        listed(push_image(registry, "bases/differs", config(one, Env=[f"A={one}"])), one) for one in (AMD64, ARM64)
    ]
    push_index(registry, "bases/differs", "1", *entries)
    differs = f"{registry.address}/bases/differs:1"
    windows = parse("windows/amd64")
    entries[0] = listed(push_image(registry, "bases/differs", config(windows, Env=["A=w"])), windows)
    push_index(registry, "bases/differs", "linux", *entries)

    found = await resolved(
        tmp_path, *(use(text, BUILD_PLATFORM) for text in (same, differs, f"{registry.address}/bases/differs:linux"))
    )

    assert found.configs[same, BUILD_PLATFORM].environment["A"] == "1"
    assert found.configs[same, BUILD_PLATFORM].triggers == ("RUN x",)
    assert found.configs[same, BUILD_PLATFORM].platform == BUILD_PLATFORM
    assert (differs, BUILD_PLATFORM) not in found.configs
    assert found.configs[f"{registry.address}/bases/differs:linux", BUILD_PLATFORM].environment["A"] == "linux/arm64"


async def test_an_onbuild_that_is_not_known_is_told(registry, tmp_path):
    """Variables that differ between hosts are no reason: those of golang do."""
    texts = {}
    for name, of_amd64, of_arm64 in [
        ("variables", {"Env": ["A=1"]}, {"Env": ["A=2"]}),
        ("triggers", {}, {"OnBuild": ["ADD https://example.org/a /"]}),
        ("odd", {}, {"Env": "no list"}),
    ]:
        entries = [
            listed(push_image(registry, f"bases/unknown-{name}", config(one, **inner)), one)
            for one, inner in ((AMD64, of_amd64), (ARM64, of_arm64))
        ]
        push_index(registry, f"bases/unknown-{name}", "1", *entries)
        texts[name] = f"{registry.address}/bases/unknown-{name}:1"
    cpus = [Platform("linux", f"cpu{number}") for number in range(13)]
    many = [listed(push_image(registry, "bases/unknown-many", config(cpu)), cpu) for cpu in cpus]
    push_index(registry, "bases/unknown-many", "1", *many)
    texts["many"] = f"{registry.address}/bases/unknown-many:1"
    copied = replace(use(texts["odd"]), is_from=False)

    found = await resolved(
        tmp_path, *(use(text, BUILD_PLATFORM) for text in texts.values()), use(texts["odd"], AMD64), copied
    )

    told = {text: reason for (text, platform), reason in found.unread.items() if platform == BUILD_PLATFORM}
    assert len(told) == len(found.unread)
    assert told.pop(texts["triggers"]) == "it has ONBUILD, and its images for Linux differ"
    assert told.pop(texts["many"]) == "it has 13 images for Linux, and at most 12 are read"
    assert "its Env is not a list of strings" in told.pop(texts["odd"])
    assert told == {}


async def test_one_image_is_the_base_of_every_platform(registry, tmp_path):
    """A single manifest, for another platform or for none: BuildKit takes it, and its config says what it is."""
    single = push_image(registry, "bases/single", config(AMD64), target="1")
    nameless = push_image(registry, "bases/nameless", {}, target="1")
    texts = [f"{registry.address}/bases/{name}:1" for name in ("single", "nameless")]

    found = await resolved(tmp_path, *(use(text, on) for text in texts for on in (ARM64, BUILD_PLATFORM)))

    assert [found.bases[text].for_platform(ARM64) for text in texts] == [single["digest"], nameless["digest"]]
    assert found.configs[texts[0], ARM64].platform == AMD64
    assert found.configs[texts[1], ARM64].platform == Platform("unknown", "unknown")
    assert (texts[0], BUILD_PLATFORM) in found.configs


async def test_a_base_of_another_platform_is_told(registry, tmp_path):
    """Where a stage builds on it without saying so; not where it is copied from or names nothing."""
    push_image(registry, "bases/foreign", config(AMD64), target="1")
    push_image(registry, "bases/silent", {}, target="1")
    text, silent = (f"{registry.address}/bases/{name}:1" for name in ("foreign", "silent"))
    uses = [use(text), use(text, AMD64), use(text, BUILD_PLATFORM), use(silent), use("localhost:1/none")]

    found = await resolved(tmp_path, *uses, replace(use(text, ARMV6), is_from=False))

    (told,) = foreign_bases(found.uses, found.bases)
    assert told.startswith(f"line 1: base image {text} is linux/amd64, and is built on for linux/arm64:")
    assert told.endswith("write FROM --platform=linux/amd64")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "COPY --from=zz a b",
            f"Dockerfile:4: no stage is named zz, so it is the image {HUB}/library/zz:latest{UNRESOLVED}",
        ),
        (
            "RUN --mount=from=biuld,target=/x y",
            f"Dockerfile:4: no stage is named biuld, so it is the image {HUB}/library/biuld:latest{UNRESOLVED}{MEANT}",
        ),
        ("COPY --from=nas.lan:5000/zz a b", "nas.lan:5000/zz could not be resolved: gone"),
        ("FROM biuld", f"biuld could not be resolved: gone{MEANT}"),
        ("FROM debian", "debian could not be resolved: gone"),
    ],
)
def test_an_image_that_may_be_meant_for_a_stage_is_said_to_be_an_image(line, told):
    """With the full name that the engine will ask for, and the stage whose name is near."""
    dockerfile = stages.parse(f"FROM scratch AS build\nRUN x\nFROM scratch\n{line}\n")
    uses = plan_bases(dockerfile, stage="", platform=ARM64, build_platform=AMD64, build_args={})

    assert unresolved(uses[0].text, "gone", dockerfile, {ARM64: uses}) == told


async def test_odd_indexes(registry, tmp_path):
    """An index in an index, and an entry without a platform, in a registry that really stores them."""
    entries = [push_image(registry, "bases/odd", config(one)) for one in (AMD64, ARM64)]
    inner = push_index(registry, "bases/odd", "inner", *map(listed, entries, (AMD64, ARM64)))
    size = {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": inner, "size": 1}
    push_index(registry, "bases/odd", "nested", size)
    push_index(registry, "bases/odd", "bare", *entries)
    nested, bare = (f"{registry.address}/bases/odd:{tag}" for tag in ("nested", "bare"))

    found = await resolved(tmp_path, use(nested), use(bare))

    assert found.bases[nested].for_platform(ARM64) == entries[1]["digest"]
    assert found.bases[bare].for_platform(ARM64) == entries[1]["digest"]
    assert {found.configs[text, ARM64].platform for text in (nested, bare)} == {ARM64}


async def test_a_missing_platform_names_what_there_is(registry, tmp_path):
    """Before any host is touched."""
    text, _ = pushed(registry, "bases/missing")

    with pytest.raises(UsageError, match="has no linux/arm/v6") as caught:
        await resolved(tmp_path, use(text, ARMV6))

    assert caught.value.code == "base"
    assert "this one has linux/amd64, linux/arm64. To copy files of one of these, name a stage" in caught.value.hint


@pytest.mark.parametrize("content", [{}, {"name": "chart", "version": "1"}])
async def test_an_artifact_is_no_base(registry, tmp_path, content):
    """No engine can build on a Helm chart: the error says so, and nothing is tried."""
    kind = "application/vnd.cncf.helm.config.v1+json"
    push_image(registry, "bases/chart", content, target="1", config_type=kind)

    with pytest.raises(UsageError, match=f"is not an image: its config is {re.escape(kind)}") as refused:
        await resolved(tmp_path, use(f"{registry.address}/bases/chart:1"))

    assert refused.value.code == "base"


async def test_a_config_of_another_type_is_one_where_it_has_a_platform(registry, tmp_path):
    text = f"{registry.address}/bases/bytes:1"
    push_image(registry, "bases/bytes", config(ARM64, Env=["A=1"]), target="1", config_type="application/octet-stream")

    found = await resolved(tmp_path, use(text))

    assert found.configs[text, ARM64].environment["A"] == "1"


async def test_what_cannot_be_resolved_is_left_to_the_engine(registry, tmp_path):
    """With the reason; a config that nobody can read leaves the base pinned and its variables unknown."""
    absent = f"{registry.address}/bases/absent:1"
    odd = push_image(registry, "bases/unread", config(ARM64, Env="no list"), target="1")
    unread = f"{registry.address}/bases/unread:1"

    found = await resolved(tmp_path, use(absent), use(unread), use("localhost:1/none"))

    assert set(found.bases) == {unread}
    assert found.bases[unread].for_platform(ARM64) == odd["digest"]
    assert found.configs == {}
    assert set(found.unread) == {(unread, ARM64)}
    assert "does not exist" in found.failures[absent]
    assert "localhost:1" in found.failures["localhost:1/none"]


async def test_earlier_bases(registry, tmp_path):
    """A run goes on with what it began with: what was not resolved stays so, and a silent registry is an error."""
    text, _ = pushed(registry, "bases/earlier")

    found = await resolved(tmp_path, use(text), earlier={})
    with pytest.raises(ArchloomError):
        await resolved(tmp_path, use("localhost:1/none"), earlier={"localhost:1/none": "sha256:" + "0" * 64})

    assert found.failures == {text: "it could not be resolved when this run began"}


async def test_triggers_may_name_further_images(registry, tmp_path):
    """The plan is made again with each config that has become known, and ends; a plan without end is an error."""
    names = [pushed(registry, f"bases/chain{number}")[0] for number in range(3)]

    def plan(known: Configs) -> dict[Platform, list[BaseUse]]:
        return {ARM64: [use(name) for name in names[: len(known) + 1]]}

    def endless(known: Configs) -> dict[Platform, list[BaseUse]]:
        calls.append(len(known))
        return {ARM64: [use(f"localhost:1/n{number}") for number in range(len(calls))]}

    calls: list[int] = []
    async with Registries({}, DockerCredentials({}, tmp_path)) as registries:
        found = await resolve_bases(plan, [], registries, state=tmp_path)
        with pytest.raises(UsageError, match="localhost:1/n0 → localhost:1/n1 → "):
            await resolve_bases(endless, [], registries, state=tmp_path)

    assert set(found.bases) == set(names)
    assert [used.text for used in found.uses[ARM64]] == names
    assert len(calls) == 10
