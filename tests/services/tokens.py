"""A token server as registries with bearer challenges have one: answers who may do what, in a signed JWT.

The token's form is distribution's `docs/spec/auth/jwt.md`; the certificate travels in `x5c`, which 2.8 checks against
its `rootcertbundle`.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """`user` is empty for an anonymous request; `status` is what was answered."""

    user: str
    scopes: tuple[str, ...]
    status: int


@dataclass(kw_only=True)
class TokenServer:
    """One that runs. `requests` is all it was asked; `expires_in` (seconds) may be changed while it runs.

    The registry accepts a token for 60 s after its end, so `expires_in = -120` gives tokens that are refused.
    """

    url: str
    certificate: bytes
    key: rsa.RSAPrivateKey
    users: Mapping[str, str]
    public: frozenset[str]
    expires_in: int = 300
    service: str = "registry.test"
    issuer: str = "tokens.test"
    requests: list[TokenRequest] = field(default_factory=list)

    def answer(self, scopes: tuple[str, ...], authorization: str) -> tuple[int, dict[str, object]]:
        """The status and body for one request: a known user may do everything, anybody may pull what is public."""
        user, password = _basic(authorization)
        if user and self.users.get(user) != password:
            self.requests.append(TokenRequest(user, scopes, 401))
            return 401, {"errors": [{"code": "UNAUTHORIZED", "message": "wrong user or password"}]}
        self.requests.append(TokenRequest(user, scopes, 200))
        access = [granted for scope in scopes if (granted := self._grant(scope, user))]
        issued = f"{datetime.now(UTC):%FT%TZ}"
        return 200, {
            "token": self.sign(user, access, self.expires_in),
            "expires_in": self.expires_in,
            "issued_at": issued,
        }

    def sign(self, user: str, access: Sequence[Mapping[str, object]], expires_in: int) -> str:
        """A token for `access`, which ends in so many seconds."""
        certificate = x509.load_pem_x509_certificate(self.certificate)
        chain = [base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()]
        now = int(time.time())
        claims = {
            "iss": self.issuer, "sub": user, "aud": self.service, "jti": uuid4().hex,
            "iat": now, "nbf": now - 600, "exp": now + expires_in, "access": access,
        }  # fmt: skip
        head = {"typ": "JWT", "alg": "RS256", "x5c": chain}
        text = ".".join(_base64url(json.dumps(part).encode()) for part in (head, claims))
        signature = self.key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{_base64url(signature)}"

    def _grant(self, scope: str, user: str) -> dict[str, object]:
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        if user:
            return {"type": kind, "name": name, "actions": actions.split(",")}
        return {"type": kind, "name": name, "actions": ["pull"]} if name in self.public else {}


@contextmanager
def token_server(users: Mapping[str, str], public: frozenset[str] = frozenset()) -> Iterator[TokenServer]:
    """Serves `GET /token` on a free loopback port; POST is answered 404, which sends clients to GET."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            # Scopes come as repeated parameters or, from some clients, as one with spaces.
            scopes = tuple(" ".join(query.get("scope", [])).split())
            status, body = server.answer(scopes, self.headers.get("Authorization", ""))
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Nothing: `requests` is the record."""

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        url = f"http://127.0.0.1:{http.server_port}"
        server = TokenServer(url=url, certificate=_certificate(key), key=key, users=users, public=public)
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join(10)
            assert not thread.is_alive()


def _certificate(key: rsa.RSAPrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tokens.test")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        issuer_name=name, subject_name=name, public_key=key.public_key(), serial_number=x509.random_serial_number(),
        not_valid_before=now - timedelta(hours=1), not_valid_after=now + timedelta(days=1),
    ).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)  # fmt: skip
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _basic(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    user, _, password = base64.b64decode(encoded).decode().partition(":")
    return user, password


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
