"""What a build reads of a base's config, as BuildKit reads it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.dockerfile.base_config import read_base_config
from coordinator.domain.image.platforms import Platform, parse
from coordinator.errors import RegistryError

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NAMES = st.text(st.characters(exclude_characters="=", exclude_categories=["Cs"]), min_size=1)


def read(document: object):
    return read_base_config(json.dumps(document).encode(), "the config of base:1")


@pytest.mark.parametrize(
    ("inner", "environment", "triggers"),
    [
        ({}, {"PATH": PATH}, ()),
        (None, {"PATH": PATH}, ()),
        ({"Env": None, "OnBuild": None}, {"PATH": PATH}, ()),
        ({"Env": ["PATH=/bin", "A=1=2", "A=3", "B", "C="]}, {"PATH": "/bin", "A": "3", "B": "", "C": ""}, ()),
        ({"OnBuild": ["COPY . /src", "RUN make"]}, {"PATH": PATH}, ("COPY . /src", "RUN make")),
        ({"env": ["A=1"], "onbuild": ["ADD x /"]}, {"PATH": PATH, "A": "1"}, ("ADD x /",)),
    ],
)
def test_config(inner: object, environment: dict[str, str], triggers: tuple[str, ...]) -> None:
    """Variables are set as BuildKit sets them before the first instruction; triggers keep their order."""
    config = read({"os": "linux", "architecture": "arm", "variant": "v6", "config": inner})

    assert config.platform == parse("linux/arm/v6")
    assert (config.environment, config.triggers) == (environment, triggers)


@pytest.mark.parametrize(
    ("document", "platform"),
    [
        ({}, Platform("unknown", "unknown")),
        ({"os": "linux"}, Platform("unknown", "unknown")),
        ({"architecture": "amd64"}, parse("linux/amd64")),
        ({"os": "linux", "architecture": "arm64", "variant": None}, parse("linux/arm64")),
    ],
)
def test_platform(document: object, platform: Platform) -> None:
    """A config without an architecture has no platform, which is no error."""
    assert read(document).platform == platform


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"config": []},
        {"config": {"Env": "A=1"}},
        {"config": {"OnBuild": ["RUN x", 1]}},
        {"config": {"OnBuild": ["RUN x"], "onbuild": ["RUN y"]}},
        {"config": {}, "Config": {}},
    ],
)
def test_malformed(document: object) -> None:
    """A config that two readers could read differently is refused: a trigger that is not seen makes a wrong image."""
    with pytest.raises(RegistryError) as caught:
        read(document)

    assert caught.value.code == "malformed"
    assert "the config of base:1" in caught.value.message


@given(st.dictionaries(NAMES, st.text(st.characters(exclude_categories=["Cs"]))))
def test_every_variable_is_read(variables: dict[str, str]) -> None:
    """Whatever the values hold."""
    config = read({"config": {"Env": [f"{name}={value}" for name, value in variables.items()]}})

    assert config.environment == {"PATH": PATH} | variables
