"""The request flags of `archloom build` and `archloom plan`, and the target they describe."""

from __future__ import annotations

import errno
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from coordinator.cli.buildx_flags import foreign_flags
from coordinator.domain.image import platforms, references
from coordinator.domain.image.platforms import Platform
from coordinator.domain.inputs.pins import is_pin
from coordinator.domain.targets.host_selection import read_on
from coordinator.domain.targets.request import BuildRequest
from coordinator.domain.targets.target import Emulate, Target
from coordinator.domain.visible import file_word
from coordinator.errors import UsageError

# https://reproducible-builds.org/docs/source-date-epoch/
_EPOCH = "SOURCE_DATE_EPOCH"
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """The values of the command line as click passes them, before validation."""

    context: str
    tag: tuple[str, ...]
    platform: tuple[str, ...]
    file: str | None
    target: str
    build_arg: tuple[str, ...]
    label: tuple[str, ...]
    volatile: tuple[str, ...]
    no_cache: bool
    pull: bool
    inventory: str | None
    emulate: str
    on: tuple[str, ...]

    def request(self, target: Target, *, fail_fast: bool = False, outputs: tuple[str, ...] = ()) -> BuildRequest:
        """Return the request to build this target on the hosts that these flags allow."""
        on, pinned = read_on(self.on)
        emulate = Emulate(self.emulate)
        return BuildRequest(target=target, emulate=emulate, on=on, pinned=pinned, fail_fast=fail_fast, outputs=outputs)


def request_flags(command: F) -> F:
    """Add the flags for what to build and where to a click command."""
    options = [
        click.argument("context", default="."),
        click.option("-t", "--tag", multiple=True, metavar="REF", help="Tag to publish; repeat for more."),
        click.option(
            "--platform", multiple=True, metavar="P[,P…]", help="Platforms. Default: what your boards run natively."
        ),
        click.option("-f", "--file", metavar="FILE", help="Dockerfile. Default: CONTEXT/Dockerfile."),
        click.option("--target", default="", metavar="STAGE", help="Stage of the Dockerfile to build."),
        click.option(
            "--build-arg", multiple=True, metavar="K=V", help="Value of an ARG; K alone: from the environment."
        ),
        click.option("--label", multiple=True, metavar="K=V", help="Label of the image."),
        click.option(
            "--volatile",
            multiple=True,
            metavar="NAME",
            help="A build arg or label, such as BUILD_DATE, whose change alone starts no build: if nothing else "
            "has changed, the image keeps its old value.",
        ),
        click.option("--no-cache", is_flag=True, help="Build every step again and reuse nothing."),
        click.option("--pull", is_flag=True, help="Accepted: base images are always resolved again."),
        click.option("-i", "--inventory", metavar="FILE", help="Inventory with the hosts. (env: ARCHLOOM_INVENTORY)"),
        click.option(
            "--emulate",
            type=click.Choice([choice.value for choice in Emulate]),
            default=Emulate.AUTO.value,
            help="auto: QEMU where no board can build. never: no QEMU. only: emulators only.",
        ),
        click.option(
            "--on",
            multiple=True,
            metavar="[P=]HOST[,…]",
            help="Build on these hosts only; P=HOST: platform P on this host.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return foreign_flags(command)


def target_from(flags: Flags, environ: dict[str, str]) -> Target:
    """Return the target that these flags describe. Raises UsageError for an invalid value.

    Its platforms may be empty: they are then taken from the hosts.
    """
    if not flags.tag:
        raise UsageError("no tag to publish", hint="add -t, for example: -t nas.lan:5000/app:1.0")
    context = _context(flags.context)
    return Target(
        name="default",
        context=str(context),
        dockerfile=str(_dockerfile(flags.file, context)),
        tags=tuple(dict.fromkeys(_tag(text) for text in flags.tag)),
        platforms=_platforms(flags.platform),
        stage=flags.target,
        build_args=_build_args(flags.build_arg, environ),
        labels=_labels(flags.label),
        volatile=_volatile(flags, environ),
        no_cache=flags.no_cache,
        pull=flags.pull,
    )


def _platforms(words: tuple[str, ...]) -> tuple[Platform, ...]:
    parsed = platforms.parse_list(words)
    if words and not parsed:
        raise UsageError("--platform is empty", hint="leave it out, or for example: --platform linux/arm64")
    return parsed


def _tag(text: str) -> references.Reference:
    reference = references.parse(text)
    if reference.digest:
        raise UsageError(f"'{text}' has a digest, which cannot be chosen", hint=f"-t {reference.with_tag('1.0')}")
    if is_pin(reference.tag):
        raise UsageError(f"'{text}' is the name of a pin, which archloom never moves", hint="publish under another tag")
    return reference.with_tag(reference.target)


def _context(text: str) -> Path:
    if text == "-":
        hint = "unpack it into a folder and give that folder"
        raise UsageError("a context on standard input is not supported yet", hint=hint)
    if "://" in text or text.startswith(("git@", "github.com/")):
        raise UsageError(f"a remote context is not supported yet: {text}", hint=f"git clone {text} src, then build src")
    path = Path(text)
    if not path.exists():
        raise UsageError(f"there is no context folder {text}", hint="give the folder to build from, often '.'")
    if not path.is_dir():
        raise UsageError(
            f"the context {text} is a file", hint="give the folder that holds it, and the Dockerfile with -f"
        )
    return path.resolve()


def _dockerfile(text: str | None, context: Path) -> Path:
    if text == "-":
        raise UsageError(
            "a Dockerfile on standard input is not supported yet", hint="write it to a file and use -f FILE"
        )
    # As `docker build`: -f is relative to the current folder, the default is in the context.
    path = Path(text).absolute() if text else context / "Dockerfile"
    try:
        mode = path.stat().st_mode
    except PermissionError as error:
        raise UsageError(
            f"cannot read {path}: permission denied", hint=f"check: ls -ld {file_word(path.parent)}"
        ) from error
    except OSError as error:
        raise _no_dockerfile(path, error, "" if text else "dockerfile") from error
    if not stat.S_ISREG(mode):
        from coordinator.regular_files import kind_of

        raise UsageError(f"the Dockerfile {path} is {kind_of(mode)}", hint="give a regular file with -f FILE")
    return path


def _no_dockerfile(path: Path, error: OSError, other: str) -> UsageError:
    """Return the error for a Dockerfile that does not exist. `other` is the name of a file that may be meant."""
    if path.is_symlink():
        leads = "in a circle" if error.errno == errno.ELOOP else f"to {path.readlink()}, which does not exist"
        return UsageError(
            f"the Dockerfile {path} is a symbolic link that leads {leads}", hint=f"check: ls -l {file_word(path)}"
        )
    lower = path.with_name(other) if other else None
    hint = f"-f {file_word(lower)}" if lower and lower.is_file() else "give it with -f FILE"
    return UsageError(f"there is no Dockerfile at {path}", hint=hint)


def _build_args(words: tuple[str, ...], environ: dict[str, str]) -> dict[str, str]:
    build_args: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key:
            raise UsageError(f"invalid --build-arg '{word}'", hint="write --build-arg NAME=VALUE")
        if equals:
            build_args[key] = value
        elif key in environ:
            build_args[key] = environ[key]
    if environ.get(_EPOCH) and _EPOCH not in build_args:
        # As docker buildx does, where the variable is set and not empty.
        build_args[_EPOCH] = environ[_EPOCH]
    is_given = any(word.startswith(f"{_EPOCH}=") for word in words)
    _check_epoch(build_args.get(_EPOCH, ""), "--build-arg" if is_given else "the environment")
    return build_args


def _check_epoch(text: str, origin: str) -> None:
    """Raise UsageError for a date that BuildKit does not read; an empty one is none to it."""
    # BuildKit parses a decimal 64-bit number; older ones only pass it to an ARG, and would take any text.
    if text and not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        now = "$(git log -1 --format=%ct)"
        hint = f"for example: --build-arg {_EPOCH}={now}"
        if origin != "--build-arg":
            hint = f"unset {_EPOCH}, or for example: export {_EPOCH}={now}"
        raise UsageError(f"{_EPOCH} is '{text}' in {origin}, expected whole seconds since 1970", hint=hint)


def _labels(words: tuple[str, ...]) -> dict[str, str]:
    for word in words:
        if not word.partition("=")[0]:
            raise UsageError(f"invalid --label '{word}'", hint="write --label NAME=VALUE")
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def _volatile(flags: Flags, environ: Mapping[str, str]) -> tuple[str, ...]:
    epoch = (_EPOCH,) if environ.get(_EPOCH) else ()
    given = tuple(dict.fromkeys(word.partition("=")[0] for word in (*flags.build_arg, *flags.label, *epoch)))
    for name in flags.volatile:
        if name not in given:
            message = f"--volatile '{name}' is neither a --build-arg nor a --label of this build"
            raise UsageError(message, hint=_meant(name, given))
    return tuple(dict.fromkeys(flags.volatile))


def _meant(name: str, given: tuple[str, ...]) -> str:
    from coordinator.domain.closest import closest

    if not given:
        return f"give its value too: --build-arg {name or 'NAME'}=…"
    close = closest(name.partition("=")[0], given)
    return f"did you mean {close}?" if close else f"use one of: {', '.join(given)}"
