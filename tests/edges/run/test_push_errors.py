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


def test_what_the_registry_may_do_next_time_is_lost():
    """It refused, and what it said is not final: the push is worth another try."""
    grant = Grant(job="7f3a", push=None, bases={})
    grant.refused(RegistryError("nas.lan does not answer", code="unreachable"))

    found = reason(grant, RegistryError("host 'pi5': 503", code="refused"))

    assert isinstance(found, LostError)
    assert (found.code, found.message) == ("registry", "nas.lan does not answer")
