"""The part of the context that the build of each platform takes: only this is hashed, compared, sent and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.context.offer import ContextOffer, offer
from coordinator.context.tree import ContextManifest, scan
from coordinator.domain.dockerfile.context_sources import ContextUse
from coordinator.domain.dockerfile.dockerignore import Matcher, compile_ignore
from coordinator.domain.image.platforms import Platform
from coordinator.domain.inputs.build_id import EntryKind, context_digest
from coordinator.domain.targets.target import Target
from coordinator.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenContext:
    """What one platform's build takes. `digest` is its `context_digest`, `offer` what its hosts may ask for.

    Platforms that take the same share one object.
    """

    use: ContextUse
    manifest: ContextManifest = field(repr=False)
    digest: str
    offer: ContextOffer = field(repr=False)


async def take_contexts(target: Target, uses: Mapping[Platform, ContextUse]) -> dict[Platform, TakenContext]:
    """Read what the builds take of the target's context, once for all platforms with the same use.

    Raises UsageError for what the user has to correct.
    """
    ignore = _ignore(target)
    taken = {use: await _take(Path(target.context), ignore, use) for use in dict.fromkeys(uses.values())}
    return {platform: taken[use] for platform, use in uses.items()}


def described(contexts: Mapping[Platform, TakenContext]) -> list[str]:
    """Return a line per different use of the context: what its platforms take, and why where it is everything."""
    platforms: dict[ContextUse, list[str]] = {}
    for platform, context in contexts.items():
        platforms.setdefault(context.use, []).append(str(platform))
    of_use = {context.use: context for context in contexts.values()}
    return [f"{', '.join(names)} {_amount(of_use[use])}" for use, names in platforms.items()]


def _amount(context: TakenContext) -> str:
    files = sum(entry.kind is EntryKind.FILE for entry in context.manifest.entries)
    amount = f"{files} {'file' if files == 1 else 'files'}, {context.manifest.size / 1e6:.1f} MB"
    if context.use.everything:
        return f"takes all of the context, {amount}: {context.use.everything}"
    return f"takes {amount} of the context"


async def _take(root: Path, ignore: Matcher, use: ContextUse) -> TakenContext:
    manifest = await scan(root, ignore)
    return TakenContext(
        use=use, manifest=manifest, digest=context_digest(manifest.entries), offer=await offer(manifest)
    )


def _ignore(target: Target) -> Matcher:
    """Return the rules of `<Dockerfile>.dockerignore`, else of `.dockerignore` in the context, else no rules."""
    for path in (Path(f"{target.dockerfile}.dockerignore"), Path(target.context, ".dockerignore")):
        if path.is_file():
            try:
                text = path.read_text("utf-8-sig", errors="surrogateescape")
            except OSError as error:
                raise UsageError(f"cannot read {path}: {error.strerror}", hint=f"chmod a+r {path}") from error
            return compile_ignore(text, str(path))
    return compile_ignore("", "")
