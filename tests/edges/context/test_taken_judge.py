"""The real `docker build` says what a build takes of its context; what we hash and send has to be that.

For each Dockerfile of the corpus: what is taken builds to the same image as the whole context; nothing else in the
context changes a step; a change in what is taken does. Steps are compared by BuildKit's own cache, whose keys are of
contents. Each build has a folder name and a node id of its own, for BuildKit takes a folder of the same name and times
for the same content.

Where BuildKit is not minimal itself:
- The builder of Docker 20.10 has the mode of a copied folder in its cache key, though not in the image: in every third
  case these modes differ too, and the images alone are compared.
- It sees no change in what a pattern below a link matches, and does not build where a pattern matches a dangling link.
- It sends the target of a link that `.dockerignore` takes away.
- `Case.loose` has what is taken for several builders, or because a pattern is not clear.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
import secrets
import shutil
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from coordinator.context.tree import ContextManifest, scan
from coordinator.domain.dockerfile.base_config import BaseConfig
from coordinator.domain.dockerfile.context_sources import ContextUse, context_use
from coordinator.domain.dockerfile.dockerignore import compile_ignore
from coordinator.domain.dockerfile.stages import parse
from coordinator.domain.image.platforms import parse as platform_of
from coordinator.domain.inputs.build_id import ContextEntry, EntryKind
from coordinator.errors import UsageError
from tests.edges.context import taken_corpus
from tests.edges.context.build_judge import Client, buildx
from tests.edges.context.taken_corpus import CASES, ENVIRONMENT, TRIGGERS, Case
from tests.services.busybox import busybox
from tests.services.commands import run_limited

AMD64 = platform_of("linux/amd64")
_STEP = re.compile(r"^#(\d+) \[(?!internal\])[^\]]*\d+/\d+\] ((?:ONBUILD )?(?:COPY|ADD|RUN) .*)", re.MULTILINE)
_CACHED = re.compile(r"^#(\d+) CACHED", re.MULTILINE)
# One part is judged with every change.
PARTS = 32
# On a busy machine 20.10 now and then misses its own cache for a folder. What is wrong is wrong each time.
_TRIES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The builder, and the names of its images by the word that stands for them in the corpus."""

    client: Client
    images: dict[str, str]
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """The entries of the image, by path, without times; the steps that did not come from the cache; or the error."""

    entries: dict[str, tuple[object, ...]]
    fresh: tuple[str, ...]
    error: str = ""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, engine: Path) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("taken")
    token = secrets.token_hex(8)
    archive = folder / "base.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(busybox("linux/amd64"), "bin/busybox")
        for applet in ("sh", "ls", "cat", "true"):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    images = {"BASE": f"archloom-judge/base:{token}", "ONBUILD": f"archloom-judge/onbuild:{token}"}
    changes = {
        "BASE": [f"ENV {name}={value}" for name, value in ENVIRONMENT.items()],
        "ONBUILD": [f"ONBUILD {trigger}" for trigger in TRIGGERS],
    }
    for word, name in images.items():
        options = [option for change in changes[word] for option in ("--change", change)]
        _engine("import", *options, str(archive), name)
    try:
        yield Bench(client=buildx(folder), images=images, folder=folder)
    finally:
        _engine("rmi", *images.values())


@pytest.mark.engine
@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, PARTS))])
def test_buildkit_takes_what_we_take(bench: Bench, part: int):
    """A part of the corpus at a time."""
    cases = list(enumerate(CASES))[part::PARTS]
    with ThreadPoolExecutor(4) as pool:
        complaints = [found for found in pool.map(lambda numbered: judged(bench, *numbered), cases) if found]

    assert not complaints, "\n".join(complaints)


def judged(bench: Bench, number: int, case: Case) -> str:
    """Returns what is wrong with what we take for this case, empty where nothing is."""
    for _ in range(_TRIES):
        trial = Trial(bench, number, case)
        try:
            complaints = list(trial.complaints())
        finally:
            shutil.rmtree(trial.folder)
        if not complaints:
            return ""
    return "; ".join(complaints)


class Trial:
    """One case in a folder of its own."""

    def __init__(self, bench: Bench, number: int, case: Case) -> None:
        self.bench = bench
        self.case = case
        self._has_other_modes = number % 3 == 0
        self.token = f"{secrets.token_hex(8)}-{number}"
        self.folder = bench.folder / f"case-{self.token}"
        self._text = case.dockerfile
        for word, name in bench.images.items():
            self._text = self._text.replace(f"FROM {word}", f"FROM {name}")
        self._builds = 0

    def complaints(self) -> Iterator[str]:
        whole = self._planted("whole")
        try:
            manifest = self._scan(whole)
        except UsageError as error:
            if not self._build(whole).error:
                yield f"{self._name} builds, and we refuse it: {error.message}"
            return
        ours = self.folder / f"ours-{self.token}"
        copied(whole, ours, manifest.entries)
        if not self._has_other_modes:
            for entry in manifest.entries:
                shutil.copymode(whole / entry.path, ours / entry.path, follow_symlinks=False)
        built = self._build(ours)
        if self.case.fails is not None and bool(built.error) != self.case.fails:
            yield f"{self._name} from what is taken: {built.error[-300:] or 'it builds'}"
        elif built.error and not self._build(whole).error:
            yield f"{self._name} fails only from what is taken"
        elif not built.error:
            yield from self._compared(manifest, built)

    def _compared(self, manifest: ContextManifest, built: Built) -> Iterator[str]:
        outside = self._build(self._changed_outside(manifest))
        if outside.error or (outside.fresh and not self._has_other_modes):
            yield f"{self._name} takes more than we do: {outside.fresh or outside.error[-300:]}"
        if outside.entries != built.entries:
            yield f"{self._name} is another image: {set(outside.entries.items()) ^ set(built.entries.items())}"
        path = "" if self.case.loose else self._changed_inside(manifest)
        if path and not self._build(self.folder / f"inside-{self.token}").fresh:
            yield f"{self._name} does not take {path}"

    @property
    def _name(self) -> str:
        return f"{self.case.dockerfile!r} {self.case.ignore!r}"

    def _use(self) -> ContextUse:
        images = {self.bench.images["BASE"]: BaseConfig(platform=AMD64, environment=ENVIRONMENT)}
        images[self.bench.images["ONBUILD"]] = BaseConfig(platform=AMD64, triggers=TRIGGERS)
        return context_use(
            parse(self._text),
            stage=self.case.stage,
            platform=AMD64,
            build_platforms=(AMD64,),
            build_args=self.case.args,
            configs={(name, AMD64): config for name, config in images.items()},
        )

    def _planted(self, name: str) -> Path:
        root = self.folder / f"{name}-{self.token}"
        taken_corpus.plant(root, self.token)
        if self.case.ignore:
            (root / ".dockerignore").write_text(self.case.ignore)
        return root

    def _scan(self, root: Path) -> ContextManifest:
        return asyncio.run(scan(root, compile_ignore(self.case.ignore), self._use()))

    def _changed_outside(self, manifest: ContextManifest) -> Path:
        """Returns the same tree where everything is changed that is not in our digest."""
        root = self._planted("outside")
        before = untimed(manifest)
        taken = {entry.path for entry in manifest.entries} | {".dockerignore"}
        for path in sorted(root.rglob("*")):
            if path.relative_to(root).as_posix() in taken:
                continue
            target = path.readlink() if path.is_symlink() else None
            change(path, self.token)
            # A link that `.dockerignore` takes away is followed all the same: its target is taken, for nothing.
            if target is not None and untimed(self._scan(root)) != before:
                path.unlink()
                path.symlink_to(target)
        for folder in (root / name for name in taken_corpus.FOLDERS):
            mode = folder.stat().st_mode
            if self._has_other_modes or folder.relative_to(root).as_posix() not in taken:
                folder.chmod(mode ^ 0o020)
            if untimed(self._scan(root)) != before:
                folder.chmod(mode)
            added = folder / f"new-{self.token}"
            added.write_text(self.token)
            if untimed(self._scan(root)) != before:
                added.unlink()
        assert untimed(self._scan(root)) == before
        return root

    def _changed_inside(self, manifest: ContextManifest) -> str:
        """Makes the same tree where one file that we take is changed; returns its path, empty where there is none."""
        files = [
            entry.path for entry in manifest.entries if entry.kind is EntryKind.FILE and entry.path != ".dockerignore"
        ]
        if not files:
            return ""
        path = random.Random(self.case.dockerfile).choice(files)
        change(self._planted("inside") / path, self.token)
        return path

    def _build(self, context: Path) -> Built:
        self._builds += 1
        place = self.folder / f"build-{self._builds}"
        (place / "config" / "cli-plugins").mkdir(parents=True)
        plugin = Path(self.bench.client.environment["DOCKER_CONFIG"], "cli-plugins", "docker-buildx")
        (place / "config" / "cli-plugins" / "docker-buildx").symlink_to(plugin.readlink())
        (place / "Dockerfile").write_text(self._text)
        output = place / "out.tar"
        arguments = [f"--build-arg={name}={value}" for name, value in self.case.args.items()]
        arguments += [f"--target={self.case.stage}"] if self.case.stage else []
        done = run_limited(
            [
                *self.bench.client.command,
                "--progress=plain",
                f"--file={place / 'Dockerfile'}",
                f"--output=type=tar,dest={output}",
                *arguments,
                context,
            ],
            env={**os.environ, "DOCKER_CONFIG": str(place / "config")},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return read(done, output)


def read(done: CompletedProcess[str], output: Path) -> Built:
    if done.returncode:
        return Built(entries={}, fresh=(), error=done.stderr)
    cached = set(_CACHED.findall(done.stderr))
    fresh = tuple(step for number, step in dict(_STEP.findall(done.stderr)).items() if number not in cached)
    entries: dict[str, tuple[object, ...]] = {}
    with tarfile.open(output) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            digest = hashlib.sha256(content.read()).hexdigest() if content else ""
            entries[member.name] = (member.type, member.mode, member.uid, member.gid, member.linkname, digest)
    return Built(entries=entries, fresh=fresh)


def untimed(manifest: ContextManifest) -> list[ContextEntry]:
    """The entries without their times, which differ between two trees and are in no key of BuildKit's cache."""
    return [replace(entry, mtime_ns=0) for entry in manifest.entries]


def copied(root: Path, to: Path, entries: tuple[ContextEntry, ...]) -> None:
    """Makes a folder of these entries of the tree, as an engine gets them."""
    to.mkdir()
    for entry in entries:
        path = to / entry.path
        if entry.kind is EntryKind.DIRECTORY:
            path.mkdir()
        elif entry.kind is EntryKind.SYMLINK:
            path.symlink_to(entry.link)
        else:
            shutil.copy2(root / entry.path, path)
    for entry in reversed(entries):
        if entry.kind is EntryKind.DIRECTORY:
            (to / entry.path).chmod(entry.mode)


def change(path: Path, token: str) -> None:
    if path.is_symlink():
        target = path.readlink()
        path.unlink()
        path.symlink_to(f"{target}-{token}")
    elif path.is_file():
        path.write_text(f"changed {token} {path.name}")


def _engine(*arguments: str) -> None:
    run_limited(["docker", *arguments], check=True, capture_output=True, timeout=60)
