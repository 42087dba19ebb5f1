"""Which builds copy a file of a name that nobody wrote."""

from __future__ import annotations

import pytest

from coordinator.domain.dockerfile.spare_name import taking_spare_name
from tests.unit.dockerfile.context_uses import use


@pytest.mark.parametrize(
    "step",
    [
        *("COPY . /", "COPY ./ /", "ADD * /", "COPY .[a-z]* /", "COPY *.Dockerfile /", "COPY .archloom?Dockerfile /"),
        *("RUN --mount=target=/x true", "ADD a .archloom* /x/"),
    ],
)
def test_sources_that_take_any_file_are_named(step: str):
    assert taking_spare_name(use(f"FROM scratch\n{step}\n")) != ""


@pytest.mark.parametrize(
    "step",
    ["COPY *.json /", "COPY src Dockerfile /", "COPY src/* /x/", "COPY */a /", "COPY package*.json ./", "RUN true"],
)
def test_other_sources_are_not(step: str):
    """The Dockerfile that an agent adds to a context has another name, at its root."""
    assert taking_spare_name(use(f"FROM scratch\n{step}\n")) == ""


def test_the_line_is_named():
    assert "line 2" in taking_spare_name(use("FROM scratch\nCOPY * /\n"))
