"""A build id changes with everything a result depends on, and with nothing else."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import fields, replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coordinator.domain.image.platforms import parse
from coordinator.domain.inputs.build_id import (
    BuildInputs,
    ContextEntry,
    EntryKind,
    build_id,
    context_digest,
    counted,
    without_proxies,
)

INPUTS = BuildInputs(
    context="0" * 64,
    dockerfile="FROM a",
    stage="",
    platform=parse("linux/arm64"),
    build_args={"a": "1", "b": "2"},
    labels={"x": "y", "z": ""},
    bases=("sha256:1", "sha256:2"),
    named_contexts={"n": "1", "m": "2"},
    secrets=("k", "l"),
)
OTHERS = {
    "context": "1" * 64,
    "dockerfile": "FROM a\n",
    "stage": "x",
    "platform": parse("linux/arm/v7"),
    "build_args": {"a": "1", "b": "3"},
    "labels": {"x": "y"},
    "bases": ("sha256:2", "sha256:1"),
    "named_contexts": {"n": "1"},
    "network": "host",
    "frontend": "sha256:3",
    "secrets": ("k",),
    "nonce": "n",
}
ENTRY = ContextEntry(path="a", kind=EntryKind.FILE, mode=0o644, size=1, mtime_ns=1, digest="0" * 64)
MAPPINGS = st.dictionaries(st.text(), st.text(), max_size=4)


def test_every_field_counts():
    """Another value of any field is another id."""
    assert {field.name for field in fields(BuildInputs)} == set(OTHERS)
    ids = {build_id(replace(INPUTS, **{name: value})) for name, value in OTHERS.items()}

    assert len(ids | {build_id(INPUTS)}) == len(OTHERS) + 1
    assert all(re.fullmatch("[0-9a-f]{64}", one) for one in ids)


@given(MAPPINGS, MAPPINGS)
def test_the_order_of_mappings_does_not(args: dict[str, str], labels: dict[str, str]):
    """What was given in another order is the same."""
    inputs = replace(INPUTS, build_args=args, labels=labels, secrets=("b", "a"))
    turned = replace(
        inputs,
        build_args=dict(reversed(args.items())),
        labels=dict(reversed(labels.items())),
        secrets=("a", "b", "a"),
    )

    assert build_id(inputs) == build_id(turned)


@given(MAPPINGS, MAPPINGS)
def test_different_arguments_are_different_builds(one: dict[str, str], other: dict[str, str]):
    """No two mappings share a spelling, whatever characters are in them."""
    same = build_id(replace(INPUTS, build_args=one)) == build_id(replace(INPUTS, build_args=other))

    assert same == (one == other)


@given(MAPPINGS, st.data())
def test_a_volatile_value_does_not_count_and_its_name_does(args: dict[str, str], data: st.DataObject):
    """Other values of volatile names give the same id; any other change of the mapping another one."""
    volatile = data.draw(st.sets(st.sampled_from(sorted(args)))) if args else set()
    other = {name: data.draw(st.text()) if name in volatile else value for name, value in args.items()}

    ids = [build_id(replace(INPUTS, build_args=counted(one, volatile))) for one in (args, other)]

    assert ids[0] == ids[1]
    assert (ids[0] == build_id(replace(INPUTS, build_args=args))) == (not volatile)


@given(MAPPINGS)
def test_nothing_volatile_is_the_id_there_always_was(values: dict[str, str]):
    """Ids in registries stay good: without a volatile name the mappings are what was given."""
    assert counted(values, ()) == values


def test_a_label_and_an_argument_of_one_volatile_name_are_different_builds():
    """What is not compared is the value, not what was asked for."""
    given = counted({"REVISION": "1"}, ("REVISION",))

    assert build_id(replace(INPUTS, build_args=given)) != build_id(replace(INPUTS, labels=given))


@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "No_Proxy", "ftp_proxy", "ALL_PROXY"])
def test_a_proxy_is_how_a_build_reaches_the_network_and_not_what_it_makes(name: str):
    """As in BuildKit's cache: it counts where the Dockerfile has an ARG for it, in this spelling."""
    args = {name: "http://proxy:3128", "A": "1"}

    assert without_proxies(args, ()) == {"A": "1"}
    assert without_proxies(args, {name}) == args
    assert without_proxies(args, {name.swapcase()}) == {"A": "1"}


def test_ids_are_what_they_were():
    """An id is kept in registries: the same inputs must give it in every later version of this format."""
    assert build_id(INPUTS) == "5e5b0ecb922c826aac3b70bcbc215f44618621f9e4dc32e4a4b85464299add30"
    assert context_digest([ENTRY]) == "3f41cdc5da1f069c4391733c9113324a4c329cd94c06de5e5868046ab44e5e9e"


@pytest.mark.parametrize(
    "other",
    [
        replace(ENTRY, path="b"),
        replace(ENTRY, mode=0o755),
        replace(ENTRY, digest="1" * 64),
        replace(ENTRY, kind=EntryKind.DIRECTORY),
        replace(ENTRY, kind=EntryKind.SYMLINK, link="x"),
        replace(ENTRY, hard_link="a"),
    ],
)
def test_a_context_is_its_names_modes_and_contents(other: ContextEntry):
    """Path, kind, mode, content, target and hard link count."""
    assert context_digest([ENTRY]) != context_digest([other])


@given(path=st.text(), mode=st.integers(0, 0o7777), link=st.text(), hard_link=st.text())
@example(path='\udcff\n"\\/\x7fé', mode=0, link="\ud800", hard_link="\u2028\t")
def test_a_context_is_hashed_as_json(path: str, mode: int, link: str, hard_link: str):
    """A list per entry, in ASCII and without spaces, whatever the names."""
    entry = replace(ENTRY, path=path, mode=mode, link=link, hard_link=hard_link)
    more = [hard_link] if hard_link else []
    listed = [path, "file", mode, ENTRY.digest, link, *more]

    line = json.dumps(listed, separators=(",", ":"), ensure_ascii=True) + "\n"
    assert context_digest([entry]) == hashlib.sha256(line.encode("ascii")).hexdigest()


def test_a_context_is_not_its_times_or_its_order():
    """A fresh clone of the same commit is the same context."""
    odd = replace(ENTRY, path="\udcff\n")

    assert context_digest([ENTRY, odd]) == context_digest([odd, replace(ENTRY, mtime_ns=2)])
    assert context_digest([]) != context_digest([ENTRY])
