"""The broker: where boards push to and pull bases from, and where authentication ends.

A board sees one virtual repository to push to and one per base, opened by a secret of the job alone. Upstream the
broker speaks with the coordinator's credentials, writes manifests by digest only, and believes the digests it saw.
It serves whatever looks like a pair of asyncio streams: a loopback socket or a channel of an SSH connection.
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
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import PurePath
from types import TracebackType
from typing import Self

from coordinator.broker import pull
from coordinator.broker import push as broker_push
from coordinator.broker.grant import PUSH, RETRYABLE, Grant, RefusalError
from coordinator.broker.http1 import SILENCE_S, Body, Ends, Framing, Head, Source, WireError, read_request
from coordinator.broker.request import BoardRequest, Upstreams
from coordinator.broker.response import Reply
from coordinator.broker.upstream_connections import Connections
from coordinator.domain.image.references import Reference
from coordinator.errors import ArchloomError, RegistryError

_log = logging.getLogger("archloom.broker")

_TLS_HANDSHAKE = 0x16
# containerd's client turns to plain HTTP only where the answer to its TLS handshake begins with `HTTP/`.
# https://pkg.go.dev/crypto/tls#RecordHeaderError
_NOT_TLS = b"HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\narchloom: this is plain HTTP\n"
_PATH = re.compile(r"/v2/([a-z0-9]+)/(manifests|blobs)/([^/?]+(?:/[^/?]*)?)(?:\?(.*))?\Z")
_CHALLENGE = 'Basic realm="archloom"'
_FAREWELL_S = 5.0
_FOR_GOOD = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE})
# What cannot be read is answered as if it were this.
_NOTHING = Head(method="GET", headers=[], framing=Framing(Ends.EMPTY), keep_alive=False)


class Broker:
    """An asyncio connection handler, and the grants it serves, inside `async with`."""

    def __init__(self, upstreams: Upstreams) -> None:
        self._upstreams = upstreams
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
        mount_from: Sequence[Reference] = (),
    ) -> Iterator[Grant]:
        """A grant for this job while the block runs. `bases` are read by digest under `base0`, `base1`, …

        Layers of the bases `mount_from`, by digest, are mounted into `push` where its registry has them.
        """
        grant = Grant(job=job, push=push, bases=bases or {}, mount_from=mount_from)
        self._grants[job] = grant
        try:
            yield grant
        finally:
            del self._grants[job]

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection until either side ends it."""
        source = Source(reader)
        try:
            first = await source.some()
            if first and first[0] == _TLS_HANDSHAKE:
                # Engines try TLS first, and would wait ten seconds for the other half of a handshake.
                writer.write(_NOT_TLS)
                await writer.drain()
                await _farewell(source)
            else:
                source.take_back(first)
                while await self._serve_one(source, writer):
                    pass
        except (OSError, WireError):
            # A client that is gone, or that nobody can follow, ends its own connection and nothing else.
            pass
        finally:
            writer.close()

    async def _serve_one(self, source: Source, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on after this request."""
        body = Body(source, _NOTHING.framing)
        try:
            async with asyncio.timeout(SILENCE_S):
                head = await read_request(source)
        except WireError as error:
            await _refuse(Reply(writer, _NOTHING, body), RefusalError(400, "UNSUPPORTED", f"archloom: {error}"))
            await _farewell(source)
            return False
        if head is None:
            return False
        body = Body(source, head.framing)
        reply = Reply(writer, head, body)
        began = time.monotonic()
        try:
            await self._answer(head, body, reply)
        except RefusalError as refusal:
            _log.info("%s %s: %s", head.method, _path(head), refusal.message)
            if reply.begun:
                return False
            await _refuse(reply, refusal)
        _log.debug("%s %s: %d, %.3f s", head.method, _path(head), reply.status, time.monotonic() - began)
        if not body.over:
            await _farewell(source)
        return not reply.last

    async def _answer(self, head: Head, body: Body, reply: Reply) -> None:
        grant = self._admitted(head)
        if head.target.rstrip("/") == "/v2":
            await reply.small(200, {"Content-Type": "application/json"}, b"{}")
            return
        found = _PATH.match(head.target)
        name = found[1] if found else ""
        repository = grant.push if name == PUSH else grant.bases.get(name)
        if found is None or repository is None:
            raise RefusalError(404, "NAME_UNKNOWN", f"archloom: this job has no business at {head.target}")
        call = BoardRequest(
            grant=grant,
            repository=repository,
            kind=found[2],
            rest=found[3],
            query=found[4] or "",
            head=head,
            body=body,
            upstreams=self._upstreams,
            connections=self._connections,
        )
        try:
            await (broker_push if name == PUSH else pull).answer(call, reply)
        except ArchloomError as error:
            grant.refused(error)
            raise _as_refusal(error) from error
        except RefusalError as refusal:
            # What the job itself did wrong; what it asked for and is not there, or not yet, is no refusal.
            if refusal.status in _FOR_GOOD:
                grant.refused(RegistryError(refusal.message, code="refused"))
            raise
        except (WireError, OSError):
            raise
        except Exception as error:
            defect = _as_defect(error)
            grant.refused(defect)
            raise RefusalError(500, "UNKNOWN", f"archloom: {defect.message}") from error
        grant.served()

    def _admitted(self, head: Head) -> Grant:
        scheme, _, encoded = head.header("authorization").partition(" ")
        try:
            job, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            job, secret = "", ""
        grant = self._grants.get(job)
        if scheme.lower() != "basic" or grant is None or not grant.authenticates(secret):
            raise RefusalError(401, "UNAUTHORIZED", "archloom: the secret of a running job is wanted here")
        return grant


def _path(head: Head) -> str:
    """Without its query, in which upload locations have what only their owner may know."""
    return head.target.partition("?")[0]


def _as_refusal(error: ArchloomError) -> RefusalError:
    """What the board's engine is told: to try again where that can help, and to give up at once where it cannot."""
    if error.code in RETRYABLE:
        return RefusalError(503, "UNAVAILABLE", f"archloom: {error.message}")
    return RefusalError(403, "DENIED", f"archloom: {error.message}")


def _as_defect(error: Exception) -> ArchloomError:
    """What nobody foresaw, with its place: it is all the job says of it."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{PurePath(place.filename).name}:{place.lineno}"
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return ArchloomError(f"bug: {text} ({where})", hint="please report it", code="internal")


async def _farewell(source: Source) -> None:
    """Takes what the client still sends until it has read its answer and leaves, for a moment.

    A connection closed on bytes nobody has read is reset, and the answer may be lost with it: the engine would then try
    for 50 s what it was refused.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_FAREWELL_S):
            while await source.some():
                pass


async def _refuse(reply: Reply, refusal: RefusalError) -> None:
    body = json.dumps({"errors": [{"code": refusal.code, "message": refusal.message}]}).encode()
    headers = {"Content-Type": "application/json"}
    if refusal.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = _CHALLENGE
    await reply.small(refusal.status, headers, body)
