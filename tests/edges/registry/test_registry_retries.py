"""What is tried again, what is not, and what is said of a registry that cannot be reached."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from coordinator.domain.hosts.inventory import RegistrySettings
from coordinator.errors import RegistryError, UsageError
from coordinator.registry.client import Registry
from coordinator.registry.endpoint import resolve, system_tls
from coordinator.registry.faults import translated
from tests.edges.registry.scripted_registry import DIGEST, PING, RAW, Known, Pauses, after_ping, client, manifest_reply
from tests.edges.registry.scripted_server import HostSelection, Reply, scripted, self_signed


async def test_retries() -> None:
    """Busy answers and broken connections are tried again, later each time, and then succeed."""
    broken = manifest_reply()
    broken.cut = 5
    for trouble in ([Reply(503), broken], [Reply(502, b"<html>"), Reply(raw=b"")]):
        async with client(after_ping(*trouble, manifest_reply())) as (registry, _, pauses):
            found = await registry.get_manifest("app", DIGEST)

        assert found.raw == RAW
        assert pauses.seconds == [0.5, 1.0]


async def test_retries_end() -> None:
    """After three tries the registry's last word is the error."""
    async with client(after_ping(Reply(503, b"down for maintenance"))) as (registry, server, pauses):
        with pytest.raises(RegistryError, match="down for maintenance") as refused:
            await registry.get_manifest("app", DIGEST)

    assert (len(server.asked), len(pauses.seconds), refused.value.code) == (4, 2, "unavailable")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "60"}, 60.0),
        ({"Retry-After": formatdate(1_000_030, usegmt=True), "Date": formatdate(1_000_000, usegmt=True)}, 30.0),
        ({"Retry-After": formatdate(1_000_000, usegmt=True)}, 0.5),
        ({"Retry-After": "soon"}, 0.5),
        ({}, 0.5),
    ],
)
async def test_retry_after(headers: dict[str, str], seconds: float) -> None:
    """A rate limit's own pause is kept, in seconds or as a date, up to a minute in all; a text body does not matter."""
    limited = Reply(429, b"You have reached your pull rate limit.", headers)
    async with client(after_ping(limited, manifest_reply())) as (registry, _, pauses):
        await registry.get_manifest("app", DIGEST)

    assert [seconds] == pauses.seconds


@pytest.mark.parametrize(("seconds", "said"), [("86400", "1 day"), ("61", "61 s"), ("9" * 400, "days")])
async def test_a_pause_of_more_than_a_minute_is_an_answer(seconds: str, said: str) -> None:
    """It is not slept: the error has it, in words and as a number."""
    limited = Reply(429, b"slow down", {"Retry-After": seconds})
    async with client(after_ping(limited)) as (registry, server, pauses):
        with pytest.raises(RegistryError, match=f"it asks to wait .*{said}") as refused:
            await registry.get_manifest("app", DIGEST)

    assert (len(server.asked), pauses.seconds) == (2, [])
    assert refused.value.retry_after == float(seconds[:9])


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_no_retry(status: int) -> None:
    """What another try cannot change is not tried again."""
    async with client(after_ping(Reply(status))) as (registry, server, pauses):
        with pytest.raises(RegistryError):
            await registry.get_manifest("app", DIGEST)

    assert (len(server.asked), pauses.seconds) == (2, [])


async def test_unreachable() -> None:
    """A registry that is not there is `unreachable` at once, with the reason and the address."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unused.getsockname()[1]}"
        pauses = Pauses()
        async with Registry(RegistrySettings(host=host), Known(), sleep=pauses.sleep) as registry:
            with pytest.raises(RegistryError, match=f"connection refused \\(http://{host}\\)") as refused:
                await registry.check_reachable()

    assert (refused.value.code, pauses.seconds) == ("unreachable", [])


async def test_name_that_does_not_resolve() -> None:
    """A name without an address is `unreachable`, and said to be that."""
    async with Registry(RegistrySettings(host="nowhere.invalid"), Known()) as registry:
        with pytest.raises(RegistryError, match="the name does not resolve") as refused:
            await registry.check_reachable()

    assert refused.value.code == "unreachable"


async def test_lost_in_the_middle() -> None:
    """A registry that was there is waited for when it goes away."""
    async with scripted(after_ping(PING)) as server:
        pauses = Pauses()
        async with Registry(RegistrySettings(host=server.host), Known(), sleep=pauses.sleep) as registry:
            await registry.check_reachable()
            await server.stop()
            with pytest.raises(RegistryError) as refused:
                await registry.get_manifest("app", DIGEST)

    assert (refused.value.code, len(pauses.seconds)) == ("unreachable", 2)


async def test_plain_http_where_https_is_due() -> None:
    """A registry that speaks plain http without `http: true` is a configuration error with the lines to paste."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as plain:
        # A name for loopback that does not look like it.
        host = f"127.1:{plain.sockets[0].getsockname()[1]}"
        async with Registry(RegistrySettings(host=host), Known()) as registry:
            with pytest.raises(UsageError, match="speaks plain http") as refused:
                await registry.check_reachable()

    assert f'registries:\n  "{host}": {{http: true}}' in refused.value.hint


async def test_not_a_registry() -> None:
    """A web server that is no registry is told apart from a missing image."""
    async with client(lambda _: Reply(404, b"<html>")) as (registry, _, _):
        with pytest.raises(RegistryError, match="is not a registry") as refused:
            await registry.check_reachable()

    assert refused.value.code == "no_registry"


async def test_https_where_http_is_set() -> None:
    """A server that wants TLS answers plain http with 400: the error says so."""
    async with client(lambda _: Reply(400, b"Client sent an HTTP request to an HTTPS server.")) as (registry, _, _):
        with pytest.raises(UsageError, match="may speak https"):
            await registry.check_reachable()


async def test_cancelled_in_the_middle() -> None:
    """A cancelled transfer leaves nothing open."""
    begun = asyncio.Event()

    async def script(asked: HostSelection) -> Reply:
        if asked.path == "/v2/":
            return PING
        begun.set()
        await asyncio.Event().wait()
        return PING

    async with client(script) as (registry, _, _):
        task = asyncio.ensure_future(registry.get_manifest("app", DIGEST))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_ca_that_is_none(tmp_path: Path) -> None:
    """A `ca` that is missing or no certificate is a configuration error with its name."""
    broken = tmp_path / "ca.pem"
    broken.write_text("nothing")
    for path in (broken, tmp_path / "missing.pem"):
        with pytest.raises(UsageError, match="cannot use the certificate file"):
            Registry(RegistrySettings(host="nas.lan", ca=str(path)), Known())


async def test_ca(tmp_path: Path) -> None:
    """A registry with a certificate of its own is trusted through `ca`, and without it named as untrusted."""
    context = self_signed(tmp_path)
    async with scripted(after_ping(manifest_reply()), tls=context) as server:
        trusted = RegistrySettings(host=f"127.0.0.1:{server.port}", ca=str(tmp_path / "cert.pem"))
        async with Registry(trusted, Known()) as registry:
            assert (await registry.get_manifest("app", DIGEST)).digest == DIGEST
        async with Registry(RegistrySettings(host=f"127.1:{server.port}"), Known()) as registry:
            with pytest.raises(UsageError, match="is not trusted") as refused:
                await registry.check_reachable()

    assert "{ca: /path/to/ca.pem}" in refused.value.hint


@pytest.fixture
def reloaded() -> Iterator[None]:
    """The system's certificates are those of this test."""
    system_tls.cache_clear()
    yield
    system_tls.cache_clear()


@pytest.mark.usefixtures("reloaded")
async def test_plain_http_loads_no_certificates(tmp_path, monkeypatch) -> None:
    """To load the system's takes 25 ms."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    async with client(after_ping(manifest_reply())) as (registry, _, _):
        assert (await registry.get_manifest("app", DIGEST)).digest == DIGEST


@pytest.mark.usefixtures("reloaded")
async def test_a_redirect_to_https_is_checked(tmp_path, monkeypatch) -> None:
    """From a plain http registry too, by the system's certificates; these are loaded once."""
    context = self_signed(tmp_path)
    async with scripted(lambda _: manifest_reply(), tls=context) as storage:
        elsewhere = Reply(307, headers={"Location": f"https://127.0.0.1:{storage.port}/blob"})
        async with client(after_ping(elsewhere)) as (registry, _, _):
            with pytest.raises(RegistryError, match="is not trusted"):
                await registry.get_manifest("app", DIGEST)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        system_tls.cache_clear()
        async with client(after_ping(elsewhere)) as (registry, _, _):
            assert (await registry.get_manifest("app", DIGEST)).digest == DIGEST
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
        async with client(after_ping(elsewhere)) as (registry, _, _):
            assert (await registry.get_manifest("app", DIGEST)).digest == DIGEST


def test_registries_share_the_system_s_certificates(tmp_path) -> None:
    """But for what one of them is trusted by besides."""
    self_signed(tmp_path)
    public = [resolve(RegistrySettings(host=host)).tls for host in ("docker.io", "ghcr.io")]
    own = resolve(RegistrySettings(host="nas.lan", ca=str(tmp_path / "cert.pem"))).tls

    assert public[0] is public[1] is system_tls()
    assert own is not None
    assert own.cert_store_stats()["x509"] == system_tls().cert_store_stats()["x509"] + 1


async def test_a_silence_is_not_tried_again_at_once() -> None:
    """It has taken a whole deadline. Who may wait longer, the run, tries again."""
    tries = 0

    async def silent() -> None:
        nonlocal tries
        tries += 1
        with translated("reach it", registry.endpoint.url, registry.endpoint):
            raise TimeoutError

    async with client(after_ping(PING)) as (registry, _, pauses):
        with pytest.raises(RegistryError, match="cannot reach it: no answer in 30 s") as refused:
            await registry._transport.retry(silent)

    assert (tries, pauses.seconds, refused.value.code) == (1, [], "unavailable")
    assert refused.value.registry == registry.name
