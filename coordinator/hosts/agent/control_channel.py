"""The control channel to one agent: concurrent requests, each with its deadline, and pings while one is open."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from coordinator import deadlines
from coordinator.domain.causes import Cause
from coordinator.errors import LostError
from coordinator.hosts.agent import archives, error_codes, replies
from coordinator.hosts.agent.frames import Incoming, encode
from coordinator.hosts.agent.replies import Vitals
from coordinator.hosts.agent.transport import Channel, Ending

_log = logging.getLogger("archloom.agent")

# The id of every ping; requests count from 1.
_PING_ID = 0
# Frames of one request that its caller has not taken yet. Then the channel is not read further, and the host waits.
_MAX_UNREAD = 4
# A clean-up that is late does not end the pushes of other jobs: the next run deletes what is left.
_CLEAN_UPS = frozenset({"cancel", "forget"})
_MAX_LOGGED = 1000

Moved = Callable[[], float]


def _now() -> float:
    """Return the time of the event loop, which is `time.monotonic()`."""
    return asyncio.get_running_loop().time()


class _Answers:
    """The frames that answer one request and are not taken yet; `None` is the end of the channel."""

    def __init__(self) -> None:
        self._frames: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(_MAX_UNREAD)

    async def put(self, frame: Mapping[str, Any]) -> None:
        """Add a frame as soon as there is room for it, or as its taker has left."""
        await self._room.acquire()
        self._frames.put_nowait(frame)

    def end(self) -> None:
        self._frames.put_nowait(None)

    def leave(self) -> None:
        """Take no frame any more: one that waits for room does not wait longer."""
        self._room.release()

    async def take(self) -> Mapping[str, Any] | None:
        frame = await self._frames.get()
        self._room.release()
        return frame


class ControlChannel:
    """Requests to one agent. Once the channel has ended, each request raises LostError, usually `connection`."""

    def __init__(self, host: str, channel: Channel, incoming: Incoming) -> None:
        self._host = host
        self._channel = channel
        self._incoming = incoming
        self._last_number = _PING_ID
        self._unanswered = 0
        self._under_way: dict[int, _Answers] = {}
        self._lost: LostError | None = None
        self._is_full = False
        self._vitals, self._vitals_at = Vitals(engine=0.0, disk=0.0), 0.0
        self._reading = asyncio.create_task(self._read())
        self._pinging = asyncio.create_task(self._ping())
        self._ending: asyncio.Task[None] | None = None

    @property
    def lost(self) -> bool:
        """Whether the channel has ended: no request on it can succeed any more."""
        return self._lost is not None

    @property
    def vitals(self) -> Vitals:
        """For how long engine and disk of the host have not answered, by the last ping; 0 after the channel's end."""
        if self.lost:
            return Vitals(engine=0.0, disk=0.0)
        since = _now() - self._vitals_at
        engine, disk = (silence and silence + since for silence in (self._vitals.engine, self._vitals.disk))
        return Vitals(engine=engine, disk=disk)

    async def close(self) -> None:
        """Send EOF and wait for the end of the agent. Raises the defect that has ended the reading."""
        self._pinging.cancel()
        if self._ending is None:
            await self._channel.close()
        else:
            await asyncio.wait({self._ending})
        await asyncio.wait({self._reading, self._pinging})
        for task in (self._reading, self._pinging):
            if not task.cancelled():
                task.result()

    async def ask(
        self,
        op: str,
        tell: Callable[[Mapping[str, Any]], None] | None = None,
        /,
        moved: Moved | None = None,
        **parameters: object,
    ) -> Mapping[str, Any]:
        """Return the `ok` of the answer; `tell` gets the events before it.

        `moved`: when the last byte of the transfer that is asked for moved, by `time.monotonic()`; it may go on as long
        as bytes move. Raises LostError `connection` where the answer is late, and as `error_codes.outcome` does.
        """
        began = _now()
        deadline = _Deadline(deadlines.STALL if moved else deadlines.ANSWER.get(op), began, moved)
        with self._request() as (number, answers):
            await self._send(number, op, deadline, parameters)
            while "event" in (body := await self._next(op, answers, deadline)):
                event = replies.read(self._host, body, dict[str, Any], "event")
                deadline.progressed(event)
                if tell is not None:
                    tell(event)
            self._log_answer(op, parameters.get("job", ""), body, _now() - began)
            return error_codes.outcome(self._host, op, body)

    async def answers(self, op: str, **parameters: object) -> AsyncGenerator[Mapping[str, Any]]:
        """Yield the frames of the answer: events, and last the one with `ok` or `error`. Only pings limit the wait."""
        deadline = _Deadline(None, 0.0)
        with self._request() as (number, answers):
            await self._send(number, op, deadline, parameters)
            while "event" in (body := await self._next(op, answers, deadline)):
                yield body
            yield body

    def _log_answer(self, op: str, job: object, body: Mapping[str, Any], seconds: float) -> None:
        # Log no parameter but the job's name: `secret` is a parameter of `pull` and `push`.
        error = body.get("error")
        ending = f"{error.get('code')}: {error.get('message')}"[:_MAX_LOGGED] if isinstance(error, Mapping) else "ok"
        level = logging.INFO if error else logging.DEBUG
        _log.log(level, "%s: %s: %s, %.3f s", self._host, f"{op} {job}".rstrip(), ending, seconds)

    @contextmanager
    def _request(self) -> Iterator[tuple[int, _Answers]]:
        self._last_number += 1
        number = self._last_number
        answers = self._under_way[number] = _Answers()
        try:
            yield number, answers
        finally:
            del self._under_way[number]
            answers.leave()

    async def _send(self, number: int, op: str, deadline: _Deadline, parameters: Mapping[str, object]) -> None:
        if self._lost is not None:
            raise self._loss()
        try:
            async with asyncio.timeout_at(deadline.due):
                self._channel.writer.write(encode({"id": number, "op": op, **parameters}))
                await self._channel.writer.drain()
        except TimeoutError:
            raise self._late(op, deadline) from None
        except OSError:
            # `_read` sees the end too and sets `_lost`. Unlike await, asyncio.wait does not cancel it with this caller.
            await asyncio.wait({self._reading}, timeout=deadlines.LAST_WORDS)
            self._abandon(self._gone(Ending(None)))

    async def _next(self, op: str, answers: _Answers, deadline: _Deadline) -> Mapping[str, Any]:
        while True:
            due = deadline.due
            try:
                async with asyncio.timeout_at(due):
                    body = await answers.take()
            except TimeoutError:
                if deadline.due == due:
                    raise self._late(op, deadline) from None
            else:
                if body is None:
                    raise self._loss()
                return body

    def _late(self, op: str, deadline: _Deadline) -> LostError:
        """Return the error of a late answer. The channel ends with it: a fresh agent cures one that hangs."""
        late = f"host '{self._host}': its agent has not answered '{op}' for {deadline.seconds:.0f} s"
        if deadline.last_byte is not None:
            late = f"host '{self._host}': no byte of its {op} has moved for {deadline.seconds:.0f} s"
        loss = LostError(late, code=Cause.CONNECTION)
        if op not in _CLEAN_UPS:
            self._abandon(loss)
        return loss

    async def _ping(self) -> None:
        """Ask the agent for its vitals while a request is open; end the channel where it does not answer."""
        unanswered = 0
        while self._lost is None:
            heard = self._incoming.received
            # Count the pings and not the time, which also passes where this program is stopped, and not the host.
            await asyncio.sleep(deadlines.PING)
            if not self._under_way or self._is_full or self._incoming.received != heard:
                unanswered = 0
            if unanswered == deadlines.MAX_UNANSWERED_PINGS:
                silence = deadlines.PING * deadlines.MAX_UNANSWERED_PINGS
                words = f"host '{self._host}': its agent has given no sign of life for {silence:.0f} s"
                self._abandon(LostError(words, code=Cause.CONNECTION))
            elif self._under_way:
                unanswered += 1
                self._unanswered += 1
                # Not drained: it is a few bytes, and an agent that hangs does not read.
                with suppress(OSError):
                    self._channel.writer.write(encode({"id": _PING_ID, "op": "ping"}))

    async def _read(self) -> None:
        """Deliver each frame to the request it answers until the channel ends, then wake every open request."""
        loss = self._gone(Ending(None))
        try:
            while (frame := await self._incoming.frame()) is not None:
                await self._deliver(frame)
            loss = await self._last_words()
        except LostError as error:
            self._abandon(error)
        finally:
            # After a cancellation or a defect no frame is read any more: without this a later request would hang.
            self._lose(loss)

    async def _last_words(self) -> LostError:
        try:
            async with asyncio.timeout(deadlines.LAST_WORDS):
                return self._gone(await self._channel.close())
        except TimeoutError:
            # It has closed its stdout, and does not end.
            loss = self._gone(Ending(None))
            self._abandon(loss)
            return loss

    async def _deliver(self, frame: Mapping[str, Any]) -> None:
        if frame.get("id") is None:
            refused = f"{frame.get('error')!r:.200}"
            raise replies.unexpected(self._host, f"the agent could not read a request: {refused}")
        number = replies.read(self._host, frame, int, "id")
        if number == _PING_ID:
            self._unanswered -= 1
            if self._unanswered < 0:
                raise replies.unexpected(self._host, "it answers a ping that was not sent")
            self._vitals = replies.read(self._host, frame, Vitals, "ok") if "ok" in frame else self._vitals
            self._vitals_at = _now()
        elif number in self._under_way:
            self._is_full = True
            await self._under_way[number].put(frame)
            self._is_full = False
        elif number > self._last_number:  # else the caller was cancelled or closed its iterator
            raise replies.unexpected(self._host, f"it answers request {number}, which was not sent")

    def _lose(self, loss: LostError) -> None:
        """Make this loss, unless there is an earlier one, the error of every request, open or to come."""
        if self._lost is None:
            self._lost = loss
            for answers in self._under_way.values():
                answers.end()

    def _abandon(self, loss: LostError) -> None:
        """Lose the channel, and end the agent without waiting for it."""
        self._lose(loss)
        if self._ending is None:
            self._ending = asyncio.create_task(self._channel.abort())

    def _gone(self, ending: Ending) -> LostError:
        return archives.gone(self._host, ending)

    def _loss(self) -> LostError:
        # A new object for each raise: one exception raised in many tasks accumulates all their tracebacks.
        loss = self._lost or self._gone(Ending(None))
        return LostError(loss.message, hint=loss.hint, code=loss.code)


@dataclass(slots=True)
class _Deadline:
    """When an answer is late: `seconds` after `last`, the request or, of a transfer, its last byte or new progress.

    `last_byte` returns when the last byte of a transfer moved. Times are of `time.monotonic()`. None: never late.
    """

    seconds: float | None
    last: float
    last_byte: Moved | None = None
    progress: Mapping[str, Any] | None = None

    @property
    def due(self) -> float | None:
        if self.seconds is None:
            return None
        return self.seconds + max(self.last, self.last_byte() if self.last_byte is not None else 0.0)

    def progressed(self, event: Mapping[str, Any]) -> None:
        """Count an event of a transfer, such as an engine that unpacks a layer, where it tells anything new."""
        if self.last_byte is not None and event != self.progress:
            self.progress, self.last = event, _now()
