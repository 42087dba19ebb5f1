"""The spec of a job: its keys are what the agent reads, and each base is the one for its platform."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from coordinator.context.offer import LazyOffer
from coordinator.context.tree import ContextManifest
from coordinator.domain.dockerfile.base_config import read_base_config
from coordinator.domain.dockerfile.bases import BUILD_PLATFORM, plan_bases
from coordinator.domain.dockerfile.context_sources import ContextUse
from coordinator.domain.dockerfile.pinning import held_name
from coordinator.domain.dockerfile.stages import parse
from coordinator.domain.hosts.facts import Builder
from coordinator.domain.image.descriptors import OCI_INDEX, OCI_MANIFEST, Manifest, sha256
from coordinator.domain.image.index import IndexImages, parse_index
from coordinator.domain.image.platforms import Mode, Platform
from coordinator.domain.image.platforms import parse as platform_of
from coordinator.domain.image.references import parse as reference_of
from coordinator.errors import LostError
from coordinator.run.inputs.base_images import Base, ReadImage
from coordinator.run.inputs.gather import Inputs
from coordinator.run.inputs.taken_context import TakenContext
from coordinator.run.steps.job_spec import job_bases, known_bases, spec
from tests.edges.run.fixed_hosts import FixedHosts
from tests.edges.run.step_bed import BUILDING
from tests.edges.store.store_bed import AMD64, ARM64

ARMV7 = platform_of("linux/arm/v7")
TEXT = (
    "FROM --platform=$BUILDPLATFORM alpine:3.20 AS tools\n"
    "FROM alpine:3.20\n"
    "COPY --from=tools /bin/make /bin/\n"
    "COPY --from=unknown.lan/x:1 /x /x\n"
)


BUILDERS = {(AMD64, "pi5"): Builder.BUILDX}


def digest(platform: Platform) -> str:
    return sha256(str(platform).encode())


def index_of(*platforms: Platform) -> Manifest:
    """An index with an image for each."""
    entries = [
        {
            "mediaType": OCI_MANIFEST,
            "digest": digest(one),
            "size": 1,
            "platform": {"os": one.os, "architecture": one.architecture, "variant": one.variant},
        }
        for one in platforms
    ]
    raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    return Manifest(raw=raw, media_type=OCI_INDEX, digest=sha256(raw))


def _taken() -> TakenContext:
    manifest = ContextManifest(root=Path("/context"), entries=())
    use = ContextUse(everything="line 1: COPY . /")
    return TakenContext(use=use, manifest=manifest, digest="", offer=LazyOffer(manifest))


def inputs() -> Inputs:
    """Of a Dockerfile with one base that is known, for two platforms, and one that the engine has to resolve."""
    dockerfile = parse(TEXT)
    uses = {
        platform: plan_bases(dockerfile, stage="", platform=platform, build_platform=BUILD_PLATFORM, build_args={})
        for platform in (AMD64, ARM64, ARMV7)
    }
    index = index_of(AMD64, ARM64, ARMV7)
    images = IndexImages(listed=parse_index(index.raw, "alpine"))
    base = Base(reference=reference_of("alpine:3.20"), manifest=index, images=images)
    return Inputs(
        dockerfile=dockerfile,
        dockerfile_path="sub/Dockerfile",
        frontend="",
        contexts={platform: _taken() for platform in (AMD64, ARM64, ARMV7)},
        uses=uses,
        bases={"alpine:3.20": base},
        unstable=(),
        nonce="",
        build_ids={},
    )


def test_a_base_is_the_one_for_its_use():
    """That of a stage on the build platform is for the host's own engine, wherever the job runs."""
    tools, own = job_bases(inputs(), ARMV7, native=ARM64)

    assert (tools.platform, own.platform) == (ARM64, ARMV7)
    assert (tools.reference.digest, own.reference.digest) == (digest(ARM64), digest(ARMV7))
    assert own.engine_name == held_name("alpine:3.20", digest(ARMV7))
    assert (tools.broker_repository, own.broker_repository) == ("armv7base0", "armv7base1")


def test_an_image_of_another_platform_is_rewritten_for_the_engine():
    """The engine gets it for its use's platform and under a name of its own; the registry is asked for the original."""
    raw = json.dumps({"os": "linux", "architecture": "amd64"}).encode()
    document = {"config": {"mediaType": "c", "digest": sha256(raw), "size": len(raw)}, "layers": []}
    single = Manifest(raw=json.dumps(document).encode(), media_type=OCI_MANIFEST, digest=digest(AMD64))
    image = ReadImage(manifest=single, raw_config=raw, config=read_base_config(raw, "x"))
    base = Base(
        reference=reference_of("alpine:3.20"),
        manifest=single,
        images=IndexImages(listed=()),
        read={single.digest: image},
    )
    found = replace(inputs(), bases={"alpine:3.20": base})

    native, foreign = (job_bases(found, ARMV7, native=AMD64), job_bases(found, ARM64, native=ARM64))

    (tools, own), (again, other) = native, foreign
    assert tools.rewritten is None
    assert tools.digest == tools.reference.digest == own.reference.digest == single.digest
    assert [json.loads(one.rewritten.config)["architecture"] for one in (own, again, other)] == [
        "arm",
        "arm64",
        "arm64",
    ]
    assert (again.digest, again.engine_name) == (other.digest, other.engine_name)
    assert own.engine_name == held_name("alpine:3.20", own.rewritten.manifest.digest)
    assert len({tools.engine_name, own.engine_name, other.engine_name}) == 3


def test_the_spec_is_what_the_agent_reads(steps):
    """Each base once, the Dockerfile with its bases replaced, and the user's labels alone."""
    target = replace(
        steps.run.request.target, stage="final", build_args={"A": "1"}, labels={"mine": "x"}, no_cache=True
    )
    request = replace(steps.run.request, target=target)
    run = replace(
        steps.run,
        request=request,
        inputs_or_gone=inputs(),
        hosts=FixedHosts({}, {}, BUILDERS),
    )
    ctx = replace(steps.attempt(*BUILDING), run=run)
    bases = job_bases(inputs(), AMD64, native=AMD64)
    held = held_name("alpine:3.20", digest(AMD64))

    made = json.loads(json.dumps(spec(ctx, bases)))
    key = made.pop("context_key")

    assert re.fullmatch("[0-9a-f]{32}", key)
    assert made == {
        "format": 1,
        "platform": "linux/amd64",
        "engine": "buildx",
        "dockerfile": TEXT.replace("alpine:3.20", held),
        "dockerfile_path": "sub/Dockerfile",
        "dockerfile_apart": True,
        "stage": "final",
        "build_args": {"A": "1"},
        "labels": {"mine": "x"},
        "no_cache": True,
        "image": "archloom/7f3a:amd64-1",
        "bases": [
            {
                "name": held,
                "repository": bases[1].broker_repository,
                "digest": digest(AMD64),
                "platform": "linux/amd64",
            }
        ],
        "has_context": False,
        "limits": {"memory_floor": None, "stall_after": None},
    }


@pytest.mark.parametrize(("mode", "stall_after"), [(Mode.EMULATED, 900.0), (Mode.NATIVE, None), (Mode.COMPAT, None)])
def test_a_job_has_the_limits_of_its_host_and_mode(steps, mode, stall_after):
    """Silence is a sign of a fault under QEMU only; the floor of memory is the inventory's."""
    steps.farm.hosts["pi5"].memory_floor = 100_000_000
    run = replace(steps.run, inputs_or_gone=inputs(), hosts=FixedHosts({}, {}, BUILDERS))
    ctx = steps.attempt(*BUILDING)
    ctx = replace(ctx, run=run, attempt=replace(ctx.attempt, mode=mode))

    made = spec(ctx, job_bases(inputs(), AMD64, native=AMD64))

    assert made["limits"] == {"memory_floor": 100_000_000, "stall_after": stall_after}


def test_a_context_has_a_key_per_coordinator_target_and_platform(steps):
    """What a host keeps under a key is of one folder, one Dockerfile and stage, one platform and one coordinator."""
    target = steps.run.request.target
    first = steps.attempt(*BUILDING)

    def key(env=steps.run.env, platform=AMD64, **changes) -> object:
        request = replace(steps.run.request, target=replace(target, **changes))
        run = replace(
            steps.run,
            session=SimpleNamespace(**{**vars(steps.run.session), "env": env}),
            request=request,
            inputs_or_gone=inputs(),
            hosts=FixedHosts({}, {}, builders={(platform, "pi5"): Builder.BUILDX}),
        )
        return spec(replace(first, run=run, job=replace(first.job, platform=platform)), ())["context_key"]

    keys = [
        key(),
        key(context="/elsewhere"),
        key(dockerfile="/elsewhere/Dockerfile"),
        key(stage="test"),
        key(platform=ARM64),
        key(env=SimpleNamespace(holder="bob@beast", state=steps.run.env.state)),
        key(env=SimpleNamespace(holder=steps.run.env.holder, state=steps.run.env.state / "other")),
    ]
    assert len(set(keys)) == len(keys)
    assert key(build_args={"A": "1"}, labels={"L": "x"}, no_cache=True) == keys[0]


def test_without_inputs_no_layer_is_known(steps):
    """A resumed run whose context is gone still pushes what is built; it builds nothing."""
    ctx = steps.attempt(*BUILDING)
    ctx = replace(ctx, run=replace(steps.run, hosts=FixedHosts({}, {}, builders={(AMD64, "pi5"): Builder.API})))

    assert known_bases(ctx) == ()
    with pytest.raises(LostError) as caught:
        spec(ctx, ())
    assert caught.value.code == "changed"


def test_known_bases_are_those_of_the_host_that_has_the_job(steps):
    steps.farm.facts["pi5"] = SimpleNamespace(native=ARM64)
    ctx = steps.attempt(*BUILDING)

    bases = known_bases(replace(ctx, run=replace(steps.run, inputs_or_gone=inputs())))

    assert [base.platform for base in bases] == [ARM64, AMD64]
