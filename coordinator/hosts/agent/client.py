"""Client of the agent on one host: requests on the control channel, contexts and archives on bulk channels."""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any

from coordinator.domain.causes import Cause
from coordinator.errors import LostError
from coordinator.hosts.agent import archives, replies
from coordinator.hosts.agent.context import ContextSender, MissingFiles, Offer
from coordinator.hosts.agent.frames import PROTOCOL, Incoming, encode
from coordinator.hosts.agent.replies import (
    BasesHeld,
    BasesLoaded,
    ContextReceived,
    Ended,
    HeldImage,
    Hello,
    JobEntry,
    LogText,
    Pushed,
    Started,
)
from coordinator.hosts.agent.transport import Channel, Ending, Transport

_log = logging.getLogger("archloom.agent")


async def connect(transport: Transport) -> AgentClient:
    """Start the host's agent and return its client, after the greeting.

    Raises LostError `agent` where the agent does not start, `protocol` where its protocol version is not PROTOCOL,
    `connection` where the connection is lost meanwhile.
    """
    channel = await transport.open_control()
    try:
        incoming = Incoming(channel.reader, transport.host)
        hello = await _hello(transport.host, channel, incoming)
        _log.info(
            "%s: agent %s, Python %s, pid %d, state %s",
            transport.host,
            hello.agent,
            hello.python,
            hello.pid,
            hello.state,
        )
        return AgentClient(transport, channel, incoming, hello)
    except BaseException:
        await channel.abort()
        raise


async def _hello(host: str, channel: Channel, incoming: Incoming) -> Hello:
    fields = await incoming.greeting()
    if fields is None:
        raise _not_started(host, await channel.close())
    if fields.get("protocol") != PROTOCOL:
        raise LostError(
            f"host '{host}': the agent speaks protocol {fields.get('protocol')!r}, expected {PROTOCOL}",
            hint="another version of archloom answered; make sure that only this version is started there",
            code="protocol",
        )
    return replies.read(host, fields, Hello)


class AgentClient:
    """Requests to the agent of one host. Requests run concurrently.

    Once the control channel has ended, each method that uses it raises LostError, usually `connection`. Cancelling a
    caller does not cancel its request on the host: to end a job's work, call `cancel`.
    """

    def __init__(self, transport: Transport, channel: Channel, incoming: Incoming, hello: Hello) -> None:
        self.hello = hello
        self._transport = transport
        self._host = transport.host
        self._channel = channel
        self._incoming = incoming
        self._numbers = count(1)
        # The frames received for each open request, by request id; None once the channel has ended.
        self._under_way: dict[int, asyncio.Queue[Mapping[str, Any] | None]] = {}
        self._lost: LostError | None = None
        self._reading = asyncio.create_task(self._read())

    @property
    def transport(self) -> Transport:
        """The transport to the host."""
        return self._transport

    @property
    def lost(self) -> bool:
        """Whether the channel has ended: no call on this client can succeed any more."""
        return self._lost is not None

    async def close(self) -> None:
        """Close the control channel. Jobs on the host go on; pulls and pushes of this channel are cancelled."""
        await self._channel.close()
        await asyncio.wait({self._reading})
        if not self._reading.cancelled():
            self._reading.result()

    async def probe(self) -> Mapping[str, Any]:
        """Return the raw observation; see `agents/README.md`, "observation"."""
        return await self._ask("probe")

    async def create(self, job: str, spec: Mapping[str, Any]) -> None:
        """Create the job's folder on the host. Idempotent for the same spec."""
        await self._ask("create", job=job, spec=spec)

    async def send_context(
        self,
        job: str,
        offer: Offer,
        tell: Callable[[MissingFiles], None],
        *,
        pack: bool = False,
        progress: Callable[[int], None] = lambda _: None,
    ) -> ContextReceived:
        """Send the objects of the job's context that the host lacks; `tell` receives how much that is.

        The context is replaced atomically; may be repeated until `start`. `pack`: compress files, which trades CPU
        time for bytes. `progress` receives how many bytes of files were sent, uncompressed.
        """
        channel = await self._transport.open_bulk(("context", job))
        try:
            incoming = Incoming(channel.reader, self._host)
            sender = ContextSender(incoming, channel.writer, self._host, pack=pack, progress=progress)
            answer = await sender.send(offer, tell)
        finally:
            ending = await channel.close()
        if answer is None:
            raise self._gone(ending)
        return replies.read(self._host, self._outcome(answer), ContextReceived)

    async def send_enclosed(
        self, job: str, offer: Offer, objects: Mapping[str, bytes], tell: Callable[[MissingFiles], None]
    ) -> ContextReceived:
        """Send the job's context, of which `objects` are all, in one request; otherwise as `send_context`.

        That needs no process on the host, which takes a small board half a second to start.
        """
        packed = {digest: b64encode(zlib.compress(data)).decode("ascii") for digest, data in objects.items()}
        opening = {"root": offer.root, "entries": offer.entries, "bytes": offer.size}
        answer = await self._ask("context", job=job, **opening, objects=packed)
        received = replies.read(self._host, answer, ContextReceived)
        if received.files > offer.files or received.received > offer.size:
            raise replies.unexpected(self._host, "it received more than it was sent")
        tell(MissingFiles(received.files, offer.files, received.received))
        return received

    async def pull(self, job: str, port: int, secret: str, progress: Callable[[str], None]) -> BasesHeld:
        """Pull the job's bases into the engine through the tunnel at `port` on the host."""

        def tell(event: Mapping[str, Any]) -> None:
            progress(replies.read(self._host, event, str, "progress"))

        held = await self._ask("pull", tell, job=job, port=port, secret=secret)
        return replies.read(self._host, held, BasesHeld)

    async def lacking(self, job: str) -> tuple[str, ...]:
        """Return the held names of the job's bases that the engine does not have."""
        return tuple(replies.read(self._host, await self._ask("lacking", job=job), list[str], "bases"))

    async def load(self, job: str, archive: AsyncIterator[bytes]) -> BasesLoaded:
        """Load the job's bases from the pieces of an archive of the lacking ones. Idempotent."""
        return await archives.load(self._transport, job, archive)

    def image(self, job: str) -> AsyncGenerator[HeldImage | bytes]:
        """Yield the image that the job built, then its complete archive in pieces.

        Close the iterator when leaving early.
        """
        return archives.image(self._transport, job)

    async def start(self, job: str, holder: str, slots: int) -> Started:
        """Start the job's detached build on the host. Idempotent. Raises HostBusyError where every slot is held."""
        begun = await self._ask("start", job=job, holder=holder, slots=slots)
        return replies.read(self._host, begun, Started)

    async def follow(self, job: str, offset: int) -> AsyncGenerator[LogText | Ended, None]:
        """Yield the log from byte `offset` on as it is written, then the job's result.

        Close the iterator when leaving early.
        """
        with self._request() as (number, answers):
            await self._send(number, "follow", job=job, offset=offset)
            while True:
                body = await self._next(answers)
                if "event" not in body:
                    yield replies.ended(self._host, self._outcome(body))
                    return
                yield replies.read(self._host, body, LogText, "event")

    async def push(
        self, job: str, port: int, repository: str, tag: str, secret: str, progress: Callable[[int, int], None]
    ) -> Pushed:
        """Push the job's image through the tunnel at `port` on the host; `progress` receives bytes done and total."""

        def tell(event: Mapping[str, Any]) -> None:
            done, total = (replies.read(self._host, event, int, "progress", name) for name in ("done", "total"))
            progress(done, total)

        pushed = await self._ask("push", tell, job=job, port=port, repository=repository, tag=tag, secret=secret)
        return replies.read(self._host, pushed, Pushed)

    async def cancel(self, job: str) -> Ended:
        """Cancel the job and its pull or push, and return its result; a job that has ended keeps its result."""
        return replies.ended(self._host, await self._ask("cancel", job=job))

    async def forget(self, job: str) -> None:
        """Delete everything of the job on the host. Idempotent; unknown jobs are no error."""
        await self._ask("forget", job=job)

    async def prune(self, budget: int) -> int:
        """Prune the engine's build cache to this many bytes, unless a job runs there. Return the bytes freed."""
        return replies.read(self._host, await self._ask("prune", budget=budget), int, "freed")

    async def hang_up(self, earlier: Hello) -> None:
        """End the host's sshd process of an earlier connection whose loss the host has not noticed yet.

        Idempotent; does nothing where the host has rebooted since.
        """
        if earlier.boot_id == self.hello.boot_id:
            await self._ask("hang_up", pid=earlier.parent, start=earlier.parent_start)

    async def jobs(self) -> tuple[JobEntry, ...]:
        """Return every job that has a folder on the host."""
        return tuple(replies.read(self._host, await self._ask("jobs"), list[JobEntry], "jobs"))

    async def _ask(
        self, op: str, tell: Callable[[Mapping[str, Any]], None] | None = None, /, **parameters: object
    ) -> Mapping[str, Any]:
        began = time.monotonic()
        with self._request() as (number, answers):
            await self._send(number, op, **parameters)
            while "event" in (body := await self._next(answers)):
                if tell is not None:
                    tell(replies.read(self._host, body, dict[str, Any], "event"))
            self._log_answer(op, parameters.get("job", ""), body, time.monotonic() - began)
            return self._outcome(body)

    def _log_answer(self, op: str, job: object, body: Mapping[str, Any], seconds: float) -> None:
        # Log no parameter but the job's name: `secret` is a parameter of `pull` and `push`.
        error = body.get("error")
        ending = f"{error.get('code')}: {error.get('message')}" if isinstance(error, Mapping) else "ok"
        level = logging.INFO if error else logging.DEBUG
        _log.log(level, "%s: %s: %s, %.3f s", self._host, f"{op} {job}".rstrip(), ending, seconds)

    @contextmanager
    def _request(self) -> Iterator[tuple[int, asyncio.Queue[Mapping[str, Any] | None]]]:
        number = next(self._numbers)
        answers = self._under_way[number] = asyncio.Queue()
        try:
            yield number, answers
        finally:
            del self._under_way[number]

    async def _send(self, number: int, op: str, **parameters: object) -> None:
        if self._lost is not None:
            raise self._loss()
        try:
            self._channel.writer.write(encode({"id": number, "op": op, **parameters}))
            await self._channel.writer.drain()
        except OSError:
            # `_read` sees the end too and sets `_lost`. Unlike await, asyncio.wait does not cancel it with this caller.
            await asyncio.wait({self._reading})

    async def _next(self, answers: asyncio.Queue[Mapping[str, Any] | None]) -> Mapping[str, Any]:
        body = await answers.get() if self._lost is None or not answers.empty() else None
        if body is None:
            raise self._loss()
        return body

    def _outcome(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        return replies.outcome(self._host, body)

    async def _read(self) -> None:
        """Deliver each frame to the request it answers until the channel ends, then wake every open request."""
        try:
            while (frame := await self._incoming.frame()) is not None:
                self._deliver(frame)
            self._lost = self._gone(await self._channel.close())
        except LostError as error:
            self._lost = error
            await self._channel.abort()
        finally:
            # After a cancellation or a defect no frame is read any more: without this a later request would hang.
            if self._lost is None:
                self._lost = self._gone(Ending(None))
            for answers in self._under_way.values():
                answers.put_nowait(None)

    def _deliver(self, frame: Mapping[str, Any]) -> None:
        if frame.get("id") is None:
            raise replies.unexpected(self._host, f"the agent could not read a request: {frame.get('error')!r}")
        answers = self._under_way.get(replies.read(self._host, frame, int, "id"))
        if answers is not None:  # None: the caller was cancelled or closed its iterator
            answers.put_nowait(frame)

    def _gone(self, ending: Ending) -> LostError:
        return archives.gone(self._host, ending)

    def _loss(self) -> LostError:
        # A new object for each raise: one exception raised in many tasks accumulates all their tracebacks.
        loss = self._lost or self._gone(Ending(None))
        return LostError(loss.message, hint=loss.hint, code=loss.code)


def _not_started(host: str, ending: Ending) -> LostError:
    if ending.exit_status is None:
        return LostError(f"host '{host}': the connection was lost while the agent started", code=Cause.CONNECTION)
    reason = ending.words.splitlines()[-1] if ending.words else f"exit status {ending.exit_status}"
    return LostError(f"host '{host}': the agent does not start: {reason}", code="agent")
