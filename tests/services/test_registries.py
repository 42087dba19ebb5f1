"""The test services are what they claim to be: real servers that refuse, count and serve."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.services.fixtures import PASSWORD, PUBLIC, USER
from tests.services.images import INDEX, base_image, push_manifest
from tests.services.judges import docker_login, pulled, ran, skopeo_copy, skopeo_inspect, skopeo_raw
from tests.services.missing import missing
from tests.services.registry import Registry, garbage_collect
from tests.services.tokens import TokenServer

CREDENTIALS = f"{USER}:{PASSWORD}"
PLATFORMS = ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6")


@pytest.mark.registry
def test_skopeo_finds_every_child_of_a_base(registry: Registry) -> None:
    """A base image is an index in which an independent client finds each platform's child."""
    base = base_image(registry, *PLATFORMS, repository="services/base")
    for platform in PLATFORMS:
        found = skopeo_inspect(base.reference, platform)
        assert (found["Os"], found["Architecture"]) == tuple(platform.split("/")[:2])
        assert skopeo_raw(base.reference.replace(":1", f"@{base.children[platform]}"))
    assert INDEX in skopeo_raw(base.reference).decode()


@pytest.mark.registry
def test_a_base_is_the_same_twice(registry: Registry, own_registry: Callable[[], Registry]) -> None:
    """The same platforms give the same digest in any registry."""
    first, second = (
        base_image(where, "linux/arm64", repository="services/same") for where in (registry, own_registry())
    )
    assert first.digest == second.digest
    assert first.reference != second.reference


@pytest.mark.engine
@pytest.mark.registry
def test_the_engine_pulls_and_runs_every_platform(registry: Registry, engine: Path, emulation: None) -> None:
    """The engine pulls each child by its platform and runs it, emulated where it is foreign."""
    base = base_image(registry, *PLATFORMS, repository="services/run")
    machines = {}
    for platform in PLATFORMS:
        with pulled(base.reference, platform) as image:
            assert [image["Os"], image["Architecture"]] == platform.split("/")[:2]
            machines[platform] = ran(base.reference, platform, "uname", "-m").strip()
    assert list(machines.values()) == ["x86_64", "aarch64", "armv7l", "armv7l"]


@pytest.mark.registry
def test_the_password_registry_refuses_a_wrong_password(registry: Registry, password_registry: Registry) -> None:
    """Behind htpasswd one pushes with the right password, and neither pushes nor reads with another or none."""
    base = base_image(registry, "linux/amd64", repository="services/source")
    target = f"{password_registry.address}/services/copy:1"
    skopeo_copy(base.reference, target, credentials=CREDENTIALS)
    assert skopeo_inspect(target, credentials=CREDENTIALS)["Digest"] == base.digest
    for credentials in (f"{USER}:wrong", ""):
        with pytest.raises(subprocess.CalledProcessError):
            skopeo_copy(base.reference, target, credentials=credentials)
        with pytest.raises(subprocess.CalledProcessError):
            skopeo_inspect(target, credentials=credentials)


@pytest.mark.registry
def test_the_token_registry_takes_tokens_only(
    registry: Registry, token_registry: Registry, tokens: TokenServer
) -> None:
    """Behind tokens one pushes after asking the token server with the right password, and each request is counted."""
    base = base_image(registry, "linux/amd64", repository="services/source")
    target = f"{token_registry.address}/team/copy:1"
    skopeo_copy(base.reference, target, credentials=CREDENTIALS)
    assert skopeo_inspect(target, credentials=CREDENTIALS)["Digest"] == base.digest
    assert {(request.user, request.status) for request in tokens.requests} == {(USER, 200)}
    assert any("repository:team/copy:pull,push" in request.scopes for request in tokens.requests)
    with pytest.raises(subprocess.CalledProcessError):
        skopeo_copy(base.reference, target, credentials=f"{USER}:wrong")
    assert tokens.requests[-1].status == 401


@pytest.mark.registry
def test_anybody_reads_what_is_public_and_no_more(token_registry: Registry, tokens: TokenServer) -> None:
    """Without a password the token registry lets one pull the public repository only."""
    public = base_image(token_registry, "linux/amd64", repository=PUBLIC)
    private = base_image(token_registry, "linux/amd64", repository="team/base")
    assert skopeo_inspect(public.reference)["Digest"] == public.digest
    with pytest.raises(subprocess.CalledProcessError):
        skopeo_inspect(private.reference)
    with pytest.raises(subprocess.CalledProcessError):
        skopeo_copy(private.reference, f"{token_registry.address}/{PUBLIC}:2")


@pytest.mark.registry
def test_an_expired_token_is_refused(token_registry: Registry, tokens: TokenServer) -> None:
    """A token from before is worth nothing: the registry answers with its challenge again."""
    base = base_image(token_registry, "linux/amd64", repository="team/base")
    tokens.expires_in = -120
    with pytest.raises(subprocess.CalledProcessError):
        skopeo_inspect(base.reference, credentials=CREDENTIALS)
    tokens.expires_in = 300
    assert skopeo_inspect(base.reference, credentials=CREDENTIALS)["Digest"] == base.digest


@pytest.mark.engine
@pytest.mark.registry
def test_the_engine_logs_in(
    token_registry: Registry, password_registry: Registry, engine: Path, tmp_path: Path
) -> None:
    """The engine pulls from both registries with a login, and from neither without."""
    for count, where in enumerate((token_registry, password_registry)):
        base = base_image(where, "linux/amd64", repository="team/login")
        login = docker_login(tmp_path / str(count), where.address, USER, PASSWORD)
        with pulled(base.reference, "linux/amd64", login=login) as image:
            assert image["Architecture"] == "amd64"
        anonymous = tmp_path / "anonymous"
        anonymous.mkdir(exist_ok=True)
        with pytest.raises(subprocess.CalledProcessError), pulled(base.reference, "linux/amd64", login=anonymous):
            pass


@pytest.mark.registry
def test_garbage_collection_takes_what_no_tag_holds(own_registry: Callable[[], Registry]) -> None:
    """After the registry's own collection a tagged image is there and one whose tag moved on is not."""
    running = own_registry()
    kept = base_image(running, "linux/amd64", repository="app")
    lost = push_manifest(
        running, "app", "old", INDEX, b'{"schemaVersion":2,"mediaType":"%s","manifests":[]}' % INDEX.encode()
    )
    push_manifest(running, "app", "old", INDEX, skopeo_raw(kept.reference))
    garbage_collect(running)
    assert skopeo_raw(kept.reference)
    with pytest.raises(HTTPError) as refused:
        urlopen(f"{running.url}/v2/app/manifests/{lost}")
    refused.value.close()
    assert refused.value.code == 404


def test_a_missing_part_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `CI=true` a missing part is a failure, elsewhere a skip that says what brings it."""
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no engine; `scripts/test` brings it"):
        missing("no engine")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception):
        missing("no engine")
