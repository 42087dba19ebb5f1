"""The credentials that `docker login` and `podman login` left on this machine, by their own rules of precedence.

Sources: docker/cli `cli/config/configfile/file.go` and `cli/config/credentials`; containers-auth.json(5). In order:
`DOCKER_AUTH_CONFIG`, Docker's `config.json` (credHelpers, credsStore, auths), podman's `auth.json`. `~/.netrc` is
never read.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from coordinator.domain.image.references import HUB
from coordinator.domain.secrets import Credential, Secret
from coordinator.errors import UsageError

_HUB_KEY = "https://index.docker.io/v1/"
_HUB_HOSTS = (HUB, "index.docker.io", "registry-1.docker.io")
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_IDENTITY_TOKEN_USER = "<token>"  # noqa: S105 - the helpers' word for "the secret is an identity token"
_HELPER_SECONDS = 30.0


class DockerCredentials:
    """Looks credentials up, anew each time, in the files and helpers that `environ` and `home` lead to.

    A helper that does not answer within `helper_seconds` is ended.
    """

    def __init__(self, environ: Mapping[str, str], home: Path, *, helper_seconds: float = _HELPER_SECONDS) -> None:
        self._environ = environ
        self._home = home
        self._helper_seconds = helper_seconds

    def credentials(self, registry: str) -> Credential | None:
        """What is known for a registry, `None` for anonymous.

        Raises UsageError naming the file or the helper that cannot be used, and why.
        """
        for source, text in self._documents():
            document = _read(source, text)
            found = self._from_helper(document, source, registry) or _from_auths(document, source, registry)
            if found is not None:
                return found
        return None

    def _documents(self) -> Iterator[tuple[str, str]]:
        """(name, text) of every place there is, most important first."""
        given = self._environ.get("DOCKER_AUTH_CONFIG")
        if given:
            yield "DOCKER_AUTH_CONFIG", given
        for path in self._files():
            try:
                yield str(path), path.read_text(encoding="utf-8")
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                raise UsageError(f"cannot read credentials from {path}: {reason}", code="credentials") from error

    def _files(self) -> Iterator[Path]:
        yield Path(self._environ.get("DOCKER_CONFIG") or self._home / ".docker") / "config.json"
        if given := self._environ.get("REGISTRY_AUTH_FILE"):
            yield Path(given)
        if runtime := self._environ.get("XDG_RUNTIME_DIR"):
            yield Path(runtime) / "containers" / "auth.json"
        configuration = self._environ.get("XDG_CONFIG_HOME") or self._home / ".config"
        yield Path(configuration) / "containers" / "auth.json"

    def _from_helper(self, document: Mapping[str, Any], source: str, registry: str) -> Credential | None:
        helpers = document.get("credHelpers") or {}
        if not isinstance(helpers, dict):
            raise _malformed(source, "credHelpers is not an object")
        helper = next((helpers[key] for key in _keys(helpers, registry)), None) or document.get("credsStore")
        if not helper:
            return None
        if not isinstance(helper, str) or not _HELPER.match(helper):
            raise _malformed(source, f"{helper!r} is not the name of a credential helper")
        return self._ask_helper(helper, source, registry)

    def _ask_helper(self, helper: str, source: str, registry: str) -> Credential | None:
        from docker.credentials import Store
        from docker.credentials.errors import CredentialsNotFound, StoreError, process_store_error

        program = f"docker-credential-{helper}"
        found_at = shutil.which(program, path=self._environ.get("PATH"))
        if found_at is None:
            raise UsageError(
                f"the credential helper {program}, named in {source}, is not installed",
                hint=f"install it, or take it out of {source} and run `docker login {registry}` again",
                code="helper",
            )
        path, seconds = found_at, self._helper_seconds

        class PatientStore(Store):
            """The SDK's store waits for its helper for ever; a helper may wait for a desktop that is not there."""

            def _execute(self, subcmd: str, data_input: bytes | None) -> bytes:
                try:
                    return subprocess.run(
                        [path, subcmd],
                        input=data_input,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.DEVNULL,
                        check=True,
                        timeout=seconds,
                    ).stdout
                except subprocess.CalledProcessError as error:
                    raise process_store_error(error, program) from error

        try:
            found = PatientStore(helper).get(_HUB_KEY if registry == HUB else registry)  # type: ignore[no-untyped-call]
            username, secret = found["Username"], Secret(found["Secret"])
        except CredentialsNotFound:
            return None
        except subprocess.TimeoutExpired as error:
            raise UsageError(
                f"the credential helper {program} did not answer within {seconds:g} s", code="helper"
            ) from error
        except StoreError as error:
            raise UsageError(
                f"the credential helper {program} failed: {_first_line(str(error))}", code="helper"
            ) from error
        except (ValueError, KeyError, TypeError, OSError) as error:
            # The answer itself stays out of the message: there may be a password in it.
            raise UsageError(f"the credential helper {program} gave no readable answer", code="helper") from error
        if username == _IDENTITY_TOKEN_USER:
            return Credential(identity_token=secret)
        return Credential(username=username, password=secret)


def _read(source: str, text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else "nested too deep"
        raise _malformed(source, f"it is not JSON ({where})") from None
    if not isinstance(document, dict):
        raise _malformed(source, "it is not a JSON object")
    return document


def _from_auths(document: Mapping[str, Any], source: str, registry: str) -> Credential | None:
    auths = document.get("auths") or {}
    if not isinstance(auths, dict):
        raise _malformed(source, "auths is not an object")
    for key in _keys(auths, registry):
        entry = auths[key] or {}
        if not isinstance(entry, dict):
            raise _malformed(source, f"the entry of {key} is not an object")
        username, password = _pair(entry, source, key)
        token = entry.get("identitytoken") or ""
        # Docker leaves an empty entry where a helper has the secret.
        if token or username:
            return Credential(username=username, password=Secret(password), identity_token=Secret(str(token)))
    return None


def _pair(entry: Mapping[str, Any], source: str, key: str) -> tuple[str, str]:
    encoded = entry.get("auth")
    if not encoded:
        return str(entry.get("username") or ""), str(entry.get("password") or "")
    try:
        decoded = base64.b64decode(str(encoded), validate=True).decode()
    except (binascii.Error, ValueError):
        # Not chained: the cause holds the text, and the text a password.
        raise _malformed(source, f"auth of {key} is not base64 of user:password") from None
    username, colon, password = decoded.partition(":")
    if not colon or not username:
        raise _malformed(source, f"auth of {key} is not base64 of user:password")
    return username, password.rstrip("\0")


def _keys(entries: Mapping[str, Any], registry: str) -> Iterator[str]:
    """The keys that mean this registry: its own first, then the old spellings with a scheme or a path."""
    own = _HUB_KEY if registry == HUB else registry
    if own in entries:
        yield own
    hosts = _HUB_HOSTS if registry == HUB else (registry,)
    for key in entries:
        address = key.removeprefix("https://").removeprefix("http://")
        host, _, path = address.partition("/")
        # podman's keys may name a namespace; those are about less than the registry.
        about_all = path.strip("/") in {"", "v1", "v2"}
        if key != own and host in hosts and about_all:
            yield key


def _malformed(source: str, why: str) -> UsageError:
    return UsageError(f"cannot read credentials from {source}: {why}", code="credentials")


def _first_line(text: str) -> str:
    return "".join(letter for letter in text.strip().partition("\n")[0] if letter.isprintable())[:200]
