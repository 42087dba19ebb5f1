"""Challenges are read as RFC 9110 writes them; tokens are fetched once, kept while they live, and refused for good."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.hosts.inventory import RegistrySettings
from coordinator.domain.secrets import Credential, Secret
from coordinator.errors import RegistryError, UsageError
from coordinator.registry.auth import Authenticator, TokenAnswer, TokenRequest
from coordinator.registry.challenges import Challenge, parse
from coordinator.registry.endpoint import Endpoint, resolve

BEARER = 'Bearer realm="https://auth.example.org/token",service="registry.example.org"'
PULL = ("repository:app:pull",)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Basic", [Challenge("basic")]),
        ('basic realm="a, b"', [Challenge("basic", {"realm": "a, b"})]),
        (
            'Bearer realm="https://h/t",service=s,scope="repository:a:pull,push"',
            [Challenge("bearer", {"realm": "https://h/t", "service": "s", "scope": "repository:a:pull,push"})],
        ),
        (
            'Bearer realm="https://h/t", error="insufficient_scope" , Basic realm="r"',
            [
                Challenge("bearer", {"realm": "https://h/t", "error": "insufficient_scope"}),
                Challenge("basic", {"realm": "r"}),
            ],
        ),
        ("Negotiate, Basic realm=x", [Challenge("negotiate"), Challenge("basic", {"realm": "x"})]),
        (r'Basic realm="say \"hi\""', [Challenge("basic", {"realm": 'say "hi"'})]),
        ('BEARER Realm = "https://h/t" ,, ', [Challenge("bearer", {"realm": "https://h/t"})]),
        ("", []),
        (' , "stray"', []),
        ('realm="x"', []),
    ],
)
def test_challenges(header: str, expected: list[Challenge]) -> None:
    """Several challenges in one header, quoted commas, odd spacing and any case are all read."""
    assert expected == list(parse(header))


@given(st.text())
def test_any_header_is_read(header: str) -> None:
    """No header makes the reader fail."""
    parse(header)


class Known:
    """A source with one credential for every registry."""

    def __init__(self, credential: Credential | None = None) -> None:
        self.credential = credential
        self.asked: list[str] = []

    def credentials(self, registry: str, repository: str) -> Credential | None:  # noqa: ARG002
        self.asked.append(registry)
        return self.credential


class TokenServer:
    """Answers token requests from a list, the last one for ever; the clock is the test's."""

    def __init__(self, *answers: TokenAnswer | dict[str, object]) -> None:
        self.answers = [
            answer if isinstance(answer, TokenAnswer) else TokenAnswer(200, json.dumps(answer).encode())
            for answer in answers
        ]
        self.asked: list[TokenRequest] = []
        self.now = 1000.0

    async def ask(self, request: TokenRequest) -> TokenAnswer:
        self.asked.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def clock(self) -> float:
        return self.now

    def query(self, position: int = -1) -> list[tuple[str, str]]:
        return parse_qsl(urlsplit(self.asked[position].url).query)


def endpoint(host: str = "registry.example.org") -> Endpoint:
    return resolve(RegistrySettings(host=host))


def authenticator(server: TokenServer, source: Known, challenge: str = BEARER) -> Authenticator:
    made = Authenticator(endpoint(), source, server.ask, server.clock)
    made.learn(challenge)
    return made


ANN = Credential(username="ann", password=Secret("pa:ß"))
ANN_BASIC = f"Basic {base64.b64encode('ann:pa:ß'.encode()).decode()}"


async def test_nothing_is_shown_unasked() -> None:
    """A registry that has not asked for credentials sees none, and no helper runs."""
    source = Known(ANN)

    authorization = await authenticator(TokenServer({}), source, "").authorization(PULL)

    assert (authorization.headers, source.asked) == ({}, [])


async def test_basic() -> None:
    """A Basic challenge is answered with the password, which is refused once and for all."""
    auth = authenticator(TokenServer({}), Known(ANN), 'Basic realm="r"')

    shown = await auth.authorization(PULL)

    assert shown.headers == {"Authorization": ANN_BASIC}
    assert await auth.renewed(shown, 'Basic realm="r"') is None


async def test_basic_without_credentials() -> None:
    """Where there is nothing to show, the error says how to log in."""
    auth = authenticator(TokenServer({}), Known(), 'Basic realm="r"')

    with pytest.raises(RegistryError) as refused:
        await auth.authorization(PULL)

    assert (refused.value.code, refused.value.hint) == ("unauthorized", "docker login registry.example.org")


async def test_bearer_before_basic() -> None:
    """Where both are offered, the token is taken."""
    auth = authenticator(TokenServer({"token": "t"}), Known(ANN), f'Basic realm="r", {BEARER}')

    assert (await auth.authorization(PULL)).headers == {"Authorization": "Bearer t"}


@pytest.mark.parametrize("answer", [{"token": "t"}, {"access_token": "t"}, {"token": "", "access_token": "t"}])
async def test_token_names(answer: dict[str, object]) -> None:
    """The token is called `token` or `access_token`."""
    server = TokenServer(answer)

    shown = await authenticator(server, Known(ANN)).authorization(PULL)

    assert shown.headers == {"Authorization": "Bearer t"}
    assert server.asked[0].headers == {"Authorization": ANN_BASIC}
    expected = [("service", "registry.example.org"), ("scope", PULL[0]), ("client_id", "archloom"), ("account", "ann")]
    assert expected == server.query()


@pytest.mark.parametrize("answer", [{}, {"token": 3}, {"token": "a\r\nX-Evil: 1"}, {"token": None}])
async def test_answer_without_a_token(answer: dict[str, object]) -> None:
    """A token server's answer without a usable token is an error, not an empty header."""
    with pytest.raises(RegistryError) as refused:
        await authenticator(TokenServer(answer), Known()).authorization(PULL)

    assert refused.value.code == "no_registry"


@pytest.mark.parametrize(
    ("life", "seconds", "fetches"),
    [(300, 280, 1), (300, 290, 2), (None, 40, 1), (None, 50, 2), (0, 40, 1), (-5, 50, 2), ("x", 50, 2)],
)
async def test_expiry(life: object, seconds: float, fetches: int) -> None:
    """A token is kept until shortly before `expires_in`, a minute where that is absent or less."""
    server = TokenServer({"token": "t"} | ({} if life is None else {"expires_in": life}))
    auth = authenticator(server, Known())

    await auth.authorization(PULL)
    server.now += seconds
    await auth.authorization(PULL)

    assert fetches == len(server.asked)


async def test_tokens_by_scope() -> None:
    """Each set of scopes has its token; two scopes go in one request, for mounts."""
    server = TokenServer({"token": "one"}, {"token": "two"})
    auth = authenticator(server, Known())
    both = ("repository:into:pull,push", "repository:from:pull")

    first = await auth.authorization(PULL)
    second = await auth.authorization(both)
    again = await auth.authorization(PULL)

    assert [one.header.reveal() for one in (first, second, again)] == ["Bearer one", "Bearer two", "Bearer one"]
    assert list(both) == [value for name, value in server.query() if name == "scope"]


async def test_refused_token() -> None:
    """A kept token that is refused is renewed once; a token fetched for the request and refused is final."""
    server = TokenServer({"token": "one"}, {"token": "two"})
    auth = authenticator(server, Known())
    fresh = await auth.authorization(PULL)
    kept = await auth.authorization(PULL)

    renewed = await auth.renewed(kept, BEARER)

    assert await auth.renewed(fresh, BEARER) is None
    assert renewed is not None
    assert renewed.header.reveal() == "Bearer two"
    assert await auth.renewed(renewed, BEARER) is None


async def test_insufficient_scope() -> None:
    """A fresh token whose scope does not suffice is replaced by one with the scope the registry names, which leads."""
    server = TokenServer({"token": "one"}, {"token": "two"})
    auth = authenticator(server, Known())
    shown = await auth.authorization(PULL)
    wider = f'{BEARER},error="insufficient_scope",scope="repository:app:pull,push"'

    renewed = await auth.renewed(shown, wider)

    assert renewed is not None
    scopes = [value for name, value in server.query() if name == "scope"]
    assert ["repository:app:pull,push", *PULL] == scopes
    assert await auth.renewed(renewed, wider) is None


async def test_identity_token() -> None:
    """An identity token is exchanged by OAuth2 and goes nowhere else."""
    server = TokenServer({"access_token": "t"})
    source = Known(Credential(username="ann", identity_token=Secret("identity")))

    shown = await authenticator(server, source).authorization(PULL)

    assert shown.headers == {"Authorization": "Bearer t"}
    form = dict(parse_qsl((server.asked[0].form or b"").decode()))
    assert {"grant_type": "refresh_token", "refresh_token": "identity", "scope": PULL[0]}.items() <= form.items()
    assert "identity" not in repr(server.asked)


async def test_identity_token_falls_back() -> None:
    """A token server that knows no OAuth2 is asked the plain way, with the password where there is one."""
    server = TokenServer(TokenAnswer(404, b""), {"token": "t"})
    source = Known(Credential(username="ann", password=Secret("pa:ß"), identity_token=Secret("identity")))

    await authenticator(server, source).authorization(PULL)

    assert [request.form is not None for request in server.asked] == [True, False]
    assert server.asked[1].headers == {"Authorization": ANN_BASIC}


async def test_token_server_refuses() -> None:
    """Wrong credentials are told as such, with who tried and how to log in; the password is in no message."""
    server = TokenServer(TokenAnswer(401, b'{"details":"incorrect username or password"}'))

    with pytest.raises(RegistryError) as refused:
        await authenticator(server, Known(ANN)).authorization(PULL)

    assert "auth.example.org as ann" in refused.value.message
    assert (refused.value.code, refused.value.hint) == ("unauthorized", "docker login registry.example.org")


@pytest.mark.parametrize(
    "realm",
    ["", "/token", "http://auth.example.org/", "https://10.0.0.1/t", "https://[::1]/t", "https://a:b@h/t",
     "ftp://h/t", "https://169.254.169.254/latest", "https://localhost/t", "https://h:99999/t"],
)  # fmt: skip
async def test_realm_is_guarded(realm: str) -> None:
    """A public registry cannot send credentials over plain http, to a private address, or to what is no URL."""
    source = Known(ANN)
    server = TokenServer({"token": "t"})

    with pytest.raises(RegistryError) as refused:
        await authenticator(server, source, f'Bearer realm="{realm}"').authorization(PULL)

    assert (refused.value.code, server.asked, source.asked) == ("realm", [], [])


@pytest.mark.parametrize(
    ("settings", "realm"),
    [
        (RegistrySettings(host="127.0.0.1:5000"), "http://127.0.0.1:5001/token"),
        (RegistrySettings(host="nas.lan:5000", http=True), "http://nas.lan:5001/token"),
        (RegistrySettings(host="nas.lan:5000", http=True), "https://192.168.1.5/token"),
        (RegistrySettings(host="192.168.1.5"), "https://192.168.1.6/token"),
        (RegistrySettings(host="docker.io"), "https://auth.docker.io/token"),
    ],
)
def test_realm_of_ones_own(settings: RegistrySettings, realm: str) -> None:
    """A registry on the user's own network may have its token server there."""
    assert realm == resolve(settings).realm(realm)


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        (RegistrySettings(host="docker.io"), "https://registry-1.docker.io"),
        (RegistrySettings(host="localhost:5000"), "http://localhost:5000"),
        (RegistrySettings(host="127.0.0.2:80"), "http://127.0.0.2"),
        (RegistrySettings(host="[::1]:5000"), "http://[::1]:5000"),
        (RegistrySettings(host="192.168.1.5:5000"), "https://192.168.1.5:5000"),
        (RegistrySettings(host="192.168.1.5:5000", http=True), "http://192.168.1.5:5000"),
        (RegistrySettings(host="localhost.example.org"), "https://localhost.example.org"),
    ],
)
def test_endpoint(settings: RegistrySettings, url: str) -> None:
    """Plain http is for loopback and for what the inventory says; Docker Hub answers under another name."""
    assert url == resolve(settings).url


@pytest.mark.parametrize("host", ["", "a/b", "h:99999", "h:x", "h:0", "u@h", "[::1"])
def test_no_endpoint(host: str) -> None:
    """What is no host[:port] is a configuration error."""
    with pytest.raises(UsageError, match="is not a registry"):
        resolve(RegistrySettings(host=host))


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/v2/app/blobs/uploads/1?_state=a%3D", "https://nas.lan:5000/v2/app/blobs/uploads/1?_state=a%3D"),
        ("1?_state=x", "https://nas.lan:5000/v2/app/blobs/1?_state=x"),
        ("http://nas.lan/v2/app/1?s=1", "https://nas.lan:5000/v2/app/1?s=1"),
        ("https://cdn.example.org/x?sig=1", "https://cdn.example.org/x?sig=1"),
    ],
)
def test_followed(location: str, expected: str) -> None:
    """A location is relative or absolute, keeps its query, and on the registry's own name means the registry."""
    base = "https://nas.lan:5000/v2/app/blobs/uploads"

    assert expected == endpoint("nas.lan:5000").followed(base, location)


@pytest.mark.parametrize(
    "location", ["http://cdn.example.org/x", "https://127.0.0.1/x", "file:///etc/passwd", "//[", ""]
)
def test_not_followed(location: str) -> None:
    """A public registry cannot send us out of https, to a private address, or nowhere."""
    with pytest.raises(RegistryError) as refused:
        endpoint().followed("https://registry.example.org/v2/" if location else "", location)

    assert refused.value.code == "redirect"


async def test_a_token_that_is_stored_is_shown_as_it_is() -> None:
    """`registrytoken` of docker's config: no token server is asked. A refusal of it is final."""
    server = TokenServer({})
    auth = authenticator(server, Known(Credential(registry_token=Secret("own"))), BEARER)

    shown = await auth.authorization(PULL)

    assert shown.headers == {"Authorization": "Bearer own"}
    assert server.asked == []
    assert await auth.renewed(await auth.authorization(PULL), BEARER) is not None
    assert await auth.renewed(shown, BEARER) is None


async def test_each_repository_has_its_own_credential() -> None:
    """And they are read again once they are forgotten."""

    class ByRepository:
        def __init__(self) -> None:
            self.asked: list[str] = []

        def credentials(self, registry: str, repository: str) -> Credential:  # noqa: ARG002
            self.asked.append(repository)
            return Credential(username=repository, password=Secret("x"))

    source = ByRepository()
    auth = authenticator(TokenServer({}), source, 'Basic realm="r"')
    for repository in ("team/app", "lib/base", "team/app"):
        shown = await auth.authorization((f"repository:{repository}:pull",))
        pair = base64.b64decode(shown.headers["Authorization"].removeprefix("Basic ")).decode()
        assert pair == f"{repository}:x"
    auth.start_over()
    auth.learn('Basic realm="r"')
    await auth.authorization(("repository:team/app:pull",))

    assert source.asked == ["team/app", "lib/base", "team/app"]


@pytest.mark.parametrize("named", ["auth.lan:3000", "auth.lan", "AUTH.lan:3000"])
def test_a_plain_token_server_that_the_inventory_names_is_asked(named: str) -> None:
    """Gitea's is on a host of its own; the registry must be one of plain http itself."""
    plain = RegistrySettings(host="nas.lan:5000", http=True, http_hosts=("nas.lan:5000", named))
    assert resolve(plain).realm("http://auth.lan:3000/token") == "http://auth.lan:3000/token"

    for other in (replace(plain, http_hosts=("nas.lan:5000",)), replace(plain, http=False)):
        with pytest.raises(RegistryError, match="plain http") as refused:
            resolve(other).realm("http://auth.lan:3000/token")
        assert ('"auth.lan:3000": {http: true}' in refused.value.hint) is other.http
