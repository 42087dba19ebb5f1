"""Credentials are found where `docker login` and `podman login` left them, and trouble names its file or helper."""

from __future__ import annotations

import base64
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coordinator.config.credentials import DockerCredentials
from coordinator.domain.secrets import Credential, Secret
from coordinator.errors import UsageError

HOST = "nas.lan:5000"
HUB_KEY = "https://index.docker.io/v1/"


def auth(pair: str) -> dict[str, str]:
    return {"auth": base64.b64encode(pair.encode()).decode()}


def known(username: str, password: str = "", token: str = "") -> Credential:
    return Credential(username=username, password=Secret(password), identity_token=Secret(token))


class Home:
    """A home folder of its own, with a PATH that begins with its helpers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}

    def write(self, name: str, document: object) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")

    def helper(self, name: str, script: str) -> None:
        self.write(f"bin/docker-credential-{name}", f"#!/bin/sh\n{script}\n")
        (self.folder / "bin" / f"docker-credential-{name}").chmod(0o755)

    def find(self, registry: str = HOST, seconds: float = 10.0, repository: str = "") -> Credential | None:
        return self.source(seconds).credentials(registry, repository)

    def source(self, seconds: float = 10.0) -> DockerCredentials:
        runtime = self.folder / "run"
        return DockerCredentials(self.environ, self.folder, helper_seconds=seconds, runtime=runtime)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    made = Home(tmp_path)
    monkeypatch.setenv("PATH", made.environ["PATH"])
    return made


ANSWER = """read server; echo '{"ServerURL":"'$server'","Username":"%s","Secret":"from '$server'"}'"""
NOTHING = "echo 'credentials not found in native keychain'; exit 1"


def test_nothing(home: Home) -> None:
    """Without any file there are no credentials, and no error."""
    assert home.find() is None


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (auth("ann:secret"), known("ann", "secret")),
        (auth("ann:pa:ß\0\0"), known("ann", "pa:ß")),
        ({"auth": "YW5uOnNl\nY3JldA==\r\n"}, known("ann", "secret")),
        ({"registrytoken": "t"}, Credential(registry_token=Secret("t"))),
        ({"username": "ann", "password": "secret"}, known("ann", "secret")),
        (auth("ann:") | {"identitytoken": "t"}, known("ann", token="t")),
        ({"identitytoken": "t"}, known("", token="t")),
        ({}, None),
        (None, None),
    ],
)
def test_auths(home: Home, entry: object, expected: Credential | None) -> None:
    """An entry holds base64 of user:password, both apart, or an identity token; an empty one holds nothing."""
    home.write(".docker/config.json", {"auths": {HOST: entry}, "proxies": {}, "HttpHeaders": {}})

    assert expected == home.find()
    assert home.find("other.lan:5000") is None


@pytest.mark.parametrize("key", [HUB_KEY, "index.docker.io", "docker.io", "https://registry-1.docker.io/v2/"])
def test_hub(home: Home, key: str) -> None:
    """Docker Hub has one key of its own and some old spellings."""
    home.write(".docker/config.json", {"auths": {key: auth("ann:secret")}})

    assert known("ann", "secret") == home.find("docker.io")


@pytest.mark.parametrize("key", [f"https://{HOST}", f"http://{HOST}/v1/", f"{HOST}/", f"http://{HOST}/some/path"])
def test_old_keys(home: Home, key: str) -> None:
    """A key with a scheme or a version means its host; the exact key goes before it."""
    home.write(".docker/config.json", {"auths": {key: auth("old:secret")}})
    assert known("old", "secret") == home.find()

    home.write(".docker/config.json", {"auths": {key: auth("old:secret"), HOST: auth("ann:secret")}})
    assert known("ann", "secret") == home.find()


@pytest.mark.parametrize(
    ("registry", "repository", "user"),
    [
        (HOST, "team/app", "app"),
        (HOST, "team/app/sub", "app"),
        (HOST, "team/other", "team"),
        (HOST, "teams/app", "whole"),
        (HOST, "", "whole"),
        ("docker.io", "library/alpine", "library"),
        ("docker.io", "ann/alpine", "hub"),
    ],
)
def test_namespaces(home: Home, registry: str, repository: str, user: str) -> None:
    """podman keeps a login per namespace or repository; the closest one counts."""
    keys = {
        HOST: "whole",
        f"{HOST}/team": "team",
        f"{HOST}/team/app": "app",
        "docker.io": "hub",
        "docker.io/library": "library",
    }
    home.write("run/0/auth.json", "")
    home.write(".config/containers/auth.json", {"auths": {key: auth(f"{name}:x") for key, name in keys.items()}})

    assert home.find(registry, repository=repository) == known(user, "x")


def test_podman_s_place_without_a_runtime_folder(home: Home) -> None:
    """As after a login over SSH without a session; where XDG_RUNTIME_DIR is set, only that counts."""
    home.write(f"run/{os.getuid()}/auth.json", {"auths": {HOST: auth("ann:secret")}})

    assert home.find() == known("ann", "secret")
    home.environ["XDG_RUNTIME_DIR"] = str(home.folder / "elsewhere")
    assert home.find() is None


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_file_has_nothing(home: Home, text: str) -> None:
    """Docker writes one when its disk is full, and reads it again."""
    home.write(".docker/config.json", text)

    assert home.find() is None


def test_an_empty_helper_means_the_file(home: Home) -> None:
    """Beside a store for all others."""
    home.helper("nothing", "exit 7")
    document = {"auths": {HOST: auth("ann:secret")}, "credHelpers": {HOST: ""}, "credsStore": "nothing"}
    home.write(".docker/config.json", document)

    assert home.find() == known("ann", "secret")


def test_a_helper_ends_with_the_command(home: Home) -> None:
    """Ctrl-C does not wait for one that asks its user for something; nor does a program it has left behind."""
    home.helper("slow", f"(sleep 600 & echo $! > {home.folder}/child); echo $$ > {home.folder}/pid; exec sleep 600")
    home.write(".docker/config.json", {"credsStore": "slow"})
    source = home.source(60.0)
    with ThreadPoolExecutor() as threads:
        asking = threads.submit(source.credentials, HOST)
        while not (home.folder / "pid").exists():
            assert not asking.done()
        source.end_helpers()
        with pytest.raises(UsageError, match="docker-credential-slow"):
            asking.result(10)
    os.kill(int((home.folder / "child").read_text()), signal.SIGKILL)


def test_precedence(home: Home) -> None:
    """The variable, the host's helper, the store, auths, and podman's file at last: in this order."""
    home.write(".config/containers/auth.json", {"auths": {HOST: auth("podman:x"), f"{HOST}/team": auth("team:x")}})
    assert known("podman", "x") == home.find()

    config = {"auths": {HOST: auth("auths:x")}}
    home.write(".docker/config.json", config)
    assert known("auths", "x") == home.find()

    home.helper("store", ANSWER % "store")
    home.write(".docker/config.json", config | {"credsStore": "store"})
    assert known("store", f"from {HOST}") == home.find()

    home.helper("host", ANSWER % "host")
    home.write(".docker/config.json", config | {"credsStore": "store", "credHelpers": {HOST: "host"}})
    assert known("host", f"from {HOST}") == home.find()
    assert known("store", "from other.lan") == home.find("other.lan")

    home.environ["DOCKER_AUTH_CONFIG"] = json.dumps({"auths": {HOST: auth("variable:x")}})
    assert known("variable", "x") == home.find()


def test_places(home: Home) -> None:
    """DOCKER_CONFIG moves Docker's folder; podman's file may be named, or be the session's."""
    home.write("elsewhere/config.json", {"auths": {HOST: auth("moved:x")}})
    home.write("named.json", {"auths": {HOST: auth("named:x")}})
    home.write("run/containers/auth.json", {"auths": {HOST: auth("session:x")}})

    home.environ["XDG_RUNTIME_DIR"] = str(home.folder / "run")
    assert known("session", "x") == home.find()
    home.environ["REGISTRY_AUTH_FILE"] = str(home.folder / "named.json")
    assert known("named", "x") == home.find()
    home.environ["DOCKER_CONFIG"] = str(home.folder / "elsewhere")
    assert known("moved", "x") == home.find()


def test_helper_is_asked_for_the_hub_by_its_key(home: Home) -> None:
    """A helper knows Docker Hub by the key that `docker login` uses."""
    home.helper("store", ANSWER % "ann")
    home.write(".docker/config.json", {"credsStore": "store"})

    assert known("ann", f"from {HUB_KEY}") == home.find("docker.io")


def test_helper_with_an_identity_token(home: Home) -> None:
    """The user `<token>` says that the secret is an identity token."""
    home.helper("store", ANSWER % "<token>")
    home.write(".docker/config.json", {"credsStore": "store"})

    assert known("", token=f"from {HOST}") == home.find()


@pytest.mark.parametrize("script", [NOTHING, """echo '{"ServerURL":"","Username":"","Secret":""}'"""])
def test_helper_without_an_entry(home: Home, script: str) -> None:
    """A helper that has nothing for a registry is no error."""
    home.helper("store", script)
    home.write(".docker/config.json", {"credsStore": "store"})

    assert home.find() is None


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo hidden-garbage", "did not print valid JSON"),
        ("echo '[]'", "did not print valid JSON"),
        ("""echo '{"Username": "ann"}'""", "did not print valid JSON"),
        (r"printf '\377'", "did not print valid JSON"),
        ("echo 'no desktop is there'; exit 2", 'failed: .*"no desktop is there'),
        ("exec sleep 600", "did not answer within 0.2 s"),
    ],
)
def test_helper_in_trouble(home: Home, script: str, why: str) -> None:
    """A helper that fails, hangs or prints garbage is named; what it printed as an answer is not shown."""
    home.helper("store", script)
    home.write(".docker/config.json", {"credsStore": "store"})

    with pytest.raises(UsageError, match=f"docker-credential-store {why}") as refused:
        home.find(seconds=0.2 if "sleep" in script else 10.0)

    assert "hidden-garbage" not in str(refused.value)


def test_helper_that_is_missing(home: Home) -> None:
    """A helper that is not installed is named, with the file that asks for it."""
    home.write(".docker/config.json", {"credHelpers": {HOST: "absent"}})

    with pytest.raises(UsageError, match=r"docker-credential-absent, named in .*config\.json, is not installed"):
        home.find()
    assert home.find("other.lan") is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"auths": ', r"it is not JSON \(line 1: Expecting value\)"),
        ("[]", "it is not a JSON object"),
        ("[" * 100_000, "it is not JSON"),
        ('{"auths": []}', None),
        ('{"auths": ["x"]}', "auths is not an object"),
        ('{"credHelpers": "x"}', "credHelpers is not an object"),
        ('{"credsStore": "../evil"}', "'../evil' is not the name of a credential helper"),
        ('{"credsStore": 3}', "3 is not the name of a credential helper"),
        (f'{{"auths": {{"{HOST}": "x"}}}}', "the entry of .* is not an object"),
        (f'{{"auths": {{"{HOST}": {{"auth": "%%%"}}}}}}', "auth of .* is not base64 of user:password"),
        (f'{{"auths": {{"{HOST}": {{"auth": "c2VjcmV0"}}}}}}', "auth of .* is not base64 of user:password"),
        (f'{{"auths": {{"{HOST}": {{"auth": "//8="}}}}}}', "auth of .* is not base64 of user:password"),
    ],
)
def test_malformed(home: Home, text: str, why: str | None) -> None:
    """A broken file is named with what is wrong in it, and shows nothing of its content."""
    home.write(".docker/config.json", text)

    if why is None:
        assert home.find() is None
    else:
        with pytest.raises(UsageError, match=f"{home.folder}/.docker/config.json: {why}") as refused:
            home.find()
        assert refused.value.__cause__ is None


def test_malformed_variable(home: Home) -> None:
    """A broken variable is named as that."""
    home.environ["DOCKER_AUTH_CONFIG"] = "x"

    with pytest.raises(UsageError, match="from DOCKER_AUTH_CONFIG"):
        home.find()


def test_unreadable_file(home: Home) -> None:
    """A file that is there and cannot be read is an error; nobody should wonder why they are anonymous."""
    (home.folder / ".docker" / "config.json").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"cannot read credentials from .*: Is a directory"):
        home.find()


def test_file_that_is_not_text(home: Home) -> None:
    """A file that is not UTF-8 is an error."""
    home.write(".docker/config.json", "")
    (home.folder / ".docker" / "config.json").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="it is not UTF-8"):
        home.find()
