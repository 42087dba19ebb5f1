"""Registry credentials that `docker login` and `podman login` stored on the coordinator, in their order of precedence.

The rules are those of docker/cli `cli/config/configfile/file.go` and `cli/config/credentials`, and of
containers-auth.json(5). The order: `DOCKER_AUTH_CONFIG`, Docker's `config.json` (credHelpers, credsStore, auths),
podman's `auth.json`. `~/.netrc` is never read.
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
_IDENTITY_TOKEN_USER = "<token>"  # noqa: S105 - the user name with which helpers mark an identity token
_HELPER_TIMEOUT_S = 30.0


class DockerCredentials:
    """Reads credentials from the files and credential helpers that `environ` and `home` lead to, without a cache.

    A helper that does not answer within `helper_seconds` is killed.
    """

    def __init__(self, environ: Mapping[str, str], home: Path, *, helper_seconds: float = _HELPER_TIMEOUT_S) -> None:
        self._environ = environ
        self._home = home
        self._helper_seconds = helper_seconds

    def credentials(self, registry: str) -> Credential | None:
        """Return the credentials for a registry, `None` for anonymous access.

        Raises UsageError with the name of the file or helper that cannot be used, and why.
        """
        for source, text in self._documents():
            document = _read(source, text)
            credential = self._from_helper(document, source, registry) or _from_auths(document, source, registry)
            if credential is not None:
                return credential
        return None

    def _documents(self) -> Iterator[tuple[str, str]]:
        """Yield (name, text) of every existing source, in order of precedence."""
        inline = self._environ.get("DOCKER_AUTH_CONFIG")
        if inline:
            yield "DOCKER_AUTH_CONFIG", inline
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
        program = f"docker-credential-{helper}"
        executable = shutil.which(program, path=self._environ.get("PATH"))
        if executable is None:
            raise UsageError(
                f"the credential helper {program}, named in {source}, is not installed",
                hint=f"install it, or take it out of {source} and run `docker login {registry}` again",
                code="helper",
            )
        seconds = self._helper_seconds
        try:
            # With a timeout: a helper may wait forever for a desktop session that does not exist.
            done = subprocess.run(
                [executable, "get"],
                input=(_HUB_KEY if registry == HUB else registry).encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                check=True,
                timeout=seconds,
            )
            answer = json.loads(done.stdout)
            username, secret = answer["Username"], Secret(answer["Secret"])
        except subprocess.CalledProcessError as error:
            _check_no_entry(program, error)
            return None
        except subprocess.TimeoutExpired as error:
            raise UsageError(
                f"the credential helper {program} did not answer within {seconds:g} s", code="helper"
            ) from error
        except (ValueError, KeyError, TypeError, OSError) as error:
            # The message leaves out the answer: it may contain a password.
            raise UsageError(
                f"the credential helper {program} did not print valid JSON with Username and Secret", code="helper"
            ) from error
        # docker-credential-pass answers so for a registry that it does not know.
        if not username and not secret.reveal():
            return None
        if username == _IDENTITY_TOKEN_USER:
            return Credential(identity_token=secret)
        return Credential(username=username, password=secret)


def _check_no_entry(program: str, error: subprocess.CalledProcessError) -> None:
    """Raise UsageError `helper` where the helper failed for another reason than having no entry for the registry."""
    from docker.credentials.errors import CredentialsNotFound, process_store_error

    failure = process_store_error(error, program)
    if not isinstance(failure, CredentialsNotFound):
        message = f"the credential helper {program} failed: {_first_line(str(failure))}"
        raise UsageError(message, code="helper") from error


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
        # Docker writes an empty entry where a credential helper stores the secret.
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
        # Not chained: the original exception holds the text, which contains a password.
        raise _malformed(source, f"auth of {key} is not base64 of user:password") from None
    username, colon, password = decoded.partition(":")
    if not colon or not username:
        raise _malformed(source, f"auth of {key} is not base64 of user:password")
    return username, password.rstrip("\0")


def _keys(entries: Mapping[str, Any], registry: str) -> Iterator[str]:
    """Yield the keys of this registry: the exact key first, then old forms with a scheme or a path."""
    own = _HUB_KEY if registry == HUB else registry
    if own in entries:
        yield own
    hosts = _HUB_HOSTS if registry == HUB else (registry,)
    for key in entries:
        address = key.removeprefix("https://").removeprefix("http://")
        host, _, path = address.partition("/")
        # containers-auth.json(5): a key may name a namespace, and then is not for the whole registry.
        is_whole_registry = path.strip("/") in {"", "v1", "v2"}
        if key != own and host in hosts and is_whole_registry:
            yield key


def _malformed(source: str, why: str) -> UsageError:
    return UsageError(f"cannot read credentials from {source}: {why}", code="credentials")


def _first_line(text: str) -> str:
    return "".join(letter for letter in text.strip().partition("\n")[0] if letter.isprintable())[:200]
