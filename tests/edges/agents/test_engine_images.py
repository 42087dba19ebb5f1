"""Bases in and images out, through a loopback port that asks for the job's secret."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from agents.base.errors import AgentError
from agents.engine import engines, images
from agents.engine.pull import pull
from agents.engine.push import Layers, push
from agents.engine.tunnel import broken, grant_user
from tests.edges.agents.engine_bed import BUILD_CLIENTS, Job, job, use_driver
from tests.services.images import MANIFEST, base_image
from tests.services.registry import Registry, with_password

pytestmark = [pytest.mark.engine, pytest.mark.registry, pytest.mark.usefixtures("engine")]

SECRET = "s3cret:with/odd ü"


@contextmanager
def registry_of(made: Job, folder: Path) -> Iterator[Registry]:
    """A registry that lets in this job only: its name and its secret."""
    with with_password(folder, grant_user(made.spec), SECRET) as running:
        yield running


def port(registry: Registry) -> int:
    return int(registry.address.rpartition(":")[2])


def quiet(*_: object) -> None: ...


def references(through: int) -> set[str]:
    """Every name that leads through this port."""
    listed = engines.local_engine().call("GET", "/images/json")
    names = (name for image in listed for name in (image.get("RepoTags") or []) + (image.get("RepoDigests") or []))
    return {name for name in names if name.startswith(f"127.0.0.1:{through}/")}


def read_json(registry: Registry, path: str) -> tuple[str, dict]:
    headers = {
        **registry.authorization(""),
        "Accept": f"{MANIFEST}, application/vnd.docker.distribution.manifest.v2+json",
    }
    with urlopen(Request(f"{registry.url}/v2/{path}", headers=headers), timeout=30) as response:
        return response.headers.get("Docker-Content-Digest", ""), json.loads(response.read())


@pytest.fixture
def based(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Job, Registry]]:
    """A job of this driver on two bases: a child by its digest, and an index by its own."""
    driver = getattr(request, "param", "api")
    names = [f"localhost:1/library/{name}:1-{tmp_path.name[-8:].strip('_-')}" for name in ("child", "index")]
    dockerfile = (
        f"FROM --platform=linux/amd64 {names[1]} AS tools\n"
        f"FROM {names[0]}\nCOPY --from=tools /bin/busybox /copied\nRUN uname -m > /m\n"
    )
    entries = [
        {"name": name, "repository": f"base{number}", "digest": "sha256:" + "0" * 64, "platform": platform}
        for number, (name, platform) in enumerate(zip(names, ("linux/arm64", "linux/amd64"), strict=True))
    ]
    with (
        job(tmp_path, driver, dockerfile, "linux/arm64", bases=entries) as made,
        registry_of(made, tmp_path / "registry") as registry,
    ):
        child = base_image(registry, "linux/amd64", "linux/arm64", repository="base0").children["linux/arm64"]
        index = base_image(registry, "linux/amd64", "linux/arm64", repository="base1").digest
        bases = tuple(
            base._replace(digest=digest) for base, digest in zip(made.spec.bases, (child, index), strict=True)
        )
        yield made._replace(spec=made.spec._replace(bases=bases)), registry


@pytest.mark.usefixtures("emulation")
@pytest.mark.parametrize("based", BUILD_CLIENTS, indirect=True)
def test_bases_come_in_and_the_image_goes_out(based, tmp_path, monkeypatch):
    """Pulled once, held under names no registry answers to, built from, pushed, and no other name is left."""
    made, registry = based
    use_driver(made.spec.engine, tmp_path, monkeypatch)
    said: list[str] = []
    bytes_told: list[tuple[int, int]] = []
    cancelled = threading.Event()

    assert pull(made.spec, port(registry), SECRET, said.append, cancelled) == {"pulled": 2, "kept": 0}
    assert pull(made.spec, port(registry), "not needed", said.append, cancelled) == {"pulled": 0, "kept": 2}
    assert references(port(registry)) == set()
    assert made.run()["state"] == "BUILT", made.log
    pushed = push(
        made.spec, port(registry), "one/image", "image", SECRET, lambda *told: bytes_told.append(told), cancelled
    )

    digest, manifest = read_json(registry, "one/image/manifests/image")
    _, config = read_json(registry, f"one/image/blobs/{manifest['config']['digest']}")
    assert pushed["digest"] == digest
    assert pushed["size"] > 0
    assert (config["os"], config["architecture"]) == ("linux", "arm64")
    assert [line.rpartition(" ")[2] for line in said] == ["pulling", "pulled"] * 2
    assert bytes_told[-1][0] == bytes_told[-1][1] > 0
    assert references(port(registry)) == set()
    assert push(made.spec, port(registry), "one/image", "image", SECRET, quiet, cancelled) == pushed

    engines.discard(made.spec)
    assert [images.inspect(engines.local_engine(), base.name) for base in made.spec.bases] == [None, None]


def test_a_refused_pull_names_the_base(based):
    """What the registry refuses is the base's error, and nobody's secret is in it."""
    made, registry = based

    with pytest.raises(AgentError) as refused:
        pull(made.spec, port(registry), "wrong-secret", quiet, threading.Event())

    assert refused.value.code == "base"
    assert made.spec.bases[0].name in refused.value.message
    assert "wrong-secret" not in f"{refused.value.message} {refused.value.detail}"
    assert references(port(registry)) == set()


def test_a_refused_push_is_the_registrys_word(based):
    """What the registry refuses is `refused`; the name that led there is gone all the same."""
    made, registry = based
    with job(made.folder.parent, "api", "FROM scratch\nCOPY busybox /b\n") as own:
        assert own.run()["state"] == "BUILT"

        with pytest.raises(AgentError) as refused:
            push(own.spec, port(registry), "one/image", "image", "wrong-secret", quiet, threading.Event())

    assert refused.value.code == "refused"
    assert "wrong-secret" not in refused.value.message
    assert references(port(registry)) == set()


@pytest.fixture
def built(tmp_path: Path) -> Iterator[Job]:
    with job(tmp_path, "api", "FROM scratch\nCOPY busybox /b\n") as made:
        assert made.run()["state"] == "BUILT"
        yield made


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that is taken, answers no byte, and ends with the test."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_a_tunnel_that_is_not_there_is_told_from_a_refusal(built, closed_port):
    """Nobody on the port: the coordinator opens a tunnel again, and the same push is asked for anew."""
    with pytest.raises(AgentError) as refused:
        push(built.spec, closed_port, "one/image", "image", SECRET, quiet, threading.Event())

    assert refused.value.code == "tunnel"
    assert references(closed_port) == set()


def test_an_engine_that_finds_nobody_where_the_tunnel_is_has_another_loopback():
    """We can connect and it cannot: no other try helps, unlike with a tunnel that broke or a refusal."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        through = server.getsockname()[1]
        refused = f'Get "http://127.0.0.1:{through}/v2/": dial tcp 127.0.0.1:{through}: connect: connection refused'

        assert broken(through, refused).code == "loopback"
        assert broken(through, refused.replace(str(through), "1")).code == "tunnel"
        assert broken(through, f'Put "http://127.0.0.1:{through}/v2/": EOF').code == "tunnel"
        assert broken(through, "denied: not yours") is None
    assert broken(through, refused).code == "tunnel"


def test_a_cancelled_push_ends(built, silent_port):
    """`cancelled` ends a push that waits for ever, and the engine's with it."""
    cancelled = threading.Event()
    timer = threading.Timer(0.3, cancelled.set)
    timer.start()

    with pytest.raises(AgentError) as refused:
        push(built.spec, silent_port, "one/image", "image", SECRET, quiet, cancelled)

    assert refused.value.code == "cancelled"
    assert references(silent_port) == set()
    timer.join(60)


def test_a_cancelled_pull_ends(based, silent_port):
    """`cancelled` ends a pull that waits for ever."""
    made, _ = based
    cancelled = threading.Event()
    timer = threading.Timer(0.3, cancelled.set)
    timer.start()

    with pytest.raises(AgentError) as refused:
        pull(made.spec, silent_port, SECRET, quiet, cancelled)

    assert refused.value.code == "cancelled"
    timer.join(60)


class CancelledAsItCame(threading.Event):
    """Set for who asks when the pull is over, and not yet for the thread that would have ended it before."""

    def is_set(self) -> bool:
        return threading.current_thread() is threading.main_thread()


def test_a_pull_that_is_cancelled_as_it_ends_leaves_no_name(based):
    """The base is whole by then, under a name of the tunnel's that would keep it for ever."""
    made, registry = based

    with pytest.raises(AgentError) as refused:
        pull(made.spec, port(registry), SECRET, quiet, CancelledAsItCame())

    assert refused.value.code == "cancelled"
    assert references(port(registry)) == set()
    assert images.inspect(engines.local_engine(), made.spec.bases[0].name) is None


def test_what_was_not_built_is_not_pushed(tmp_path, closed_port):
    """A push without an image says so before it looks for a tunnel."""
    with job(tmp_path, "api", "FROM scratch\n") as made, pytest.raises(AgentError) as refused:
        push(made.spec, closed_port, "one/image", "image", SECRET, quiet, threading.Event())

    assert refused.value.code == "not_built"


def test_bytes_of_a_push_are_told_whole():
    """Layers that grow beyond their announced size, that were there, and that are done: never more done than in all."""
    told: list[tuple[int, int]] = []
    layers = Layers(lambda *bytes_: told.append(bytes_))

    for message in (
        {"status": "The push refers to repository [127.0.0.1:1/x]"},
        {"status": "Preparing", "progressDetail": {}, "id": "a"},
        {"status": "Pushing", "progressDetail": {"current": 5, "total": 10}, "id": "a"},
        {"status": "Layer already exists", "progressDetail": {}, "id": "b"},
        {"status": "Pushing", "progressDetail": {"current": 12, "total": 10}, "id": "a"},
        {"status": "Pushed", "progressDetail": {}, "id": "a"},
    ):
        layers.tell(message)

    assert told == [(5, 10), (12, 12)]


def test_jobs_that_push_under_one_name_push_their_own_image(tmp_path, silent_port):
    """The second waits for the first, and gives up at once when it is cancelled meanwhile: names are not shared."""
    first, second = threading.Event(), threading.Event()
    codes: list[str] = []
    with (
        job(tmp_path, "api", "FROM scratch\nCOPY busybox /b\n") as one,
        job(tmp_path, "api", "FROM scratch\nCOPY busybox /c\n") as other,
    ):
        assert (one.run()["state"], other.run()["state"]) == ("BUILT", "BUILT")

        def push_until(made: Job, cancelled: threading.Event) -> None:
            with pytest.raises(AgentError) as refused:
                push(made.spec, silent_port, "push", "image", SECRET, quiet, cancelled)
            codes.append(refused.value.code)

        waiting = threading.Thread(target=push_until, args=(one, first))
        waiting.start()
        named = f"127.0.0.1:{silent_port}/push:image"
        assert _appears(named)
        second.set()
        push_until(other, second)
        assert (
            images.inspect(engines.local_engine(), named)["Id"]
            == images.inspect(engines.local_engine(), one.spec.image)["Id"]
        )
        first.set()
        waiting.join(60)

    assert codes == ["cancelled", "cancelled"]
    assert references(silent_port) == set()


def _appears(name: str) -> bool:
    tick = threading.Event()
    return any(images.inspect(engines.local_engine(), name) or tick.wait(0.05) for _ in range(200))
