"""A mount of a secret, which no build gets, is told before a board is touched; refused where the build needs it."""

from __future__ import annotations

import pytest

from coordinator.domain.dockerfile.bases import scoped_chains
from coordinator.domain.dockerfile.secret_mounts import SecretMount, check_secret_mounts, secret_mounts
from coordinator.domain.dockerfile.stages import parse
from coordinator.errors import UsageError
from tests.unit.dockerfile.context_uses import AMD64, ARM64


def mounts(text: str, stage: str = "") -> tuple[SecretMount, ...]:
    return secret_mounts(
        scoped_chains(parse(text), stage=stage, platform=ARM64, build_platform=AMD64, build_args={}, configs={})
    )


@pytest.mark.parametrize(
    ("mount", "kind", "required"),
    [
        ("type=secret,id=npm", "a secret", False),
        ("type=secret,id=npm,required", "a secret", True),
        ("type=secret,id=npm,required=true", "a secret", True),
        ("type=secret,id=npm,required=0", "a secret", False),
        ("TYPE=SSH", "an SSH agent", False),
        ("required=1,type=ssh", "an SSH agent", True),
        ("type=$KIND,id=npm", "a secret", False),
    ],
)
def test_a_mount_of_a_secret_is_found(mount, kind, required):
    (found,) = mounts(f"FROM scratch\nARG KIND=secret\nRUN --mount={mount} make\n")

    assert found == SecretMount(line=3, text=f"--mount={mount}", kind=kind, required=required)


@pytest.mark.parametrize("line", ["RUN --mount=type=cache,target=/c x", "RUN --mount=source=a,target=/b x", "CMD a"])
def test_other_mounts_need_no_secret(line: str):
    assert mounts(f"FROM scratch\n{line}\n") == ()


def test_a_stage_that_is_not_built_needs_none():
    text = "FROM scratch AS a\nRUN --mount=type=ssh x\nFROM scratch AS b\nRUN --mount=type=secret,id=b x\nFROM a\n"

    assert [(mount.line, mount.kind) for mount in mounts(text)] == [(2, "an SSH agent")]


def test_what_can_stay_empty_is_told_and_the_rest_is_refused():
    """Each with its line; all that is required at once."""
    optional = mounts("FROM scratch\nRUN --mount=type=ssh a\n")
    both = mounts(
        "FROM scratch\nRUN --mount=type=ssh a\nRUN --mount=type=secret,required b\nRUN --mount=type=ssh,required c\n"
    )

    assert check_secret_mounts(optional, "Dockerfile") == (
        "Dockerfile:2: --mount=type=ssh stays empty: archloom cannot pass an SSH agent to a build yet",
    )
    with pytest.raises(UsageError) as caught:
        check_secret_mounts(both, "Dockerfile")
    assert caught.value.message.splitlines() == [
        "Dockerfile:3: --mount=type=secret,required requires a secret, which archloom cannot pass to a build yet",
        "Dockerfile:4: --mount=type=ssh,required requires an SSH agent, which archloom cannot pass to a build yet",
    ]
    assert "before the build" in caught.value.hint
