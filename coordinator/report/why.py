"""The comparison of a run with the previous one, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from math import inf
from textwrap import wrap
from typing import NamedTuple

from coordinator.domain.image.references import short
from coordinator.domain.run.model import Run
from coordinator.domain.run.status import Status
from coordinator.domain.visible import visible, visible_name
from coordinator.domain.why.changes import Change, ChangeKind
from coordinator.domain.why.comparison import JobComparison, RunComparison
from coordinator.domain.why.entries import Entry, TimelineKind

_MAX_FILES = 8
_MAX_LINES = 10
_MAX_TEXT_CHARS = 100
# A narrower text column is unreadable.
_MIN_TEXT_COLUMNS = 20
_FLAGS = {ChangeKind.ARGUMENT: "--build-arg", ChangeKind.LABEL: "--label", ChangeKind.OPTION: ""}


def comparison_text(comparison: RunComparison, width: int | None = None) -> str:
    """Return plain text without control characters: how the runs ended, what changed, the run, and a table per job.

    The tables are at most `width` columns wide, the width of the terminal; None for no limit.
    """
    parts = [_heads(comparison)]
    if comparison.before:
        changed = [f"  {line}" for line in change_lines(comparison.changes)]
        head = (
            f"changed since run {comparison.before.id}:"
            if changed
            else f"nothing changed since run {comparison.before.id}"
        )
        parts.append([head, *changed])
    began = comparison.run.created_at
    parts.append(["the run:", *(f"  {_after(entry, began):>8}  {entry.text}" for entry in comparison.entries)])
    parts += [_of_job(job, comparison, width) for job in comparison.jobs]
    return "\n\n".join("\n".join(map(visible, part)) for part in parts)


def comparison_json(comparison: RunComparison) -> dict[str, object]:
    """Return the comparison as JSON data. `at` is in seconds since the run began, `before` the previous durations."""
    began = comparison.run.created_at
    return {
        "run": comparison.run.id,
        "tags": list(comparison.run.asked_tags),
        "state": comparison.status,
        "exit_code": comparison.run.exit_code,
        "created_at": began,
        "before": comparison.before.id if comparison.before else None,
        "changes": [_change_json(change) for change in comparison.changes],
        "entries": [_entry_json(entry, began) for entry in comparison.entries],
        "platforms": {
            str(job.job.platform): {
                "state": job.job.state,
                "build_id": job.job.build_id,
                "reused": job.job.reused,
                "why": job.why,
                "entries": [
                    {**_entry_json(entry, began), "before": _took_json(before)} for entry, before in job.entries
                ],
            }
            for job in comparison.jobs
        },
    }


def change_lines(changes: Iterable[Change]) -> Iterator[str]:
    """Yield the changes as lines without control characters; files are grouped by the instruction that uses them."""
    return map(visible, _changed(changes))


def _changed(changes: Iterable[Change]) -> Iterator[str]:
    for is_file, group in groupby(changes, lambda change: change.kind is ChangeKind.FILE):
        if is_file:
            yield from _files(list(group))
        else:
            for change in group:
                yield from _change(change)


def _heads(comparison: RunComparison) -> list[str]:
    tags = ", ".join(comparison.run.asked_tags)
    heads = [f"run {comparison.run.id}: {tags}: {_ended(comparison.run, comparison.status, comparison.seconds)}"]
    if comparison.before and comparison.before_status:
        ended = _ended(comparison.before, comparison.before_status, comparison.before_seconds)
        heads.append(f"previous run {comparison.before.id}: {ended}")
    return heads


def _ended(run: Run, status: Status, seconds: float | None) -> str:
    if seconds is None:
        return status
    code = f" (exit {run.exit_code})" if run.exit_code else ""
    return f"{status}{code} in {seconds:.1f} s"


def _of_job(job: JobComparison, comparison: RunComparison, width: int | None) -> list[str]:
    began = comparison.run.created_at
    head = f"{job.job.platform}: {job.job.state_in_words}: {job.why}"
    if not job.entries:
        return [head]
    rows = [
        _Row(_after(entry, began), _text(entry), _took(entry), _took(before) if before else "")
        for entry, before in job.entries
    ]
    heads = _Row("AT", "WHAT", "TOOK", "BEFORE" if comparison.before else "")
    return [head, *_table([heads, *rows], width)]


class _Row(NamedTuple):
    at: str
    what: str
    took: str
    before: str

    @property
    def is_timed(self) -> bool:
        return bool(self.took or self.before)


def _table(rows: Sequence[_Row], width: int | None) -> Iterator[str]:
    """Yield the lines of the table. The text of a row without durations may be wider than its column."""
    at, took = max(len(row.at) for row in rows), max(len(row.took) for row in rows)
    what = max(len(row.what) for row in rows if row.is_timed)
    room = inf
    if width is not None:
        beside = took + 2 + max(len(row.before) + 2 for row in rows)
        room = max(_MIN_TEXT_COLUMNS, width - at - 2)
        what = min(what, max(_MIN_TEXT_COLUMNS, width - at - 2 - beside))
    for row in rows:
        first, *more = _wrapped(row.what, what if row.is_timed else room)
        yield f"{row.at:<{at}}  {first:<{what}}  {row.took:<{took}}  {row.before}".rstrip()
        for line in more:
            yield f"{'':<{at}}  {line}"


def _wrapped(text: str, room: float) -> list[str]:
    """Return at least one line, each with the indentation of the first."""
    if len(text) <= room:
        return [text]
    indent = " " * (len(text) - len(text.lstrip(" ")))
    return wrap(text.lstrip(" "), int(room), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _text(entry: Entry) -> str:
    text = visible(entry.text)
    text = (
        text if len(text) <= _MAX_TEXT_CHARS or entry.kind is TimelineKind.ERROR else f"{text[: _MAX_TEXT_CHARS - 1]}…"
    )
    return f"  {text}" if entry.kind is TimelineKind.STEP else text


def _after(entry: Entry, began: float) -> str:
    return f"{max(0.0, entry.at - began):.1f} s"


def _took(entry: Entry) -> str:
    if entry.cached:
        return "cached"
    return "" if entry.seconds is None else f"{entry.seconds:.1f} s"


def _change(change: Change) -> Iterator[str]:
    match change.kind:
        case ChangeKind.BASE:
            same = f" ({', '.join(map(str, change.same))} in it is the same)" if change.same else ""
            yield f"base {change.what} moved {short(change.before or '')} → {short(change.now or '')}{same}"
        case ChangeKind.DOCKERFILE:
            yield f"{change.what}{'' if change.now is None else ':'}"
            yield from _lines("-", change.before)
            yield from _lines("+", change.now)
        case ChangeKind.CONTEXT:
            yield f"files of {change.what}; the list of changed files is not stored"
        case ChangeKind.FILE:
            yield from _files([change])
        case ChangeKind.ARGUMENT | ChangeKind.LABEL | ChangeKind.OPTION:
            name = f"{_FLAGS[change.kind]} {change.what}".strip()
            why = " (volatile: does not start a build)" if change.volatile else ""
            yield f"{name}: {_value(change.before)} → {_value(change.now)}{why}"


def _value(value: str | None) -> str:
    return "none" if value is None else repr(value) if not value or value != value.strip() else value


def _lines(mark: str, text: str | None) -> Iterator[str]:
    lines = text.split("\n") if text else []
    for line in lines[:_MAX_LINES]:
        yield f"  {mark} {line}"
    if len(lines) > _MAX_LINES:
        yield f"  {mark} … {len(lines) - _MAX_LINES} more"


def _files(changes: Sequence[Change]) -> Iterator[str]:
    """Yield the files by the first instruction that uses them: from that instruction on, nothing is cached."""
    by: dict[str, list[str]] = {}
    for change in changes:
        # Without an instruction that names it, a file is taken through a link, through ONBUILD, or with everything.
        by.setdefault(next(iter(change.copy_sources or ()), "context"), []).append(_file(change))
    yield from (f"{first} ← {_several(files)}" for first, files in by.items())


def _several(files: Sequence[str]) -> str:
    more = f" and {len(files) - _MAX_FILES} more" if len(files) > _MAX_FILES else ""
    return ", ".join(files[:_MAX_FILES]) + more


def _file(change: Change) -> str:
    name = visible_name(change.what)
    if change.before is None:
        return f"{name} (new)"
    if change.now is None:
        return f"{name} (gone)"
    if "hard link" in change.now:
        return f"{name} ({change.before} → {change.now})"
    if change.now.startswith("mode "):
        return f"{name} ({change.before} → {change.now.removeprefix('mode ')})"
    return name


def _change_json(change: Change) -> dict[str, object]:
    return {
        "kind": change.kind,
        "what": change.what,
        "before": change.before,
        "now": change.now,
        "takers": None if change.copy_sources is None else list(change.copy_sources),
        "same": list(map(str, change.same)),
        "volatile": change.volatile,
    }


def _entry_json(entry: Entry, began: float) -> dict[str, object]:
    return {
        "at": round(max(0.0, entry.at - began), 3),
        "kind": entry.kind,
        "name": entry.name,
        "text": entry.text,
        **_took_json(entry),
    }


def _took_json(entry: Entry | None) -> dict[str, object]:
    if entry is None:
        return {"seconds": None, "cached": False}
    return {"seconds": None if entry.seconds is None else round(entry.seconds, 3), "cached": entry.cached}
