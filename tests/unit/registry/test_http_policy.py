"""Which answers are redirects, and where credentials go: one answer for the registry client and the broker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.hosts.inventory import RegistrySettings
from coordinator.registry.endpoint import resolve
from coordinator.registry.http_policy import credentials_for, is_challenge, is_redirect

NAS = resolve(RegistrySettings(host="nas.lan:5000"))
AUTHORIZATION = {"Authorization": "Basic c2VjcmV0"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects(status: int) -> None:
    """GET and HEAD follow all five; only 303 changes the method, so nothing else follows it."""
    assert [is_redirect(method, status) for method in ("GET", "HEAD")] == [True, True]
    assert {is_redirect(method, status) for method in ("POST", "PUT", "DELETE")} == {status != 303}


@given(st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE"]), st.integers(100, 599))
def test_other_statuses_are_answers(method: str, status: int) -> None:
    """300 and 304 among them."""
    assert is_redirect(method, status) <= (status in {301, 302, 303, 307, 308})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://nas.lan:5000/v2/app/blobs/x", True),
        ("https://NAS.lan:5000/", True),
        ("https://nas.lan/v2/", False),
        ("http://nas.lan:5000/v2/", False),
        ("https://nas.lan.example.org:5000/v2/", False),
        ("https://cdn.example.org/x", False),
    ],
)
def test_credentials_go_to_the_registry_itself(url: str, shown: bool) -> None:  # noqa: FBT001
    """Another port, scheme or name is another server."""
    assert credentials_for(NAS, url, AUTHORIZATION) == (AUTHORIZATION if shown else {})


@pytest.mark.parametrize(
    ("status", "challenges", "expected"),
    [(401, "Basic", True), (401, "", True), (403, "Bearer", True), (403, "", False), (200, "Basic", False)],
)
def test_challenges_come_from_the_registry_itself(status: int, challenges: str, expected: bool) -> None:  # noqa: FBT001
    """401 is one even without its header, 403 only with it; no other host is answered."""
    assert is_challenge(NAS, "https://nas.lan:5000/v2/", status, challenges) == expected
    assert not is_challenge(NAS, "https://cdn.example.org/x", status, challenges)
