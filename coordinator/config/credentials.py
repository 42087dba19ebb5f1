"""Registry credentials that `docker login` and `podman login` stored on the coordinator, in their order of precedence.

The rules are those of docker/cli `cli/config/configfile/file.go` and `cli/config/credentials`, and of
containers-auth.json(5). The order: `DOCKER_AUTH_CONFIG`, Docker's `config.json` (credHelpers, credsStore, auths),
podman's `auth.json`. `~/.netrc` is never read.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from coordinator import deadlines
from coordinator.domain.image.references import HUB
from coordinator.domain.secrets import Credential, Secret
from coordinator.errors import UsageError
from coordinator.regular_files import read_file

_HUB_KEY = "https://index.docker.io/v1/"
_HUB_HOSTS = (HUB, "index.docker.io", "registry-1.docker.io")
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_IDENTITY_TOKEN_USER = "<token>"  # noqa: S105 - the user name with which helpers mark an identity token


class DockerCredentials:
    """Reads credentials from the files and credential helpers that `environ` and `home` lead to, without a cache.

    A helper that does not answer within `helper_seconds` is killed.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        home: Path,
        *,
        helper_seconds: float = deadlines.CREDENTIAL_HELPER,
        runtime: Path = Path("/run/containers"),
    ) -> None:
        self._environ = environ
        self._home = home
        self._helper_seconds = helper_seconds
        self._runtime = runtime
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_ended = False

    def end_helpers(self) -> None:
        """Kill the helpers that still run, now and later: whoever waits for one gets an error."""
        self._is_ended = True
        for process in list(self._running):
            process.kill()

    def credentials(self, registry: str, repository: str = "") -> Credential | None:
        """Return the credentials for a repository of a registry, `None` for anonymous access.

        Raises UsageError with the name of the file or helper that cannot be used, and why.
        """
        for source, text in self._documents():
            document = _read(source, text)
            credential = self._from_helper(document, source, registry)
            credential = credential or _from_auths(document, source, registry, repository)
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
                yield str(path), read_file(path).decode("utf-8")
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
        else:
            # The default place of podman, see containers-auth.json(5).
            yield self._runtime / str(os.getuid()) / "auth.json"
        configuration = self._environ.get("XDG_CONFIG_HOME") or self._home / ".config"
        yield Path(configuration) / "containers" / "auth.json"

    def _from_helper(self, document: Mapping[str, Any], source: str, registry: str) -> Credential | None:
        helpers = document.get("credHelpers") or {}
        if not isinstance(helpers, dict):
            raise _malformed(source, "credHelpers is not an object")
        # An empty name means the file itself, also beside credsStore (docker/cli, `getConfiguredCredentialStore`).
        helper = next((helpers[key] for key in _keys(helpers, registry)), document.get("credsStore"))
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
            answer = json.loads(self._output(executable, _HUB_KEY if registry == HUB else registry))
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

    def _output(self, executable: str, name: str) -> bytes:
        """Return what the helper prints for this name, at most what a pipe holds.

        Raises CalledProcessError and TimeoutExpired. A program that the helper started and left does not delay it.
        """
        with subprocess.Popen(
            [executable, "get"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        ) as process:
            if process.stdin is None or process.stdout is None:
                raise RuntimeError("the helper has no pipes")
            self._running.add(process)
            if self._is_ended:
                process.kill()
            try:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(name.encode())
                process.stdin.close()
                status = process.wait(self._helper_seconds)
                os.set_blocking(process.stdout.fileno(), False)
                output = process.stdout.read() or b""
            except BaseException:
                process.kill()
                raise
            finally:
                self._running.discard(process)
        if status:
            raise subprocess.CalledProcessError(status, executable, output)
        return output


def _check_no_entry(program: str, error: subprocess.CalledProcessError) -> None:
    """Raise UsageError `helper` where the helper failed for another reason than having no entry for the registry."""
    from docker.credentials.errors import CredentialsNotFound, process_store_error

    failure = process_store_error(error, program)
    if not isinstance(failure, CredentialsNotFound):
        message = f"the credential helper {program} failed: {_first_line(str(failure))}"
        raise UsageError(message, code="helper") from error


def _read(source: str, text: str) -> dict[str, Any]:
    if not text.strip():
        # As docker and podman read an empty file.
        return {}
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else "nested too deep"
        raise _malformed(source, f"it is not JSON ({where})") from None
    if not isinstance(document, dict):
        raise _malformed(source, "it is not a JSON object")
    return document


def _from_auths(document: Mapping[str, Any], source: str, registry: str, repository: str) -> Credential | None:
    auths = document.get("auths") or {}
    if not isinstance(auths, dict):
        raise _malformed(source, "auths is not an object")
    for key in (*_namespaces(auths, registry, repository), *_keys(auths, registry)):
        entry = auths[key] or {}
        if not isinstance(entry, dict):
            raise _malformed(source, f"the entry of {key} is not an object")
        username, password = _pair(entry, source, key)
        identity, access = (str(entry.get(name) or "") for name in ("identitytoken", "registrytoken"))
        # Docker writes an empty entry where a credential helper stores the secret.
        if identity or access or username:
            return Credential(
                username=username,
                password=Secret(password),
                identity_token=Secret(identity),
                registry_token=Secret(access),
            )
    return None


def _pair(entry: Mapping[str, Any], source: str, key: str) -> tuple[str, str]:
    encoded = entry.get("auth")
    if not encoded:
        return str(entry.get("username") or ""), str(entry.get("password") or "")
    try:
        # Go's decoder ignores line breaks.
        plain = str(encoded).replace("\n", "").replace("\r", "")
        decoded = base64.b64decode(plain, validate=True).decode()
    except (binascii.Error, ValueError):
        # Not chained: the original exception holds the text, which contains a password.
        raise _malformed(source, f"auth of {key} is not base64 of user:password") from None
    username, colon, password = decoded.partition(":")
    if not colon or not username:
        raise _malformed(source, f"auth of {key} is not base64 of user:password")
    return username, password.rstrip("\0")


def _namespaces(entries: Mapping[str, Any], registry: str, repository: str) -> Iterator[str]:
    """Yield the keys of the repository and its namespaces, the longest first (containers-auth.json(5))."""
    parts = repository.split("/") if repository else []
    for length in range(len(parts), 0, -1):
        key = "/".join((registry, *parts[:length]))
        if key in entries:
            yield key


def _keys(entries: Mapping[str, Any], registry: str) -> Iterator[str]:
    """Yield the keys of this registry: the exact key first, then old forms with a scheme or a path."""
    own = _HUB_KEY if registry == HUB else registry
    if own in entries:
        yield own
    hosts = _HUB_HOSTS if registry == HUB else (registry,)
    for key in entries:
        address = key.removeprefix("https://").removeprefix("http://")
        host, _, path = address.partition("/")
        # containers-auth.json(5): a key may name a namespace, and then is not for the whole registry. One with a scheme
        # is a URL, of which docker and podman read the host only.
        is_whole_registry = address != key or path.strip("/") in {"", "v1", "v2"}
        if key != own and host in hosts and is_whole_registry:
            yield key


def _malformed(source: str, why: str) -> UsageError:
    return UsageError(f"cannot read credentials from {source}: {why}", code="credentials")


def _first_line(text: str) -> str:
    return "".join(letter for letter in text.strip().partition("\n")[0] if letter.isprintable())[:200]
