"""The agent on one host, as calls: requests and answers over its control channel, contexts over bulk channels."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any

from coordinator.errors import LostError
from coordinator.hosts.agent import archives, replies
from coordinator.hosts.agent.context import ContextSender, Lacking, Offer
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
    """The host's agent, greeted. Raises LostError `agent` where it does not start, `protocol` where it is not ours."""
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
            hint="another version of archloom answered; make sure that only this one is started there",
            code="protocol",
        )
    return replies.hello(host, fields)


class AgentClient:
    """Requests run side by side. Every method raises LostError `connection` once the channel is lost.

    A caller that is cancelled leaves its request to the agent: to end a job's work, `cancel` it.
    """

    def __init__(self, transport: Transport, channel: Channel, incoming: Incoming, hello: Hello) -> None:
        self.hello = hello
        self._transport = transport
        self._host = transport.host
        self._channel = channel
        self._incoming = incoming
        self._numbers = count(1)
        # What has come for each request under way; None after the channel's end.
        self._under_way: dict[int, asyncio.Queue[Mapping[str, Any] | None]] = {}
        self._lost: LostError | None = None
        self._reading = asyncio.create_task(self._read())

    @property
    def transport(self) -> Transport:
        """What it is reached by."""
        return self._transport

    @property
    def lost(self) -> bool:
        """Whether the channel has ended: no call on this client can succeed any more."""
        return self._lost is not None

    async def close(self) -> None:
        """End the channel. The host's jobs go on; pulls and pushes that the channel carried do not."""
        await self._channel.close()
        await asyncio.wait({self._reading})
        if not self._reading.cancelled():
            self._reading.result()

    async def probe(self) -> Mapping[str, Any]:
        """The observation, raw."""
        return await self._ask("probe")

    async def create(self, job: str, spec: Mapping[str, Any]) -> None:
        """The job's folder. The same spec again is fine."""
        await self._ask("create", job=job, spec=spec)

    async def send_context(
        self, job: str, offer: Offer, tell: Callable[[Lacking], None], *, pack: bool = False
    ) -> ContextReceived:
        """The job's context, of which only what the host lacks is sent; `tell` hears how much that is.

        Whole or not at all, and fine to repeat before `start`. `pack`: send fewer bytes for more processor time.
        """
        channel = await self._transport.open_bulk(("context", job))
        try:
            sender = ContextSender(Incoming(channel.reader, self._host), channel.writer, self._host, pack=pack)
            answer = await sender.send(offer, tell)
        finally:
            ending = await channel.close()
        if answer is None:
            raise self._gone(ending)
        received = self._outcome(answer)
        return ContextReceived(
            entries=replies.field(self._host, received, "entries", int),
            bytes=replies.field(self._host, received, "bytes", int),
            received=replies.field(self._host, received, "received", int),
        )

    async def pull(self, job: str, port: int, secret: str, progress: Callable[[str], None]) -> BasesHeld:
        """Make the host hold the job's bases, read through the tunnel at `port`."""

        def tell(event: Mapping[str, Any]) -> None:
            progress(replies.field(self._host, event, "progress", str))

        held = await self._ask("pull", tell, job=job, port=port, secret=secret)
        return BasesHeld(replies.field(self._host, held, "pulled", int), replies.field(self._host, held, "kept", int))

    async def lacking(self, job: str) -> tuple[str, ...]:
        """The held names of the job's bases that the host does not have."""
        return replies.names(self._host, await self._ask("lacking", job=job), "bases")

    async def load(self, job: str, chunks: AsyncIterator[bytes]) -> BasesLoaded:
        """The job's bases, from the pieces of an archive of those that are lacking; fine to repeat."""
        return await archives.load(self._transport, job, chunks)

    def image(self, job: str) -> AsyncGenerator[HeldImage | bytes]:
        """Which image the job built, then its archive in pieces, whole. Close the iterator when left."""
        return archives.image(self._transport, job)

    async def start(self, job: str, holder: str, slots: int) -> Started:
        """Begin to build, detached; again is fine. Raises HostBusyError where every slot is held."""
        begun = await self._ask("start", job=job, holder=holder, slots=slots)
        return Started(replies.field(self._host, begun, "pid", int), replies.field(self._host, begun, "slot", int))

    async def follow(self, job: str, offset: int) -> AsyncGenerator[LogText | Ended, None]:
        """The log from this byte on, as it is written, and at last how the job ended. Close the iterator when left."""
        with self._request() as (number, answers):
            await self._send(number, "follow", job=job, offset=offset)
            while True:
                body = await self._next(answers)
                if "event" not in body:
                    yield replies.ended(self._host, self._outcome(body))
                    return
                yield replies.log_text(self._host, replies.field(self._host, body, "event", dict))

    async def push(
        self, job: str, port: int, repository: str, tag: str, secret: str, progress: Callable[[int, int], None]
    ) -> Pushed:
        """Push what was built through the tunnel at `port`; `progress` gets bytes done and in all."""

        def tell(event: Mapping[str, Any]) -> None:
            fields = replies.field(self._host, event, "progress", dict)
            progress(replies.field(self._host, fields, "done", int), replies.field(self._host, fields, "total", int))

        pushed = await self._ask("push", tell, job=job, port=port, repository=repository, tag=tag, secret=secret)
        return Pushed(replies.field(self._host, pushed, "digest", str), replies.field(self._host, pushed, "size", int))

    async def cancel(self, job: str) -> Ended:
        """End the job, and a pull or push of it; how it ended, which may be how it had ended already."""
        return replies.ended(self._host, await self._ask("cancel", job=job))

    async def forget(self, job: str) -> None:
        """Leave nothing of the job on the host. Fine for jobs it does not know."""
        await self._ask("forget", job=job)

    async def hang_up(self, earlier: Hello) -> None:
        """End the host's side of an earlier connection, whose loss it has not noticed. Fine for one that ended."""
        if earlier.boot_id == self.hello.boot_id:
            await self._ask("hang_up", pid=earlier.parent, start=earlier.parent_start)

    async def jobs(self) -> tuple[JobEntry, ...]:
        """Every job that has a folder on the host."""
        return replies.job_entries(self._host, await self._ask("jobs"))

    async def _ask(
        self, op: str, tell: Callable[[Mapping[str, Any]], None] | None = None, /, **parameters: object
    ) -> Mapping[str, Any]:
        began = time.monotonic()
        with self._request() as (number, answers):
            await self._send(number, op, **parameters)
            while "event" in (body := await self._next(answers)):
                if tell is not None:
                    tell(replies.field(self._host, body, "event", dict))
            self._log_answer(op, parameters.get("job", ""), body, time.monotonic() - began)
            return self._outcome(body)

    def _log_answer(self, op: str, job: object, body: Mapping[str, Any], seconds: float) -> None:
        # Of the parameters only the job's name: `secret` is one of them.
        error = body.get("error")
        ending = f"{error.get('code')}: {error.get('message')}" if isinstance(error, Mapping) else "ok"
        level = logging.INFO if error else logging.DEBUG
        _log.log(level, "%s: %s %s: %s, %.3f s", self._host, op, job, ending, seconds)

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
            raise self._again()
        try:
            self._channel.writer.write(encode({"id": number, "op": op, **parameters}))
            await self._channel.writer.drain()
        except OSError:
            # Reading notices as well, and knows how it ended. Awaited itself, it would be cancelled with this caller.
            await asyncio.wait({self._reading})

    async def _next(self, answers: asyncio.Queue[Mapping[str, Any] | None]) -> Mapping[str, Any]:
        body = await answers.get() if self._lost is None or not answers.empty() else None
        if body is None:
            raise self._again()
        return body

    def _outcome(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        return replies.outcome(self._host, body)

    async def _read(self) -> None:
        """Give every frame to the request it answers, until the channel ends; then tell all of them."""
        try:
            while (frame := await self._incoming.frame()) is not None:
                self._deliver(frame)
            self._lost = self._gone(await self._channel.close())
        except LostError as error:
            self._lost = error
            await self._channel.abort()
        finally:
            # Cancelled, or a defect: nobody reads any more, and whoever calls now would wait for ever.
            if self._lost is None:
                self._lost = self._gone(Ending(None))
            for answers in self._under_way.values():
                answers.put_nowait(None)

    def _deliver(self, frame: Mapping[str, Any]) -> None:
        if frame.get("id") is None:
            raise replies.unexpected(self._host, f"it could not read a request: {frame.get('error')!r}")
        answers = self._under_way.get(replies.field(self._host, frame, "id", int))
        if answers is not None:  # its caller has left
            answers.put_nowait(frame)

    def _gone(self, ending: Ending) -> LostError:
        return archives.gone(self._host, ending)

    def _again(self) -> LostError:
        # One object raised in many tasks would collect all their tracebacks.
        why = self._lost or self._gone(Ending(None))
        return LostError(why.message, hint=why.hint, code=why.code)


def _not_started(host: str, ending: Ending) -> LostError:
    if ending.exit_status is None:
        return LostError(f"host '{host}': the connection was lost while the agent started", code="connection")
    said = ending.words.splitlines()[-1] if ending.words else f"exit status {ending.exit_status}"
    return LostError(f"host '{host}': the agent does not start: {said}", code="agent")
