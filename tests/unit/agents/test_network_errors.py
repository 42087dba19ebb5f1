"""The last words of steps that the network failed for a moment, by program; and of others that only talk like that."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.engine.failed_step import failed_step
from agents.engine.network_errors import network_error
from tests.services.paths import CASES

SAID = 'process "/bin/sh -c x" did not complete successfully: exit code: 1'
TRANSIENT = {
    "apt update": """
        Err:1 http://deb.debian.org/debian bookworm InRelease
          Temporary failure resolving 'deb.debian.org'
        Reading package lists...
        W: Failed to fetch http://deb.debian.org/dists/bookworm/InRelease  Temporary failure resolving 'deb.debian.org'
        W: Some index files failed to download. They have been ignored, or old ones used instead.
        Reading package lists...
        Building dependency tree...
        E: Unable to locate package curl""",
    "apt mirror": """
        E: Failed to fetch http://deb.debian.org/pool/curl_7.88.1_amd64.deb  503  Service Unavailable [IP: ::1 80]
        E: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?""",
    "apk": """
        fetch https://dl-cdn.alpinelinux.org/alpine/v3.20/main/x86_64/APKINDEX.tar.gz
        WARNING: fetching https://dl-cdn.alpinelinux.org/alpine/v3.20/main: temporary error (try again later)
        ERROR: unable to select packages:
          curl (no such package):
            required by: world[curl]""",
    "pip": """
        WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None)) after connection broken \
by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object at 0x7f>: Failed to establish a new \
connection: [Errno -3] Temporary failure in name resolution')': /simple/requests/
        ERROR: Could not find a version that satisfies the requirement requests (from versions: none)
        ERROR: No matching distribution found for requests""",
    "npm": """
        npm error code EAI_AGAIN
        npm error syscall getaddrinfo
        npm error errno EAI_AGAIN
        npm error request to https://registry.npmjs.org/left-pad failed, reason: getaddrinfo EAI_AGAIN x
        npm error A complete log of this run can be found in: /root/.npm/_logs/x-debug-0.log""",
    "old npm": """
        npm ERR! code ETIMEDOUT
        npm ERR! network If you are behind a proxy, please make sure that the 'proxy' config is set properly.""",
    "curl into tar": """
        curl: (6) Could not resolve host: example.com
        gzip: stdin: unexpected end of file
        tar: Child returned status 1
        tar: Error is not recoverable: exiting now""",
    "curl, a bad gateway": "curl: (22) The requested URL returned error: 502",
    "wget": "wget: unable to resolve host address 'example.com'",
    "busybox wget": "wget: can't connect to remote host (192.0.2.1): Connection timed out",
    "git": """
        Cloning into 'x'...
        fatal: unable to access 'https://github.com/x/x/': Could not resolve host: github.com
        make: *** [Makefile:3: fetch] Error 128""",
    "git in the middle": """
        error: RPC failed; curl 56 GnuTLS recv error (-54): Error in the pull function.
        error: 4711 bytes of body are still expected
        fetch-pack: unexpected disconnect while reading sideband packet
        fatal: early EOF
        fatal: fetch-pack: invalid index-pack output""",
    "git over ssh": """
        ssh: Could not resolve hostname github.com: Temporary failure in name resolution
        fatal: Could not read from remote repository.

        Please make sure you have the correct access rights
        and the repository exists.""",
    "go": 'go: example.com/x@v1.0.0: Get "https://proxy.golang.org/x": dial tcp: lookup proxy.golang.org: i/o timeout',
    "go, TLS": 'go: example.com/x@v1.0.0: Get "https://proxy.golang.org/x": net/http: TLS handshake timeout',
    "cargo": """
        error: failed to download from `https://index.crates.io/config.json`

        Caused by:
          [6] Couldn't resolve host name (Could not resolve host: index.crates.io)""",
    "Python": "urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool(host='x', port=443): Read timed out.",
    "maven": """
        [ERROR] Failed to execute goal on project x: Could not resolve dependencies: Could not transfer artifact \
a:b:pom:1 from/to central: Connect timed out
        [ERROR] -> [Help 1]""",
}
LASTING = {
    "curl, not found": "curl: (22) The requested URL returned error: 404",
    "pip, no such package": """
        ERROR: Could not find a version that satisfies the requirement nonesuch (from versions: none)
        ERROR: No matching distribution found for nonesuch""",
    "apt, no such package": """
        Reading package lists...
        E: Unable to locate package nonesuch""",
    "tolerated, then a compiler": """
        curl: (6) Could not resolve host: example.com
        main.c:1:5: error: expected expression""",
    "a test that talks of it": """
        test_connection_timed_out: Connection timed out ... ok
        1 test failed""",
    "a test that fails of it": "AssertionError: 'Connection refused' != 'ok'",
    "the code itself": 'main.go:4: undefined: dialTimeout "i/o timeout"',
}


def step_of(text: str) -> str:
    lines = [line.removeprefix(" " * 8) for line in text.strip("\n").splitlines()]
    printed = "".join(f"#7 1.{number:03} {line}\n" for number, line in enumerate(lines))
    step = failed_step(f"#7 [2/2] RUN x\n{printed}#7 ERROR: {SAID}\n")
    assert step is not None
    return network_error(step)


RECORDED = sorted((CASES / "network").iterdir())


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_the_last_words_of_real_programs_are_judged(path: Path):
    """As `tests/recorders/network.py` recorded them. What is not there will not be there the next time."""
    assert bool(step_of(path.read_text("utf-8"))) is not path.stem.endswith("-answers-404")


@pytest.mark.parametrize("name", TRANSIENT)
def test_the_network_failed_the_step(name):
    """Its last words, and after them only what follows from it."""
    assert step_of(TRANSIENT[name])


@pytest.mark.parametrize("name", LASTING)
def test_the_step_failed_of_something_else(name):
    """What will be the same the next time, and what only talks of a network."""
    assert step_of(LASTING[name]) == ""


def test_only_the_step_that_failed_counts():
    """Another one may have had its trouble, and gone on."""
    other = "#6 [a 1/1] RUN y\n#6 0.1 curl: (6) Could not resolve host: example.com\n#6 DONE 0.2s\n"
    step = failed_step(f"{other}#7 [2/2] RUN x\n#7 0.1 no\n#7 ERROR: {SAID}\n")

    assert step is not None
    assert (step.title, step.error, step.exit_code, step.lines) == ("[2/2] RUN x", SAID, 1, ("no",))
    assert network_error(step) == ""
