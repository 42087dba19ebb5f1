"""Whose word ended a push: a refusal that the broker knows of, or an engine that failed on the way."""

from __future__ import annotations

from coordinator.broker.grant import Grant
from coordinator.errors import LostError, RegistryError
from coordinator.run.steps.push_errors import reason


def test_what_the_broker_knows_nothing_of_is_no_refusal():
    """An engine says of a broken connection what it likes; every refusal goes through the broker, which keeps it."""
    grant = Grant(job="7f3a", push=None, bases={})
    broke = RegistryError("host 'pi5': use of closed network connection", code="refused")

    found = reason(grant, broke)
    assert isinstance(found, LostError)
    assert (found.code, found.message) == ("engine", broke.message)
    grant.refused(RegistryError("archloom: the manifest has too large", code="refused"))
    assert reason(grant, broke) is grant.refusal


def test_what_the_registry_answered_is_the_reason():
    """Not what the engine makes of it. A host that was lost meanwhile is to be reached first."""
    grant = Grant(job="7f3a", push=None, bases={})
    grant.refused(RegistryError("nas.lan does not answer", code="unreachable"))
    lost = LostError("host 'pi5' does not answer", code="connection")

    assert reason(grant, RegistryError("host 'pi5': 503", code="refused")) is grant.refusal
    assert reason(grant, lost) is lost


def test_a_refused_content_is_the_reason_on_a_lost_host_too():
    grant = Grant(job="7f3a", push=None, bases={})
    grant.refused(RegistryError("the manifest is invalid", code="invalid"))

    assert reason(grant, LostError("gone", code="connection")) is grant.refusal


def test_an_old_engine_s_second_manifest_does_not_hide_why_the_first_failed():
    """Docker 20.10 sends a schema 1 manifest after any failure."""
    grant = Grant(job="7f3a", push=None, bases={})
    grant.refused(RegistryError("nas.lan: 503", code="unavailable"))
    grant.refused(RegistryError("schema 1", code="schema1"))
    grant.served()

    assert grant.refusal.message == "nas.lan: 503"
