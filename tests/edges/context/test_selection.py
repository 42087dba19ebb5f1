"""What a scan takes of real trees, held against a slow oracle that resolves every path there can be."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.context.tree import ContextManifest, scan
from coordinator.domain.dockerfile.context_sources import ContextSource, ContextUse, Wildcard
from coordinator.domain.dockerfile.dockerignore import Matcher, compile_ignore, compile_include
from coordinator.domain.dockerfile.path_match import matches

ALL = compile_ignore("")


def source(path: str, wildcard: Wildcard | None = None, **fields: object) -> ContextSource:
    """A source as COPY without options has it, on line 3."""
    values = {"own_mode": False, "parents": False, "required": False, "line": 3, "text": path, **fields}
    return ContextSource(path=path, wildcard=wildcard, **values)


def use(*sources: ContextSource | str) -> ContextUse:
    return ContextUse(sources=tuple(source(one) if isinstance(one, str) else one for one in sources))


def plant(root: Path, *paths: str) -> None:
    """Make files, folders (`a/`) and links (`a -> b`), with what leads to them."""
    for text in paths:
        name, _, target = text.partition(" -> ")
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if target:
            path.symlink_to(target)
        elif name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.write_text(name)


def paths(manifest: ContextManifest) -> list[str]:
    return [entry.path for entry in manifest.entries]


async def taken(root: Path, *sources: ContextSource | str, ignore: str = "") -> list[str]:
    return paths(await scan(root, compile_ignore(ignore), use(*sources)))


async def test_only_sources_are_taken(tmp_path: Path):
    """A file, and a folder with all that is in it; not what lies beside them."""
    plant(tmp_path, "a/x", "a/deep/y", "a/empty/", "b", "c/one", "c/two", ".git/objects/0")

    assert await taken(tmp_path, "a", "c/one") == ["a", "a/deep", "a/deep/y", "a/empty", "a/x", "c", "c/one"]
    assert await taken(tmp_path) == []
    assert await taken(tmp_path, "missing", "b/c", "a/x/y", "\0", "l" * 300) == []


@pytest.mark.parametrize(
    ("path", "wildcard", "links"),
    [
        *(("sub/link", None, (f"sub/link -> {target}",)) for target in ("..", "/", "../../..", "../sub/..")),
        ("d/x", None, ("d/x -> y/..", "d/y -> ../top", "top/")),
        ("sub/link/*.json", Wildcard.GO, ("sub/link -> ..",)),
        ("sub/link/[^a]*", Wildcard.GO, ("sub/link -> ..",)),
        ("sub/*", Wildcard.GO, ("sub/link -> ..",)),
    ],
)
async def test_links_to_the_root(tmp_path: Path, path: str, wildcard: Wildcard | None, links: tuple[str, ...]):
    """A file that is added at the root would be in the image."""
    plant(tmp_path, "a", *links)

    assert (await scan(tmp_path, ALL, use(source(path, wildcard)))).links_to_root


@pytest.mark.parametrize("path", ["sub", "sub/other", "*"])
async def test_other_links(tmp_path: Path, path: str):
    """A link that is copied as a link, one that leads elsewhere, and the root without a link."""
    plant(tmp_path, "a", "sub/link -> ..", "sub/other -> ../a")

    assert not (await scan(tmp_path, ALL, use(source(path, Wildcard.GO if path == "*" else None)))).links_to_root


async def test_what_no_source_reaches_is_not_even_listed(tmp_path: Path):
    """Times of access tell: nothing has read the folder or the file."""
    plant(tmp_path, "src/main.c", "big/image", "src2/x")
    for path in (tmp_path, tmp_path / "big", tmp_path / "src2"):
        os.utime(path, ns=(1_000_000_000, 2_000_000_000_000_000_000))
    before = [path.stat().st_atime_ns for path in (tmp_path, tmp_path / "big", tmp_path / "big/image")]
    list(os.scandir(tmp_path / "src2"))
    if (tmp_path / "src2").stat().st_atime_ns == 1_000_000_000:
        pytest.skip("this file system does not count times of access")

    await taken(tmp_path, "src")

    assert before == [path.stat().st_atime_ns for path in (tmp_path, tmp_path / "big", tmp_path / "big/image")]


async def test_modes_and_times_of_folders_that_do_not_count(tmp_path: Path):
    """A chmod of a copied folder or of one above it, or a new file beside it, changes nothing."""
    plant(tmp_path, "a/b/c/d/file")

    async def entries(**fields: bool) -> list[tuple[str, int, bool]]:
        manifest = await scan(tmp_path, ALL, use(source("a/b/c", **fields)))
        return [(entry.path, entry.mode, entry.mtime_ns == 0) for entry in manifest.entries[:4]]

    for path in ("a", "a/b", "a/b/c", "a/b/c/d"):
        (tmp_path / path).chmod(0o711)
    assert await entries() == [
        ("a", 0o755, True),
        ("a/b", 0o755, True),
        ("a/b/c", 0o755, True),
        ("a/b/c/d", 0o711, False),
    ]
    assert await entries(own_mode=True) == [
        ("a", 0o755, True),
        ("a/b", 0o755, True),
        ("a/b/c", 0o711, False),
        ("a/b/c/d", 0o711, False),
    ]
    assert await entries(parents=True) == [
        ("a", 0o711, False),
        ("a/b", 0o711, False),
        ("a/b/c", 0o755, True),
        ("a/b/c/d", 0o711, False),
    ]


async def test_a_mode_counts_where_any_source_makes_it_count(tmp_path: Path):
    """The folder is inside another copied folder."""
    plant(tmp_path, "a/b/c")
    (tmp_path / "a/b").chmod(0o700)

    manifest = await scan(tmp_path, ALL, use("a/b", "a"))

    assert [entry.mode for entry in manifest.entries[:2]] == [0o755, 0o700]


async def test_links_are_followed_in_sources_and_not_below(tmp_path: Path):
    """Link and target; through every component; clamped to the root; in both readings of `..`."""
    plant(
        tmp_path,
        *("real/x", "real/sub/y", "link -> real", "abs -> /real/sub", "out -> ../../../real/x", "chain -> link/sub"),
        *("dir/inner -> ../real", "dir/file", "loop -> loop", "dangling -> nowhere", "far/l -> /link/../far/t"),
        *("far/t", "sub -> real/sub", "cleaned -> sub/../far/t", "walked -> sub/../x"),
    )

    assert await taken(tmp_path, "link/x") == ["link", "real", "real/x"]
    assert await taken(tmp_path, "abs") == ["abs", "real", "real/sub", "real/sub/y"]
    assert await taken(tmp_path, "out") == ["out", "real", "real/x"]
    assert await taken(tmp_path, "chain/y") == ["chain", "link", "real", "real/sub", "real/sub/y"]
    assert await taken(tmp_path, "dir") == ["dir", "dir/file", "dir/inner"]
    assert await taken(tmp_path, "loop", "dangling") == ["dangling", "loop"]
    assert await taken(tmp_path, "link/x", "link/sub") == ["link", "real", "real/sub", "real/sub/y", "real/x"]
    # One reading of the target exists.
    assert await taken(tmp_path, "cleaned") == ["cleaned", "far", "far/t", "sub"]
    assert await taken(tmp_path, "walked") == ["real", "real/x", "sub", "walked"]
    assert await taken(tmp_path, "far/l") == ["far", "far/l", "far/t", "link"]


async def test_a_link_to_the_root_takes_everything(tmp_path: Path):
    """There is no part of the context that it does not lead to."""
    plant(tmp_path, "a", "b/c", "up -> b/..")

    assert await taken(tmp_path, "up") == ["a", "b", "b/c", "up"]


async def test_wildcards_of_go(tmp_path: Path):
    """Component by component, hidden names too, with all that is below a match; links are followed in each of them."""
    plant(tmp_path, "a1/x.c", "a1/y.h", "a2/x.c", "b/x.c", ".hid", "[z]", "k -> a1", "t/deep/x.c")

    go = Wildcard.GO
    assert await taken(tmp_path, source("a*/*.c", go)) == ["a1", "a1/x.c", "a2", "a2/x.c"]
    one_letter = ["a1", "a1/x.c", "a1/y.h", "b", "b/x.c", "k", "t", "t/deep", "t/deep/x.c"]
    assert await taken(tmp_path, source("?", go)) == one_letter
    assert await taken(tmp_path, source("k*/x.c", go)) == ["a1", "a1/x.c", "k"]
    assert ".hid" in await taken(tmp_path, source("*", go))
    assert await taken(tmp_path, source("[[]z]", go)) == ["[z]"]
    # A class that matches `/` as filepath.Match has it: `t/deep` for `t[^.]*`.
    assert await taken(tmp_path, source("t[^.]*", go)) == ["t", "t/deep", "t/deep/x.c"]
    # What Go rejects is not understood: everything below the longest literal prefix.
    assert await taken(tmp_path, source("t/[", go)) == ["t", "t/deep", "t/deep/x.c"]
    assert len(await taken(tmp_path, source("[", go))) == 13


async def test_wildcards_of_parents(tmp_path: Path):
    """As in an ignore file: `**` is any number of folders, and a match takes what is below it."""
    plant(tmp_path, "s/a/x.c", "s/x.c", "s/b/gen/x.h", "o/x.c", "s/l -> ../o", "s/!x", "node/x.c")

    include = Wildcard.INCLUDE
    # BuildKit's transfer follows links with `**` as `*`.
    followed = ["o", "o/x.c", "s", "s/a", "s/a/x.c", "s/l", "s/x.c"]
    assert await taken(tmp_path, source("s/**/*.c", include)) == followed
    assert "o/x.c" not in await taken(tmp_path, source("s/**/*.h", include))
    assert {"s/b/gen/x.h", "s/b"} <= set(await taken(tmp_path, source("**/gen", include)))
    assert "s/!x" in await taken(tmp_path, source("s/!*", include))
    assert "node/x.c" not in await taken(tmp_path, source("**/*.c", include), ignore="node")


async def test_ignored_after_links_are_followed(tmp_path: Path):
    """A rule removes what a source names, also what a link leads to; an exception brings it back with its folders."""
    plant(tmp_path, "real/x", "real/y", "link -> real", "d/e/f", "d/e/g", "d/h")

    assert await taken(tmp_path, "link", ignore="real/x") == ["link", "real", "real/y"]
    assert await taken(tmp_path, "link", ignore="link") == ["real", "real/x", "real/y"]
    assert await taken(tmp_path, "d/e", ignore="d") == []
    assert await taken(tmp_path, "d/e", ignore="d\n!d/e/f") == ["d", "d/e", "d/e/f"]
    assert await taken(tmp_path, "d", ignore="*\n!**/h") == ["d", "d/h"]


NAMES = ("a", "b", ".h", "ab")
TARGETS = ("a", "b", "ab", "../a", "/b", "/", ".", "a/b", "b/../a", "../../ab/..", "/a/../b", ".h/ab", "nowhere")
PATTERNS = ("*", "a*", "?", "[ab]", ".*", "[^a]", "a", "b", ".h", "ab", "**")


@dataclass(frozen=True)
class Case:
    """A tree in the words of `plant`, sources and an ignore file."""

    tree: Sequence[str]
    sources: Sequence[ContextSource]
    ignore: str = ""


@st.composite
def cases(draw: st.DrawFn) -> Case:
    folders, tree = [""], []
    used = set()
    for _ in range(draw(st.integers(0, 9))):
        path = draw(st.sampled_from(folders)) + draw(st.sampled_from(NAMES))
        if path in used:
            continue
        used.add(path)
        kind = draw(st.sampled_from(["file", "folder", "folder", "link"]))
        if kind == "folder" and path.count("/") < 2:
            folders.append(f"{path}/")
            tree.append(f"{path}/")
        else:
            tree.append(f"{path} -> {draw(st.sampled_from(TARGETS))}" if kind == "link" else path)
    components = st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3)
    sources = []
    for names in draw(st.lists(components, min_size=1, max_size=2)):
        path = "/".join(names)
        wild = not set(names).issubset(NAMES)
        sources.append(source(path, draw(st.sampled_from(Wildcard)) if wild else None))
    ignore = draw(st.sampled_from(["", "", "a", "b\n!b/a", "**/ab", "*\n!a", "a/*\n!a/b"]))
    return Case(tree, sources, ignore)


@dataclass
class Oracle:
    """Everything that can be known of a small tree, found by trying."""

    root: Path
    entries: list[str] = field(init=False)
    around: set[tuple[str, tuple[str, ...]]] = field(default_factory=set)

    def __post_init__(self) -> None:
        found = (Path(folder, name) for folder, *names in os.walk(self.root) for name in itertools.chain(*names))
        self.entries = sorted(path.relative_to(self.root).as_posix() for path in found)

    def ends(self, names: tuple[str, ...], met: frozenset[str] = frozenset()) -> Iterator[tuple[frozenset[str], str]]:
        """The links on the way of a literal path, and where it ends; `?` where it ends nowhere. Every reading."""
        done: list[str] = []
        for index, name in enumerate(names):
            if name == "..":
                done = done[:-1]
                continue
            path = "/".join((*done, name))
            rest = names[index + 1 :]
            if path in met and (self.root / path).is_symlink():
                yield met, "?"
                # Going around again leads nowhere new in these small trees, but for another rest.
                if len(rest) > 6 or (path, rest) in self.around:
                    return
                self.around.add((path, rest))
            if (self.root / path).is_symlink():
                target = os.readlink(self.root / path)  # noqa: PTH115 - as it is, not cleaned
                above = () if target.startswith("/") else tuple(done)
                walked = tuple(part for part in target.split("/") if part not in {"", "."})
                cleaned = tuple(filter(None, os.path.normpath("/" + "/".join((*above, *walked))).split("/")))
                for reading in {(*above, *walked), cleaned}:
                    yield from self.ends((*reading, *rest), met | {path})
                return
            if path not in self.entries or (rest and not (self.root / path).is_dir()):
                yield met, "?"
                return
            done.append(name)
        yield met, "/".join(done)

    def tops(self, one: ContextSource) -> set[str]:
        """The paths that a source takes, each with all that is below it."""
        names = one.path.split("/")
        literals = [tuple(names)]
        if one.wildcard is not None:
            depths = itertools.product(NAMES, repeat=len(names))
            literals = [path for path in depths if all(map(matches, names, path))]
        if one.wildcard is Wildcard.INCLUDE:
            prefix = tuple(itertools.takewhile(NAMES.__contains__, names))
            include = compile_include(one.path)
            for _, end in list(self._all_ends(prefix)):
                below = [path for path in self.entries if not end or path.startswith(f"{end}/")]
                ways = [tuple(path.split("/")) for path in below]
                skip = len(end.split("/")) if end else 0
                shown = {way: "/".join((*prefix, *way[skip:])) for way in ways}
                # Links in a folder that matches are not followed.
                above = {way: shown[way].rpartition("/")[0] for way in ways}
                tops = [way for way in ways if not (above[way] and include.ignores(above[way]))]
                literals += [way for way in tops if include.ignores(shown[way])]
        taken = set()
        for literal in literals:
            for met, end in self._all_ends(literal):
                taken |= met | ({end} - {"?"})
        return taken

    def _all_ends(self, names: tuple[str, ...]) -> Iterator[tuple[frozenset[str], str]]:
        self.around.clear()
        yield from self.ends(names)

    def searched(self, one: ContextSource) -> set[str]:
        """The folder before the wildcards, with the links on the way there."""
        prefix = tuple(itertools.takewhile(NAMES.__contains__, one.path.split("/")))
        found = list(self._all_ends(prefix)) if one.wildcard is not None and prefix else []
        return set().union(*(met | {end} - {"?"} for met, end in found))

    def sent(self, sources: Sequence[ContextSource], ignore: Matcher) -> list[str]:
        tops = set().union(*(self.tops(one) for one in sources))
        alone = set().union(*(self.searched(one) for one in sources))
        taken = {
            path
            for path in self.entries
            if path in alone or any(not top or path == top or path.startswith(f"{top}/") for top in tops)
            if not ignore.ignores(path)
        }
        return sorted(taken | {above for path in taken for above in map(str, Path(path).parents) if above != "."})


@given(cases())
@settings(max_examples=100, deadline=None)
def test_the_selection_is_the_oracles(case: Case):
    """Whatever the tree, the sources and the ignore file."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        plant(root, *case.tree)
        ignore = compile_ignore(case.ignore)

        found = paths(asyncio.run(scan(root, ignore, use(*case.sources))))

        assert found == Oracle(root).sent(case.sources, ignore)
