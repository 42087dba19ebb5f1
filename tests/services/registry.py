"""The real `docker-registry` on a free loopback port, with file storage; plain, or asking for a password or a token."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import secrets
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from urllib.error import HTTPError
from urllib.parse import unquote
from urllib.request import urlopen

from tests.services.commands import Child, run_limited
from tests.services.missing import program
from tests.services.tokens import TokenServer

_UPLOADED = re.compile(r"/v2/(?P<repository>[^?]+)/blobs/uploads/[^?]+\?.*digest=(?P<digest>sha256:[0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """One that runs. `authorization` makes the header with which requests for a repository are allowed everything."""

    address: str
    config: Path
    storage: Path
    log: Path
    authorization: Callable[[str], dict[str, str]]

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def asked(self, repository: str) -> list[str]:
        """The requests for the repository so far: method and the path below it."""
        self._wait_for_log()
        found: list[str] = []
        for line in self.log.read_text("utf-8").splitlines():
            entry = json.loads(line) if line.startswith("{") else {}
            path = unquote(entry.get("http.request.uri", ""))
            if entry.get("msg") == "response completed" and path.startswith(f"/v2/{repository}/"):
                found.append(f"{entry['http.request.method']} {path.removeprefix(f'/v2/{repository}/')}")
        return found

    def _wait_for_log(self) -> None:
        """Wait until a request of this call is in the log: the registry writes a line after its answer."""
        mark = secrets.token_hex(8)
        with contextlib.suppress(HTTPError), urlopen(f"{self.url}/v2/?{mark}", timeout=10):
            pass
        deadline = time.monotonic() + 10
        while mark not in self.log.read_text("utf-8"):
            assert time.monotonic() < deadline, "the registry writes no log"
            time.sleep(0.002)

    def uploads(self, repository: str) -> Counter[str]:
        """How often each blob was uploaded to the repository, to its end. One that was mounted was not."""
        self._wait_for_log()
        found: Counter[str] = Counter()
        for line in self.log.read_text("utf-8").splitlines():
            entry = json.loads(line) if line.startswith("{") else {}
            match = _UPLOADED.match(unquote(entry.get("http.request.uri", "")))
            if match and match["repository"] == repository and entry.get("http.response.status") == 201:
                found[match["digest"]] += 1
        return found


@contextmanager
def plain(folder: Path) -> Iterator[Registry]:
    """A registry that lets everybody do everything."""
    with _serve(folder, {}, lambda _: {}) as registry:
        yield registry


@contextmanager
def with_password(folder: Path, user: str, password: str) -> Iterator[Registry]:
    """A registry that asks for Basic authentication, reads included."""
    line = run_limited([program("htpasswd"), "-Bbn", user, password], check=True, capture_output=True)
    file = folder / "htpasswd"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_bytes(line.stdout)
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    auth = {"htpasswd": {"realm": "test", "path": str(file)}}
    with _serve(folder, auth, lambda _: {"Authorization": f"Basic {basic}"}) as registry:
        yield registry


@contextmanager
def with_tokens(folder: Path, tokens: TokenServer) -> Iterator[Registry]:
    """A registry that sends its clients to `tokens` for a bearer token, as Docker Hub and GHCR do."""
    bundle = folder / "tokens.pem"
    folder.mkdir(parents=True, exist_ok=True)
    bundle.write_bytes(tokens.certificate)
    auth = {
        "token": {
            "realm": f"{tokens.url}/token",
            "service": tokens.service,
            "issuer": tokens.issuer,
            "rootcertbundle": str(bundle),
        },
    }

    def authorization(repository: str) -> dict[str, str]:
        access = [{"type": "repository", "name": repository, "actions": ["pull", "push", "delete"]}]
        return {"Authorization": f"Bearer {tokens.sign('test', access, 300)}"}

    with _serve(folder, auth, authorization) as registry:
        yield registry


def garbage_collect(registry: Registry) -> str:
    """Runs the registry's own `garbage-collect --delete-untagged` on its storage and returns what it said.

    The server may go on running, since it is set up without a cache; nothing may be pushed meanwhile.
    """
    command = [program("docker-registry"), "garbage-collect", "--delete-untagged", str(registry.config)]
    return run_limited(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def _serve(
    folder: Path, auth: Mapping[str, object], authorization: Callable[[str], dict[str, str]]
) -> Iterator[Registry]:
    storage, config, log = folder / "storage", folder / "registry.json", folder / "registry.log"
    storage.mkdir(parents=True)
    settings = {
        "version": "0.1",
        "log": {"level": "info", "formatter": "json", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(storage)}, "delete": {"enabled": True}},
        "http": {"addr": "127.0.0.1:0", "secret": "one server only"},
        "auth": auth,
    }
    config.write_text(json.dumps(settings), "utf-8")
    command = [program("docker-registry"), "serve", str(config)]
    with Child(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        listening: SimpleQueue[str] = SimpleQueue()
        reader = threading.Thread(target=_copy_log, args=(process.stderr, log, listening))
        reader.start()
        try:
            address = listening.get(timeout=30)
            assert address, f"docker-registry did not start:\n{log.read_text('utf-8')}"
            yield Registry(address=address, config=config, storage=storage, log=log, authorization=authorization)
        finally:
            process.terminate()
            process.wait(30)
            reader.join(30)


def _copy_log(lines: Iterator[str], log: Path, listening: SimpleQueue[str]) -> None:
    """Announces the address the server says it has (port 0 was asked for), or "" when it ends without one."""
    with log.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(line)
            file.flush()
            _, found, address = line.partition('"msg":"listening on ')
            if found:
                listening.put(address.partition('"')[0])
    listening.put("")
