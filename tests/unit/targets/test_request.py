"""A build request is read from the store as it was written there."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.image.references import Reference, parse
from coordinator.domain.targets.host_selection import HostSelection
from coordinator.domain.targets.request import BuildRequest, from_stored
from coordinator.domain.targets.target import Emulate, Target
from tests.unit.placement.farms import ARM64, PLATFORMS

WORD = st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True)
WORDS = st.dictionaries(WORD, st.text(max_size=5), max_size=3)
TARGETS = st.builds(
    Target,
    name=st.just("default"),
    context=WORD,
    dockerfile=WORD,
    tags=st.lists(st.sampled_from(["nas.lan:5000/app:1", "ann/app:2", "nas.lan:5000/app:3"]).map(parse)).map(tuple),
    platforms=st.lists(st.sampled_from(PLATFORMS), unique=True).map(tuple),
    stage=WORD | st.just(""),
    build_args=WORDS,
    labels=WORDS,
    volatile=st.lists(WORD).map(tuple),
    no_cache=st.booleans(),
    pull=st.booleans(),
)
REQUESTS = st.builds(
    BuildRequest,
    target=TARGETS,
    emulate=st.sampled_from(Emulate),
    on=st.lists(WORD, unique=True).map(tuple),
    pinned=st.dictionaries(st.sampled_from(PLATFORMS), WORD),
    fail_fast=st.booleans(),
)


@given(REQUESTS)
def test_a_request_is_read_as_it_was_written(request):
    assert from_stored(json.loads(json.dumps(request.to_json()))) == request


def test_the_keys_are_a_format_on_disk():
    """A store keeps them for as long as its runs. Older requests lack `volatile`, `fail_fast` and `outputs`."""
    stored = {
        "context": "/app",
        "dockerfile": "/app/Dockerfile",
        "tags": ["nas.lan:5000/app:1"],
        "platforms": ["linux/arm64"],
        "stage": "test",
        "build_args": {"A": "1"},
        "labels": {"B": "2"},
        "volatile": [],
        "no_cache": True,
        "pull": False,
        "emulate": "never",
        "on": ["pi4", "linux/arm64=pi5"],
        "fail_fast": False,
        "outputs": [],
    }
    old = {key: value for key, value in stored.items() if key not in ("volatile", "fail_fast", "outputs")}

    assert from_stored(old).to_json() == stored
    assert from_stored(stored).selection == HostSelection(emulate=Emulate.NEVER, on=("pi4",), pinned={ARM64: "pi5"})


def test_boards_push_to_the_repository_of_the_first_tag():
    """Each repository once, without its tags."""
    tags = tuple(map(parse, ["nas.lan:5000/app:1", "ann/app:1", "nas.lan:5000/app:2"]))
    target = Target(name="default", context="/app", dockerfile="/app/Dockerfile", tags=tags, platforms=(ARM64,))

    assert target.repositories == (Reference("nas.lan:5000", "app"), Reference(tags[1].registry, tags[1].repository))
