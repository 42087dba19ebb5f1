"""Command lines people have in their READMEs and scripts: taken as they are, or refused with what to do instead."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click
import pytest

from coordinator.cli.build import command
from coordinator.cli.request_flags import Flags, target_from
from coordinator.errors import ArchloomError
from tests.services.paths import CASES

GOLDEN = json.loads((CASES / "buildx_lines.json").read_text())
WORDS = ("docker", "buildx", "build")


def arguments(line: str) -> list[str]:
    words = shlex.split(line)
    while words[0] in WORDS:
        words.pop(0)
    return words


def target(words: list[str]):
    with click.Context(command) as parent, command.make_context("build", words, parent=parent) as context:
        flags = Flags(**{key: value for key, value in context.params.items() if key in Flags.__slots__})
        return target_from(flags, {})


@pytest.fixture
def in_a_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("in_a_context")
@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["line"])
def test_a_line_people_use_is_understood_or_refused_by_name(case):
    """No flag is dropped in silence: the target is what was asked, or the refusal names the word that was not taken."""
    words = arguments(case["line"])

    if "accepted" in case:
        built = target(words)

        assert {
            "platforms": [str(one) for one in built.platforms],
            "tags": [str(one) for one in built.tags],
            "stage": built.stage,
            "build_args": built.build_args,
            "labels": built.labels,
            "no_cache": built.no_cache,
            "pull": built.pull,
        } == {"stage": "", "build_args": {}, "labels": {}, "no_cache": False, "pull": False, **case["accepted"]}
    else:
        with pytest.raises(ArchloomError) as refused:
            target(words)

        assert refused.value.exit_code == 2
        assert case["refused"] in refused.value.message
        assert refused.value.hint


def test_a_build_arg_without_a_value_is_read_from_the_environment(tmp_path):
    """`--build-arg NAME` takes NAME from the environment, as docker does."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    flags = Flags(
        context=str(tmp_path),
        tag=("user/app:1",),
        platform=(),
        file=None,
        target="",
        build_arg=("TOKEN", "GONE"),
        label=(),
        volatile=(),
        no_cache=False,
        pull=False,
        inventory=None,
        emulate="auto",
        on=(),
    )

    assert target_from(flags, {"TOKEN": "t"}).build_args == {"TOKEN": "t"}
