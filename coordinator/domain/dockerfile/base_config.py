"""What the configuration of a base image adds to a Dockerfile: variables, and the instructions of its ONBUILD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from coordinator.domain.image.descriptors import malformed, platform_in, read_json
from coordinator.domain.image.platforms import Platform

# BuildKit `util/system/path.go`: set in every stage whose base has no PATH.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_UNKNOWN = Platform("unknown", "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseConfig:
    """One image's configuration, as far as a build reads it.

    `platform` is the image's own, which may differ from the one it was resolved for; `unknown/unknown` without one.
    `environment` are its variables; `triggers` are its ONBUILD instructions, in order, without the word ONBUILD.
    """

    platform: Platform
    environment: Mapping[str, str] = field(default_factory=dict)
    triggers: tuple[str, ...] = ()


def read_base_config(raw: bytes, what: str) -> BaseConfig:
    """Return what a build reads of an image's config. Raises RegistryError (`malformed`) naming `what`.

    Of two variables with one name the last counts, a variable without `=` is empty, and PATH is always set, as in
    BuildKit `frontend/dockerfile/dockerfile2llb/convert.go`. Member names match in any case, as in Go.
    """
    document = read_json(raw, what)
    inner = _member(document, "config", what)
    if inner is not None and not isinstance(inner, dict):
        raise malformed(what, "its config is not an object")
    texts = _strings(inner or {}, "Env", what)
    environment = {"PATH": DEFAULT_PATH}
    for text in texts:
        name, _, value = text.partition("=")
        environment[name] = value
    return BaseConfig(
        platform=platform_in(document) or _UNKNOWN,
        environment=environment,
        triggers=_strings(inner or {}, "OnBuild", what),
    )


def _strings(members: Mapping[str, Any], name: str, what: str) -> tuple[str, ...]:
    found = _member(members, name, what)
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise malformed(what, f"its {name} is not a list of strings")
    return tuple(found)


def _member(members: Mapping[str, Any], name: str, what: str) -> object:
    found = [value for key, value in members.items() if key.lower() == name.lower()]
    if len(found) > 1:
        raise malformed(what, f"it has {name} twice")
    return found[0] if found else None
