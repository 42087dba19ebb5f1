"""The part of the context that the build of each platform takes: only this is hashed, compared, sent and kept."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from coordinator.context.file_digests import FileDigests
from coordinator.context.offer import LazyOffer
from coordinator.context.tree import ContextManifest, scan
from coordinator.domain.dockerfile.context_sources import ContextSource, ContextUse
from coordinator.domain.dockerfile.dockerignore import Matcher, compile_ignore
from coordinator.domain.image.platforms import Platform
from coordinator.domain.inputs.build_id import EntryKind, context_digest
from coordinator.domain.run.events import Emit, Notice
from coordinator.domain.targets.request import BuildRequest
from coordinator.domain.targets.target import Target
from coordinator.domain.visible import file_word, visible_name
from coordinator.environment import Environment
from coordinator.errors import UsageError

_KILOBYTES_BELOW = 100_000
_DIGESTS = "file-digests"


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenContext:
    """What one platform's build takes. `digest` is its `context_digest`, `offer` what its hosts may ask for.

    Platforms that take the same share one object.
    """

    use: ContextUse
    manifest: ContextManifest = field(repr=False)
    digest: str
    offer: LazyOffer = field(repr=False)


async def take_contexts(
    request: BuildRequest, uses: Mapping[Platform, ContextUse], env: Environment, emit: Emit
) -> dict[Platform, TakenContext]:
    """Read what the builds take of the target's context, each file once for all platforms.

    Raises UsageError for what the user has to correct.
    """
    target = request.target
    ignore = _ignore(target)
    own = [env.state, _agent_state(env), *map(Path, (*request.outputs, *env.log_files))]
    with closing(FileDigests(env.state / _DIGESTS)) as digests:

        async def take(use: ContextUse) -> TakenContext:
            manifest = await scan(
                Path(target.context),
                ignore,
                use,
                own=own,
                digests=digests,
                dockerfile=visible_name(target.dockerfile),
                home=env.home,
                report=lambda line: emit(Notice(line)),
            )
            return TakenContext(
                use=use, manifest=manifest, digest=context_digest(manifest.entries), offer=LazyOffer(manifest)
            )

        of_platforms = _of_everything(uses)
        taken = {use: await take(use) for use in dict.fromkeys(of_platforms.values())}
    return {platform: taken[use] for platform, use in of_platforms.items()}


def _of_everything(uses: Mapping[Platform, ContextUse]) -> dict[Platform, ContextUse]:
    """Return the uses, where those that take everything for one reason are the same: all their sources must exist."""
    sources: dict[str, dict[ContextSource, None]] = {}
    for use in uses.values():
        sources.setdefault(use.everything, {}).update(dict.fromkeys(use.sources))
    return {
        platform: replace(use, sources=tuple(sources[use.everything])) if use.everything else use
        for platform, use in uses.items()
    }


def described(contexts: Mapping[Platform, TakenContext]) -> list[str]:
    """Return a line per different use of the context: what its platforms take, and why where it is everything."""
    platforms: dict[ContextUse, list[str]] = {}
    for platform, context in contexts.items():
        platforms.setdefault(context.use, []).append(str(platform))
    of_use = {context.use: context for context in contexts.values()}
    return [f"context for {', '.join(names)}: {_amount(of_use[use])}" for use, names in platforms.items()]


def _amount(context: TakenContext) -> str:
    files = sum(entry.kind is EntryKind.FILE for entry in context.manifest.entries)
    size = context.manifest.size
    shown = f"{size / 1e6:.1f} MB" if size >= _KILOBYTES_BELOW else f"{size / 1e3:.1f} kB"
    amount = f"{files} {'file' if files == 1 else 'files'}, {shown}"
    return f"everything, {amount}, because {context.use.everything}" if context.use.everything else amount


def _agent_state(env: Environment) -> Path:
    """Return the state folder of the agent for jobs on this machine, as agents/base/state.py chooses it."""
    home = env.environ.get("XDG_STATE_HOME", "")
    return (Path(home) if home.startswith("/") else env.home / ".local" / "state") / "archloom-agent"


def _ignore(target: Target) -> Matcher:
    """Return the rules of `<Dockerfile>.dockerignore`, else of `.dockerignore` in the context, else no rules.

    The path of the rules is that of the file in force, which the second may become.
    """
    path = Path(f"{target.dockerfile}.dockerignore")
    if not path.is_file():
        path = Path(target.context, ".dockerignore")
    if not path.is_file():
        return compile_ignore("", str(path))
    try:
        text = path.read_text("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint=f"chmod a+r {file_word(path)}") from error
    return compile_ignore(text, str(path))
