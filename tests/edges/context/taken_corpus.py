r"""Dockerfiles with a context, for which BuildKit says what a build takes: written by hand, and generated.

All share one tree of odd names, links and modes. `BASE` and `ONBUILD` stand for images of the bed, `HEAD` for
`FROM scratch`. What the project's engines cannot judge (`--parents`, heredocs, labs) is in unit tests.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

FOLDERS = {
    "": 0o755,
    "d": 0o750,
    "d/e": 0o711,
    "d/e/f": 0o755,
    "src": 0o755,
    "src/sub": 0o700,
    "empty": 0o705,
    "t": 0o755,
    "g": 0o755,
    "g/h": 0o755,
}
FILES = (
    "a", "b", "c.txt", "ab", "a.go", "Makefile", "Dockerfile", ".hidden", "with space", "[odd]", "star*", "!bang", "q?",
    "é", "x]y", "aab", "a-b", "d/a", "d/b", "d/c.txt", "d/.h", "d/e/a", "d/e/b.go", "d/e/f/a", "d/e/f/c.txt",
    "src/a.go", "src/b.go", "src/b.txt", "src/sub/a.go", "src/sub/deep.go", "t/a", "t/d", "linux", "amd64", "m-amd64",
)  # fmt: skip
LINKS = {
    "l-file": "a",
    "l-folder": "d",
    "l-chain": "l-folder/e",
    "l-absolute": "/d/c.txt",
    "l-outside": "../../../src",
    # Docker 20.10 fails where a pattern matches these, so they stand where few do.
    "g/h/l-gone": "nowhere/x",
    "g/h/l-self": "l-self",
    "d/l-up": "../c.txt",
    "d/l-folder": "../src/sub",
    "src/l-a": "a.go",
    "t/l-back": "../d/e",
    "l-walked": "l-chain/../b",
}
ENVIRONMENT = {"FROM_BASE": "d", "ARG_AND_ENV": "a"}
_UNSEEN = "Docker 20.10 does not see a change in what a pattern below a link matches"
_UNBUILT = "Docker 20.10 does not build a stage that only ONBUILD names"
TRIGGERS = ("COPY a /onbuild/", "ADD d/e*/*.go /onbuild/", "COPY --from=0 / /zero/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`fails` tells that no builder builds it, None that this is not known.

    `loose` is why more is taken than BuildKit reads, empty otherwise.
    """

    dockerfile: str
    ignore: str = ""
    args: Mapping[str, str] = field(default_factory=dict)
    stage: str = ""
    fails: bool | None = False
    loose: str = ""


def plant(root: Path, token: str) -> None:
    """Makes the tree in a new folder. `token` is in every file, so that no earlier build has the same content."""
    root.mkdir(parents=True)
    for path in FOLDERS:
        (root / path).mkdir(exist_ok=True)
    for path in FILES:
        (root / path).write_text(f"{token} {path}\n")
        (root / path).chmod(0o600 if path.endswith("b") else 0o644)
    for path, target in LINKS.items():
        (root / path).symlink_to(target)
    for path, mode in FOLDERS.items():
        (root / path).chmod(mode)


def _head(*texts: str, **more: str | bool) -> Iterator[Case]:
    for text in texts:
        yield Case(dockerfile=f"FROM scratch\n{text}\n", **more)  # type: ignore[arg-type]


def _written() -> Iterator[Case]:
    yield from _head(
        "COPY a /",
        "COPY a b c.txt /x/",
        "COPY ./a //b d/../ab /x/",
        "COPY ../../a /x/",
        "COPY . /",
        "COPY / /x/",
        "COPY ./ a /x/",
        "COPY d/.. /x",
        "ADD . /x",
        "COPY d /x",
        "COPY d/ /x/",
        "COPY d/e src /x/",
        "COPY empty g /x",
        "COPY d/e/f/a /x/y",
        "COPY .hidden Makefile Dockerfile /x/",
        'COPY ["with space", "[[]odd]", "/x/"]',
        'COPY ["with space", "é", "/x/"]',
        "COPY x]y a-b /x/",
        "COPY * /x/",
        "COPY ./* /x/",
        "COPY *.go /x/",
        "COPY *.nothing a /x/",
        "COPY nothing* /x/",
        "COPY a* /x/",
        "COPY a? /x/",
        "COPY ?? /x/",
        "COPY [ab] /x/",
        "COPY [a-c]* /x/",
        "COPY [!a] /x/",
        "COPY d/* /x/",
        "COPY d/*/a /x/",
        "COPY */a /x/",
        "COPY */*/a /x/",
        "COPY */e/* /x/",
        "COPY ** /x/",
        "COPY **/a /x/",
        "COPY src/*.go src/sub/*.go /x/",
        "COPY src/?.go /x/",
        "COPY star\\\\** /x/",
        "COPY d*/b /x/",
        "COPY .* /x/",
        "COPY d/.* /x/",
        "ADD a d/c.txt /x/",
        "ADD src/*.go /x/",
        "COPY --chown=1:2 d /x",
        "COPY --chown=1:2 a* /x/",
        "ADD --chown=5 src /x",
        "ENV A=a\nCOPY $A /x/",
        "ARG A=d\nCOPY ${A}/a /x/",
        "ARG A\nCOPY ${A:-src}/*.go /x/",
        "ARG A=d/../b\nCOPY $A /x/",
        "ARG A=*\nCOPY $A.go /x/",
        "ENV A=a B=b\nCOPY $A$B ${A}.go /x/",
        "ENV A=d\nENV A=src\nCOPY $A /x",
        "ARG A=d\nENV A=src\nCOPY $A /x",
        "ARG TARGETARCH\nARG TARGETOS\nCOPY $TARGETARCH $TARGETOS m-$TARGETARCH /x/",
        "COPY m-* /x/",
        "WORKDIR /w\nCOPY a .",
        "COPY a /\nCOPY b /\nCOPY d /d",
        "ENV X=a\nCOPY \\\n  $X \\\n# comment\n  b /x/",
    )
    # Links: every component is followed, from the root of the context; links below a folder are copied as they are.
    yield from _head(
        "COPY l-file /x/",
        "COPY l-folder /x",
        "COPY l-folder/e /x",
        "COPY l-folder/c.txt /x/",
        "COPY l-chain /x",
        "COPY l-chain/f/a /x/",
        "COPY l-absolute /x/",
        "COPY l-outside /x",
        "COPY l-outside/a.go /x/",
        "COPY d/l-up /x/",
        "COPY d/l-folder/a.go /x/",
        "COPY src/l-a /x/",
        "COPY t /x",
        "COPY t/l-back/f /x",
        "COPY l-* /x/",
        "COPY l-f* /x/",
        "COPY d/l-* /x/",
        "COPY */l-* /x/",
        "COPY l-folder/../a /x/",
        "ADD l-file l-folder/a /x/",
    )
    yield from _head("COPY l-folder/* /x/", "COPY l-chain/*.go /x/", "COPY l-folder/l-folder/*.go /x/", loose=_UNSEEN)
    yield from _head(
        "COPY none /x/",
        "COPY d/none /x/",
        "COPY a none /x/",
        "ADD none /x/",
        "COPY a/b /x/",
        "COPY g/h/l-gone /x/",
        "COPY g/h/l-self /x/",
        "COPY star\\\\* /x/",
        "COPY l-folder/none /x/",
        "COPY !bang /x/",
        "ARG A=none\nCOPY $A /x/",
        "COPY with\\ space* /x/",
        "ARG A=x\nCOPY $A /x/",
        "COPY [ /x/",
        "COPY []a] /x/",
        fails=True,
    )
    # One instruction of several may take what another also names, or an empty variable.
    yield from _head("COPY $NONE/a /x/", "ARG A=\nCOPY ${A}a /x/", "COPY a${NONE} /x/")
    yield from _head("ARG A=a\nARG A=b\nCOPY $A /x/", "ENV A=a\nARG A=b\nCOPY $A /x/", loose="two readings")
    yield from _head(
        "COPY d/e[^z]* /x/", "COPY d/[a-z]*[^z]a /x/", "COPY src/[^a].go /x/", loose="a class may match a slash"
    )
    yield from _head("ARG A\nCOPY $A* /x/")
    yield from _staged()
    yield from _on_bases()
    yield from _ignoring()


def _staged() -> Iterator[Case]:
    stages = (
        "FROM scratch AS one\nCOPY a /\nFROM scratch AS two\nCOPY b /\nFROM one AS three\nCOPY c.txt /\n"
        "FROM scratch AS four\nCOPY --from=TWO / /\nCOPY --from=0 /a /z/\nFROM scratch AS five\nCOPY d /\n"
    )
    for stage in ("one", "two", "three", "four", "FIVE", ""):
        yield Case(dockerfile=stages, stage=stage)
    yield Case(dockerfile="ARG G=src\nFROM scratch AS x\nENV E=d\nFROM x\nARG G\nCOPY $G/*.go $E/e/a /y/\n")
    yield Case(dockerfile="ARG G=scratch\nFROM $G\nCOPY $G* a /y/\n")
    yield Case(dockerfile="FROM scratch\nARG A=d\nCOPY $A /x\n", args={"A": "src"})
    yield Case(dockerfile="FROM scratch\nARG A\nCOPY $A /x/\n", args={"A": "a*"})
    yield Case(dockerfile="FROM scratch\nARG A\nCOPY $A /x\n", args={"A": "."})
    yield Case(dockerfile="FROM scratch AS x\nONBUILD COPY a /x/\nONBUILD COPY d/*.txt /x/\nFROM x\nCOPY b /\n")
    yield Case(dockerfile="FROM scratch AS x\nONBUILD COPY . /x/\nCOPY a /\nFROM scratch\nCOPY --from=x / /\n")
    yield Case(dockerfile="# escape=`\nFROM scratch\nCOPY a `\n b /x/\n")
    yield Case(dockerfile="# check=skip=all\nFROM scratch\nCOPY a /x/\n")


def _on_bases() -> Iterator[Case]:
    for mount in (
        "source=a,target=/m", "type=bind,src=d/e,dst=/m", "TYPE=BIND,SOURCE=/src,target=/m", "source=d/../b,target=/m",
        "src=a,source=b,target=/m", "source=l-folder,target=/m", "source=l-chain/f,target=/m", "target=/m",
        "source=.,target=/m", "source=d,target=/m,rw", "type=cache,target=/m", "type=tmpfs,target=/m",
        "source=empty,target=/m",
    ):  # fmt: skip
        yield Case(dockerfile=f"FROM BASE\nRUN --mount={mount} ls /m >/o\n")
    yield Case(dockerfile="FROM BASE\nRUN --mount='type=bind,\"source=with space\",target=/m' cat /m >/o\n")
    yield Case(dockerfile="FROM BASE\nRUN --mount=source=a,target=/m --mount=src=d/e,target=/n cat /m /n/a >/o\n")
    yield Case(dockerfile="FROM BASE AS x\nCOPY a /\nFROM BASE\nRUN --mount=from=x,target=/m cat /m/a >/o\n")
    yield Case(dockerfile="FROM BASE\nRUN --mount=source=none,target=/m true\n", fails=True)
    yield Case(dockerfile="FROM BASE\nCOPY a /\nRUN cat /a >/o\nCOPY src/*.go /x/\n")
    yield Case(dockerfile="FROM BASE\nCOPY $FROM_BASE/*.txt /x/\n")
    yield Case(dockerfile="FROM BASE AS x\nFROM x\nCOPY ${FROM_BASE}/e/a /x/\n")
    yield Case(dockerfile="FROM BASE\nARG ARG_AND_ENV=b\nCOPY $ARG_AND_ENV /x/\n", loose="two readings")
    yield Case(dockerfile="FROM BASE AS x\nCOPY t /\nFROM ONBUILD\nCOPY b /\n", loose=_UNBUILT)
    yield Case(
        dockerfile="FROM scratch AS x\nCOPY src /\nFROM ONBUILD AS y\nFROM scratch\nCOPY --from=y / /\n", loose=_UNBUILT
    )
    yield Case(dockerfile="FROM BASE AS x\nCOPY t /\nFROM ONBUILD\nCOPY --from=x / /\n")
    yield Case(dockerfile="FROM ONBUILD\nCOPY b /\n")


def _ignoring() -> Iterator[Case]:
    for ignore, *texts in (
        ("d", "COPY a /x/", "COPY [a-e]* /x/", "COPY . /x/"),
        ("d/e", "COPY d /x", "COPY l-folder /x", "COPY d/* /x/", "COPY */e* a /x/"),
        ("*\n!a\n!src", "COPY . /x/", "COPY src /x", "COPY a* /x/", "COPY src/*.go /x/"),
        ("**/*.go", "COPY src /x", "COPY src/*.txt /x/", "COPY . /x/"),
        ("*\n!**/a", "COPY d /x", "COPY . /x/", "COPY */a /x/"),
        ("src\n!src/sub", "COPY src /x", "COPY src/* /x/"),
        (".dockerignore\nDockerfile", "COPY . /x/", "COPY D* a /x/"),
        ("a", "COPY ab /x/", "COPY l-folder/a /x/"),
    ):
        for text in texts:
            yield Case(dockerfile=f"FROM scratch\n{text}\n", ignore=ignore)
    for ignore, text in (("a", "COPY a /x/"), ("d", "COPY d/a /x/"), ("a", "COPY l-file /x/"), ("*", "COPY a /x/")):
        yield Case(dockerfile=f"FROM scratch\n{text}\n", ignore=ignore, fails=True)


def _generated(count: int) -> Iterator[Case]:
    """Sources made of names of the tree, each component whole, as a pattern, or through a link."""
    chance = random.Random(20)
    names = sorted({part for path in (*FILES, *LINKS, *FOLDERS) for part in path.split("/") if part.isalnum()})
    wild = ("*", "?", "*.go", "[a-d]", "[!b]*", "a*", "*b", "l-*", "?*?", "*.*")
    starts = ("", "", "./", "/", "d/", "l-folder/", "src/", "d/e/", "t/l-back/", "l-outside/", "d/../")
    for _ in range(count):
        sources: list[str] = []
        for _ in range(chance.randint(1, 3)):
            parts = [chance.choice(wild if chance.random() < 0.6 else names) for _ in range(chance.randint(1, 2))]
            if not any(part in wild for part in parts):
                parts.append(chance.choice(wild))
            sources.append(chance.choice(starts) + "/".join(parts))
        keyword = chance.choice(("COPY", "COPY", "ADD"))
        ignore = chance.choice(("", "", "", "d/e", "*.txt", "**/a", "*\n!d\n!*.go"))
        loose = _UNSEEN if any("l-" in source for source in sources) else ""
        yield Case(
            dockerfile=f"FROM scratch\n{keyword} {' '.join(sources)} a* /x/\n", ignore=ignore, loose=loose, fails=None
        )


CASES = (*_written(), *_generated(60))
