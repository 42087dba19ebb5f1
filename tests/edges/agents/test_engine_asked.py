"""Who asks the engine about itself, and how often: to answer, Docker 20.10 starts two programs."""

from __future__ import annotations

import os
import re

import pytest

from agents.engine import engines
from agents.job import engine_facts
from agents.probe import engine as probe_engine
from tests.edges.agents.engine_bed import cut_off, job

pytestmark = [pytest.mark.engine]


def test_a_connection_asks_once_and_its_jobs_never(tmp_path, engine, monkeypatch):
    """The probe's answers serve for the slot, and through the job's folder for the build."""
    with cut_off(tmp_path / "engine.sock", engine, monkeypatch) as proxy:
        found = probe_engine.engine(os.environ)
        facts = engines.local_facts()
        assert asked(proxy.sent) == ["/info", "/version"]

    with (
        cut_off(tmp_path / "job.sock", engine, monkeypatch) as proxy,
        job(tmp_path, "api", "FROM scratch\nCOPY busybox /b\n") as made,
    ):
        engine_facts.write(made.folder, facts)
        assert made.run()["state"] == "BUILT"
        assert asked(proxy.sent) == []

    assert (facts.id, facts.architecture, facts.folders[0]) == (found["id"], found["arch"], found["root"])
    assert (facts.least, facts.most) == (found["min_api"], found["api"])


def test_a_job_without_the_facts_asks_for_them(tmp_path, engine, monkeypatch):
    with (
        cut_off(tmp_path / "engine.sock", engine, monkeypatch) as proxy,
        job(tmp_path, "api", "FROM scratch\nCOPY busybox /b\n") as made,
    ):
        assert made.run()["state"] == "BUILT"
        assert asked(proxy.sent) == ["/info", "/version"]


def asked(sent: bytearray) -> list[str]:
    return sorted(path.decode() for path in re.findall(rb"GET (/info|/version) HTTP", sent))
