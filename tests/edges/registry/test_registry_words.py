"""What the user is told of servers that are no registry, or refuse for a reason that is not in the status."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.domain.hosts.inventory import RegistrySettings
from coordinator.domain.image.descriptors import sha256
from coordinator.errors import ArchloomError, RegistryError, UsageError
from coordinator.registry.client import Registry
from coordinator.registry.refusals import refusal
from tests.edges.registry.scripted_registry import DIGEST, PING, Known, after_ping, client, error_reply
from tests.edges.registry.scripted_server import HostSelection, Reply, Script, scripted, self_signed

PAGE = Reply(200, b"<!doctype html><title>nas</title>", {"Content-Type": "text/html; charset=utf-8"})
FULL = {
    "DriverName": "filesystem",
    "Enclosed": {"Op": "write", "Path": "/var/lib/registry/docker/x", "Err": 28},
}


def deep(levels: int) -> object:
    """As nobody but somebody hostile sends it."""
    detail: object = {"Err": 28}
    for _ in range(levels):
        detail = {"Enclosed": detail}
    return detail


async def refused(script: Script) -> ArchloomError:
    async with client(script) as (registry, _, _):
        with pytest.raises(ArchloomError) as error:
            await registry.check_push("app")
    return error.value


async def test_a_full_disk_is_said_in_the_system_s_words() -> None:
    """distribution answers 500 `unknown error`, and has the reason in `detail` only."""
    error = await refused(after_ping(error_reply(500, "UNKNOWN", "unknown error", FULL)))

    assert "unknown error: No space left on device (500 UNKNOWN)" in error.message
    assert error.code == "unavailable"


@pytest.mark.parametrize(
    ("detail", "words"),
    [
        ("s3aws: SlowDown: reduce your request rate", "unknown error: s3aws: SlowDown: reduce your request rate ("),
        ({"Err": 30}, "unknown error: Read-only file system ("),
        ({"Enclosed": None}, "unknown error ("),
        ([{"Type": "repository", "Name": "app", "Action": "push"}], "unknown error ("),
        ({"Enclosed": {"Enclosed": {"Err": "text"}}}, "unknown error: text ("),
        (None, "unknown error ("),
        (deep(500), "unknown error ("),
    ],
)
async def test_details_of_other_shapes(detail: object, words: str) -> None:
    reply = error_reply(500, "UNKNOWN", "unknown error", detail)

    assert words in refusal(500, reply.body, doing="push", registry="nas").message


async def test_a_web_page_for_everything_is_no_registry() -> None:
    """The address of a NAS's own pages, or of a hotel's login."""
    error = await refused(lambda _: PAGE)

    assert isinstance(error, RegistryError)
    assert (error.code, error.hint) == ("no_registry", "is the address right?")
    assert error.message.endswith("answers, but is not a registry: it sends a web page for /v2/")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_web_page_in_the_middle_is_neither_a_manifest_nor_a_blob(method: str) -> None:
    """A proxy that shows one while its registry restarts. It is no fault of the image."""
    async with client(after_ping(PAGE)) as (registry, _, _):
        with pytest.raises(RegistryError, match="it sends a web page") as error:
            await (registry.get_manifest if method == "GET" else registry.blob_exists)("app", DIGEST)

    assert error.value.code == "no_registry"


async def test_an_answer_of_another_kind_proves_nothing_of_a_tag() -> None:
    """Of a digest it does, where the bytes have it: that image is malformed. A tag's answer may be anybody's."""
    body = b'{"status": "starting"}'
    other = Reply(200, body, {"Content-Type": "application/json"})
    for target, code in (("1.0", "no_registry"), (sha256(body), "malformed"), (DIGEST, "corrupt")):
        async with client(after_ping(other)) as (registry, _, _):
            with pytest.raises(RegistryError) as error:
                await registry.get_manifest("app", target)
        assert error.value.code == code


async def test_a_web_page_where_an_upload_is_to_begin() -> None:
    error = await refused(after_ping(PAGE))

    assert "cannot push to" in error.message
    assert "the answer is a web page (200)" in error.message


async def test_quay_s_ping_is_no_web_page() -> None:
    """Flask sends `true` as text/html."""
    quay = Reply(200, b"true", {"Content-Type": "text/html; charset=utf-8"})
    async with client(lambda _: quay) as (registry, _, _):
        await registry.check_reachable()


async def test_plain_http_that_redirects_to_https_is_said() -> None:
    """Followed back and forth, it would be "too many redirects"."""

    def script(asked: HostSelection) -> Reply:
        return Reply(301, headers={"Location": f"https://{asked.headers['host']}{asked.path}"})

    async with client(script) as (registry, server, _):
        with pytest.raises(UsageError, match="redirects plain http to https") as error:
            await registry.check_reachable()

    assert error.value.hint.startswith(f'take `http: true` of "{server.host}" out of inventory.yaml')
    assert len(server.asked) == 1


async def test_a_redirect_to_the_own_host_without_another_scheme_is_followed() -> None:
    """Only the same path over https means that https is wanted."""

    def script(asked: HostSelection) -> Reply:
        if asked.path == "/v2/":
            return PING
        elsewhere = asked.path.endswith("elsewhere")
        return (
            Reply(200)
            if elsewhere
            else Reply(307, headers={"Location": f"https://{asked.headers['host']}/v2/elsewhere"})
        )

    async with client(script) as (registry, _, _):
        assert await registry.blob_exists("app", DIGEST)


async def test_a_certificate_for_another_name(tmp_path: Path) -> None:
    """It is trusted, and the name is wrong: to name an authority would not help."""
    async with scripted(lambda _: PING, tls=self_signed(tmp_path)) as server:
        settings = RegistrySettings(host=f"localhost:{server.port}", ca=str(tmp_path / "cert.pem"))
        async with Registry(settings, Known()) as registry:
            with pytest.raises(UsageError, match="is for another name: Hostname mismatch") as error:
                await registry.check_reachable()

    assert "use the name that is in the certificate" in error.value.hint
    assert "ca:" not in error.value.hint


async def test_a_certificate_of_another_authority_than_the_inventory_s(tmp_path: Path) -> None:
    """The hint does not tell to write what is there."""
    (tmp_path / "other").mkdir()
    self_signed(tmp_path / "other")
    async with scripted(lambda _: PING, tls=self_signed(tmp_path)) as server:
        ca = str(tmp_path / "other" / "cert.pem")
        async with Registry(RegistrySettings(host=f"127.0.0.1:{server.port}", ca=ca), Known()) as registry:
            with pytest.raises(UsageError, match="is not trusted") as error:
                await registry.check_reachable()

    assert ca in error.value.hint


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(413, b"<html>Request Entity Too Large</html>"), "client_max_body_size"),
        (
            error_reply(405, "UNSUPPORTED", "The operation is unsupported."),
            "a pull-through cache or a read-only registry",
        ),
        (Reply(405), "a pull-through cache or a read-only registry"),
    ],
)
async def test_what_to_do_where_a_push_is_not_taken(reply: Reply, words: str) -> None:
    assert words in (await refused(after_ping(reply))).hint
