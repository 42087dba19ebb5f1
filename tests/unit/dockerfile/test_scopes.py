"""The variables that instructions see."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from coordinator.domain.dockerfile.scopes import Scope, in_scope
from coordinator.domain.dockerfile.stages import parse

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def seen(text: str, environment: Mapping[str, str] | None = None, **args: str) -> list[dict[str, str]]:
    """What the last instruction sees, in each reading, without PATH's default."""
    chain = parse(text + "\nCMD x").stages
    scope = Scope({"G": "global"}, args, "\\", environment or {})
    *_, (_, readings) = in_scope(chain, scope)
    return [{name: value for name, value in values.items() if (name, value) != ("PATH", PATH)} for values in readings]


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("ENV A=1 B='x y' C=$A", {"A": "1", "B": "x y", "C": ""}),
        ("ENV A x  y", {"A": "x  y"}),
        ("ENV N=A\nENV $N=1", {"N": "A", "A": "1"}),
        ("ARG A=1\nARG B=${A}2 G X", {"A": "1", "B": "12", "G": "global"}),
        ("ARG A=1\nFROM y\nARG B=$A", {"A": "1", "B": "1"}),
    ],
)
def test_variables(text: str, variables: dict[str, str]):
    assert seen(f"FROM x\n{text}") == [variables]


def test_build_arguments_replace_defaults():
    assert seen("FROM x\nARG A=1 B\nARG C=$A", A="2", B="3", Z="4") == [{"A": "2", "B": "3", "C": "2"}]


def test_every_stage_has_a_path():
    """BuildKit sets it where the base image has none."""
    (values,) = next(in_scope(parse("FROM x\nCMD x").stages, Scope({}, {}, "\\")))[1]

    assert values == {"PATH": PATH}
    assert seen("FROM x\nARG P=$PATH", {"PATH": "/b", "E": "e"}) == [{"PATH": "/b", "E": "e", "P": "/b"}]


@pytest.mark.parametrize(
    ("text", "today", "older"),
    [
        ("ENV A=env\nARG A=arg", "arg", "env"),
        ("ARG A=1\nARG A=2", "2", "1"),
        ("ARG A=1 B=$A\nENV A=$B", "1", ""),
    ],
)
def test_builders_disagree_where_a_name_is_set_twice(text: str, today: str, older: str):
    """ENV over ARG, the first ARG over others, and one ARG at a time: Docker 20.10. The last one: today's BuildKit."""
    assert [values["A"] for values in seen(f"FROM x\n{text}")] == [today, older]


def test_env_after_arg_is_no_disagreement():
    assert [values["A"] for values in seen("FROM x\nARG A=1\nENV A=2\nENV A=3")] == ["3"]
