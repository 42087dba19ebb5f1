"""Client of the agent on one host: requests on the control channel, contexts and archives on bulk channels."""

from __future__ import annotations

import asyncio
import logging
import zlib
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any

from coordinator import deadlines
from coordinator.domain.causes import Cause
from coordinator.errors import LostError
from coordinator.hosts.agent import archives, error_codes, replies
from coordinator.hosts.agent.context import ContextSender, MissingFiles, Offer
from coordinator.hosts.agent.control_channel import ControlChannel
from coordinator.hosts.agent.frames import PROTOCOL, Incoming
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
    try:
        async with asyncio.timeout(deadlines.GREETING):
            fields = await incoming.greeting()
    except TimeoutError:
        words = f"host '{host}': its agent has not greeted for {deadlines.GREETING:.0f} s"
        raise LostError(words, code=Cause.CONNECTION) from None
    if fields is None:
        raise _not_started(host, await channel.close())
    if fields.get("protocol") != PROTOCOL:
        raise LostError(
            f"host '{host}': the agent speaks protocol {fields.get('protocol')!r:.80}, expected {PROTOCOL}",
            hint="another version of archloom answered; make sure that only this version is started there",
            code=Cause.PROTOCOL,
        )
    return replies.read(host, fields, Hello)


def _no_byte() -> float:
    return 0.0


class AgentClient:
    """Requests to the agent of one host. Requests run concurrently.

    Once the control channel has ended, each method that uses it raises LostError, usually `connection`. Cancelling a
    caller does not cancel its request on the host: to end a job's work, call `cancel`.
    """

    def __init__(self, transport: Transport, channel: Channel, incoming: Incoming, hello: Hello) -> None:
        self.hello = hello
        self._transport = transport
        self._host = transport.host
        self._control = ControlChannel(transport.host, channel, incoming)

    @property
    def transport(self) -> Transport:
        """The transport to the host."""
        return self._transport

    @property
    def lost(self) -> bool:
        """Whether the channel has ended: no call on this client can succeed any more."""
        return self._control.lost

    @property
    def engine_silence(self) -> float:
        """For how many seconds the host's engine has not answered, by the last ping; 0.0 where it does."""
        return self._control.vitals.engine

    @property
    def disk_silence(self) -> float:
        """For how many seconds the disk of the agent's folder has not answered, by the last ping; 0.0 where it does."""
        return self._control.vitals.disk

    async def close(self) -> None:
        """Close the control channel. Jobs on the host go on; pulls and pushes of this channel are cancelled."""
        await self._control.close()

    async def probe(self) -> Mapping[str, Any]:
        """Return the raw observation; see `agents/README.md`, "observation"."""
        return await self._control.ask("probe")

    async def create(self, job: str, spec: Mapping[str, Any]) -> None:
        """Create the job's folder on the host. Idempotent for the same spec."""
        await self._control.ask("create", job=job, spec=spec)

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
            incoming = Incoming(channel.reader, self._host, deadlines.STALL)
            sender = ContextSender(incoming, channel.writer, self._host, pack=pack, progress=progress)
            answer = await sender.send(offer, tell)
        except LostError:
            await channel.abort()
            raise
        finally:
            ending = await channel.close()
        if answer is None:
            raise archives.gone(self._host, ending)
        return replies.read(self._host, error_codes.outcome(self._host, "context", answer), ContextReceived)

    async def send_enclosed(
        self, job: str, offer: Offer, objects: Mapping[str, bytes], tell: Callable[[MissingFiles], None]
    ) -> ContextReceived:
        """Send the job's context, of which `objects` are all, in one request; otherwise as `send_context`.

        That needs no process on the host, which takes a small board half a second to start.
        """
        packed = {digest: b64encode(zlib.compress(data)).decode("ascii") for digest, data in objects.items()}
        answer = await self._control.ask(
            "context", job=job, root=offer.root, entries=offer.entries, bytes=offer.size, objects=packed
        )
        received = replies.read(self._host, answer, ContextReceived)
        if received.files > offer.files or received.received > offer.size:
            raise replies.unexpected(self._host, "it received more than it was sent")
        tell(MissingFiles(received.files, offer.files, received.received))
        return received

    async def pull(
        self,
        job: str,
        port: int,
        secret: str,
        progress: Callable[[str], None],
        last_byte: Callable[[], float] = _no_byte,
    ) -> BasesHeld:
        """Pull the job's bases into the engine through the tunnel at `port` on the host.

        `last_byte` returns when the last byte of it moved, by `time.monotonic()`. After 60 s without one, and without
        new progress, the pull is lost.
        """

        def tell(event: Mapping[str, Any]) -> None:
            if "at_work" not in event:  # else it is for the deadline only
                progress(replies.words(replies.read(self._host, event, str, "progress")))

        held = await self._control.ask("pull", tell, last_byte, job=job, port=port, secret=secret)
        return replies.read(self._host, held, BasesHeld)

    async def lacking(self, job: str) -> tuple[str, ...]:
        """Return the held names of the job's bases that the engine does not have."""
        names = replies.read(self._host, await self._control.ask("lacking", job=job), list[str], "bases")
        return tuple(dict.fromkeys(names))

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
        begun = await self._control.ask("start", job=job, holder=holder, slots=slots)
        return replies.read(self._host, begun, Started)

    async def follow(self, job: str, offset: int) -> AsyncGenerator[LogText | Ended, None]:
        """Yield the log from byte `offset` on as it is written, then the job's result.

        Close the iterator when leaving early.
        """
        async with aclosing(self._control.answers("follow", job=job, offset=offset)) as answers:
            async for body in answers:
                if "event" not in body:
                    yield error_codes.ended(self._host, error_codes.outcome(self._host, "follow", body))
                    return
                piece = replies.read(self._host, body, LogText, "event")
                if piece.offset <= offset:
                    raise replies.unexpected(self._host, f"the log is at byte {piece.offset} after byte {offset}")
                offset = piece.offset
                yield piece

    async def push(
        self,
        job: str,
        port: int,
        repository: str,
        tag: str,
        secret: str,
        progress: Callable[[int, int], None],
        last_byte: Callable[[], float] = _no_byte,
    ) -> Pushed:
        """Push the job's image through the tunnel at `port` on the host; `progress` receives bytes done and total.

        `last_byte` is as for `pull`.
        """

        def tell(event: Mapping[str, Any]) -> None:
            done, total = (replies.read(self._host, event, int, "progress", name) for name in ("done", "total"))
            progress(done, total)

        pushed = await self._control.ask(
            "push", tell, last_byte, job=job, port=port, repository=repository, tag=tag, secret=secret
        )
        return replies.read(self._host, pushed, Pushed)

    async def cancel(self, job: str) -> Ended:
        """Cancel the job and its pull or push, and return its result; a job that has ended keeps its result."""
        return error_codes.ended(self._host, await self._control.ask("cancel", job=job))

    async def forget(self, job: str) -> None:
        """Delete everything of the job on the host. Idempotent; unknown jobs are no error."""
        await self._control.ask("forget", job=job)

    async def prune(self, budget: int) -> int:
        """Prune the engine's build cache to this many bytes, unless a job runs there. Return the bytes freed."""
        return replies.read(self._host, await self._control.ask("prune", budget=budget), int, "freed")

    async def hang_up(self, earlier: Hello) -> None:
        """End the host's sshd process of an earlier connection whose loss the host has not noticed yet.

        Idempotent; does nothing where the host has rebooted since.
        """
        if earlier.boot_id == self.hello.boot_id:
            pid, start = earlier.parent, earlier.parent_start
            await self._control.ask("hang_up", pid=pid, start=start, agent=earlier.pid)

    async def jobs(self) -> tuple[JobEntry, ...]:
        """Return every job that has a folder on the host."""
        return replies.jobs(self._host, await self._control.ask("jobs"))


def _not_started(host: str, ending: Ending) -> LostError:
    if ending.exit_status is None:
        return LostError(f"host '{host}': the connection was lost while the agent started", code=Cause.CONNECTION)
    reason = ending.words.splitlines()[-1] if ending.words else f"exit status {ending.exit_status}"
    return LostError(f"host '{host}': the agent does not start: {reason}", code="agent")
