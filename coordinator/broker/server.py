"""The broker: the HTTP endpoint that boards push to and pull bases from. It holds the registry credentials.

A board sees one virtual repository to push to and one per base, and authenticates with a secret of its job. Upstream
the broker uses the coordinator's credentials, writes manifests by digest only, and trusts only digests of manifests
that it has relayed. It serves any pair of asyncio streams: a loopback socket or a channel of an SSH connection.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import logging
import re
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import PurePath
from types import TracebackType
from typing import Self

from coordinator import deadlines
from coordinator.broker import pull
from coordinator.broker import push as broker_push
from coordinator.broker.grant import PUSH_REPOSITORY, RESENT, Grant, RefusalError, rewritten_content
from coordinator.broker.http1 import Body, BodyEnd, Framing, Head, Source, WireError, read_request
from coordinator.broker.limits import Guest, Guests, Limits
from coordinator.broker.request import BoardRequest, Upstreams
from coordinator.broker.response import Reply
from coordinator.broker.upstream_connections import Connections
from coordinator.domain.image.platform_rewrite import RewrittenImage
from coordinator.domain.image.references import Reference
from coordinator.errors import ArchloomError, RegistryCode, RegistryError

_log = logging.getLogger("archloom.broker")

_TLS_HANDSHAKE = 0x16
# containerd's client falls back to plain HTTP only where the answer to its TLS handshake begins with `HTTP/`.
# https://pkg.go.dev/crypto/tls#RecordHeaderError
_NOT_TLS = b"HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\narchloom: this is plain HTTP\n"
_PATH = re.compile(r"/v2/([a-z0-9]+)/(manifests|blobs)/([^/?]+(?:/[^/?]*)?)(?:\?(.*))?\Z")
_CHALLENGE = 'Basic realm="archloom"'
_FINAL_STATUSES = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE})
# A request that cannot be parsed is answered as if it were this one.
_EMPTY_HEAD = Head(method="GET", headers=[], framing=Framing(BodyEnd.EMPTY), keep_alive=False)


class Broker:
    """An asyncio connection handler and the grants it serves. Use it inside `async with`."""

    def __init__(self, upstreams: Upstreams, limits: Limits | None = None) -> None:
        self._upstreams = upstreams
        self._guests = Guests(limits or Limits())
        self._connections = Connections()
        self._grants: dict[str, Grant] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connections.close()

    @contextlib.contextmanager
    def grant(
        self,
        job: str,
        *,
        push: Reference | None = None,
        bases: Mapping[str, Reference] | None = None,
        rewritten: Iterable[RewrittenImage] = (),
        mount_from: Sequence[Reference] = (),
    ) -> Iterator[Grant]:
        """Yield a grant for this job, valid while the block runs.

        `bases` are the images that the job may read by digest, by their repository names at the broker; `rewritten` are
        further images with the layers of these bases. Layers of the bases in `mount_from`, by digest, are mounted into
        `push` where its registry has them.
        """
        grant = Grant(
            job=job, push=push, bases=bases or {}, rewritten=rewritten_content(rewritten), mount_from=mount_from
        )
        self._grants[job] = grant
        try:
            yield grant
        finally:
            del self._grants[job]

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side closes it."""
        source = Source(reader)
        try:
            async with self._guests.entered() as guest:
                async with asyncio.timeout(self._guests.limits.head):
                    first = await source.read_some()
                if first and first[0] == _TLS_HANDSHAKE:
                    # Engines try TLS first, and would wait 10 s for the broker's half of the handshake.
                    writer.write(_NOT_TLS)
                    await writer.drain()
                    await _drain(source)
                else:
                    source.unread(first)
                    while await self._serve_one(source, writer, guest):
                        pass
        except (OSError, WireError):
            # A client that disconnects, breaks the protocol or says nothing in time ends only its own connection.
            pass
        finally:
            writer.close()

    async def _serve_one(self, source: Source, writer: asyncio.StreamWriter, guest: Guest) -> bool:
        """Serve one request, and return whether the connection stays open."""
        body = Body(source, _EMPTY_HEAD.framing)
        try:
            async with asyncio.timeout(deadlines.BOARD_IDLE if guest.job else self._guests.limits.head):
                head = await read_request(source)
        except WireError as error:
            await _refuse(Reply(writer, _EMPTY_HEAD, body), RefusalError(400, "UNSUPPORTED", f"archloom: {error}"))
            await _drain(source)
            return False
        if head is None:
            return False
        body = Body(source, head.framing)
        reply = Reply(writer, head, body)
        began = time.monotonic()
        try:
            grant = self._admitted(guest, head, reply)
            async with grant.requests:
                await self._answer(grant, head, body, reply)
        except RefusalError as refusal:
            _log.info("%s %s: %s", head.method, _path(head), refusal.message)
            if reply.begun:
                return False
            await _refuse(reply, refusal)
        _log.debug("%s %s: %d, %.3f s", head.method, _path(head), reply.status, time.monotonic() - began)
        if not body.over:
            await _drain(source)
        return not reply.last

    async def _answer(self, grant: Grant, head: Head, body: Body, reply: Reply) -> None:
        if head.target.rstrip("/") == "/v2":
            await reply.small(200, {"Content-Type": "application/json"}, b"{}")
            return
        route = _PATH.match(head.target)
        name = route[1] if route else ""
        repository = grant.push if name == PUSH_REPOSITORY else grant.bases.get(name)
        if route is None or repository is None:
            raise RefusalError(404, "NAME_UNKNOWN", f"archloom: this job has no access to {head.target}")
        request = BoardRequest(
            grant=grant,
            repository=repository,
            kind=route[2],
            rest=route[3],
            query=route[4] or "",
            head=head,
            body=body,
            upstreams=self._upstreams,
            connections=self._connections,
        )
        try:
            with grant.serving(body, reply):
                await (broker_push if name == PUSH_REPOSITORY else pull).answer(request, reply)
        except ArchloomError as error:
            grant.refused(error)
            raise _as_refusal(error) from error
        except RefusalError as refusal:
            # Record invalid requests of the job only. A manifest or blob that does not exist (yet) is no refusal.
            if refusal.status in _FINAL_STATUSES:
                grant.refused(RegistryError(refusal.message, code=RegistryCode.INVALID))
            raise
        except (WireError, OSError):
            raise
        except Exception as error:
            defect = _as_defect(error)
            grant.refused(defect)
            raise RefusalError(500, "UNKNOWN", f"archloom: {defect.message}") from error
        grant.served()

    def _admitted(self, guest: Guest, head: Head, reply: Reply) -> Grant:
        grant = self._authenticated(head)
        if not self._guests.authenticated(guest, grant.job):
            reply.last = True
            raise RefusalError(429, "TOOMANYREQUESTS", "archloom: the job has too many connections")
        return grant

    def _authenticated(self, head: Head) -> Grant:
        scheme, _, encoded = head.header("authorization").partition(" ")
        try:
            job, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            job, secret = "", ""
        grant = self._grants.get(job)
        if scheme.lower() != "basic" or grant is None or not grant.authenticates(secret):
            raise RefusalError(401, "UNAUTHORIZED", "archloom: send the secret of a running job")
        return grant


def _path(head: Head) -> str:
    """Return the request's path without its query, which is confidential in upload locations."""
    return head.target.partition("?")[0]


def _as_refusal(error: ArchloomError) -> RefusalError:
    """Return the response to the board's engine: 503 makes it send a layer again, 403 makes it fail at once.

    The run waits for a registry that fails, and tells of it; the engine would retry for 50 s without a word, three
    times.
    """
    if error.code in RESENT:
        return RefusalError(503, "UNAVAILABLE", f"archloom: {error.message}")
    return RefusalError(403, "DENIED", f"archloom: {error.message}")


def _as_defect(error: Exception) -> ArchloomError:
    """Return the error for an unexpected exception, with file and line: the job reports nothing else about it."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    location = f"{PurePath(place.filename).name}:{place.lineno}"
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return ArchloomError(f"bug: {text} ({location})", hint="please report it", code="internal")


async def _drain(source: Source) -> None:
    """Read and discard what the client still sends until it closes the connection, for at most 5 s.

    Closing a connection with unread bytes resets it, and the response may be lost: the engine would then retry the
    refused request for 50 s.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(deadlines.REFUSED_DRAIN):
            while await source.read_some():
                pass


async def _refuse(reply: Reply, refusal: RefusalError) -> None:
    body = json.dumps({"errors": [{"code": refusal.code, "message": refusal.message}]}).encode()
    headers = {"Content-Type": "application/json"}
    if refusal.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = _CHALLENGE
    await reply.small(refusal.status, headers, body)
