"""The secrets and SSH agents that a Dockerfile's RUN instructions mount, of which archloom can pass none yet.

BuildKit leaves out a mount whose secret or agent the client does not offer, and fails where it is `required`.

Source: moby/buildkit `frontend/dockerfile/instructions/commands_runmount.go`, `dockerfile2llb/convert_runmount.go`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from coordinator.domain.dockerfile import mounts
from coordinator.domain.dockerfile.bases import StageChain
from coordinator.domain.dockerfile.expansion import ExpansionError, expand
from coordinator.domain.dockerfile.instructions import Instruction
from coordinator.domain.dockerfile.mounts import MountError
from coordinator.domain.dockerfile.scopes import in_scope
from coordinator.errors import UsageError

_KINDS = {"secret": "a secret", "ssh": "an SSH agent"}
# What Go's strconv.ParseBool takes for true; a bare key is true too.
_TRUE = frozenset({"", "1", "t", "T", "true", "TRUE", "True"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretMount:
    """A mount `text` at `line`; `kind` is `a secret` or `an SSH agent`."""

    line: int
    text: str
    kind: str
    required: bool


def secret_mounts(chains: Iterable[StageChain]) -> tuple[SecretMount, ...]:
    """Return the mounts of secrets and SSH agents in these stages, in the order of the Dockerfile."""
    found = {
        mount
        for chain in chains
        for instruction, readings in in_scope(chain.stages, chain.scope)
        for mount in _of_instruction(instruction, readings[0], chain.scope.escape)
    }
    return tuple(sorted(found, key=lambda mount: (mount.line, mount.text)))


def check_secret_mounts(found: Collection[SecretMount], dockerfile: str) -> tuple[str, ...]:
    """Return a line for each mount that stays empty. Raises UsageError for one that must not."""
    required = [mount for mount in found if mount.required]
    if required:
        message = "\n".join(
            f"{dockerfile}:{mount.line}: {mount.text} requires {mount.kind}, which archloom cannot pass to a build yet"
            for mount in required
        )
        hint = "fetch what it is for before the build, into the context; or remove required, if the step can do without"
        raise UsageError(message, hint=hint, code="secrets")
    return tuple(
        f"{dockerfile}:{mount.line}: {mount.text} stays empty: archloom cannot pass {mount.kind} to a build yet"
        for mount in found
    )


def _of_instruction(instruction: Instruction, values: Mapping[str, str], escape: str) -> Iterator[SecretMount]:
    if instruction.keyword != "run":
        return
    for flag in instruction.flags:
        if flag.name != "mount":
            continue
        try:
            settings = {key: setting.value for key, setting in mounts.settings(flag.value).items()}
            kind = expand(settings.get("type", "bind"), values, escape).text.lower()
        except (MountError, ExpansionError):
            # The builder rejects the mount.
            continue
        if kind in _KINDS:
            yield SecretMount(
                line=instruction.line,
                text=f"--mount={flag.value}",
                kind=_KINDS[kind],
                required=settings.get("required", "false") in _TRUE,
            )
