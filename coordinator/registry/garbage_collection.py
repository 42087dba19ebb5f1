"""What a registry's own clean-up does to children that have no tag."""

from __future__ import annotations

from http import HTTPStatus

from coordinator.registry.client import Registry

_DISTRIBUTION = "docker-distribution-api-version"
# GitLab's fork of distribution 2.x has a clean-up of its own, which looks into indexes.
_GITLAB = "gitlab-container-registry-version"


async def deletes_untagged_children(registry: Registry, repository: str) -> bool:
    """Return whether the registry seems to be distribution 2.x. Raises RegistryError where it does not answer.

    `garbage-collect --delete-untagged` of 2.x deletes the children without a tag of indexes that have one; from 3.0 on
    it does not (distribution commit 601b37d98). No answer has the version. Both send the same header; 3.0 refuses a
    list of a negative number of tags, which 2.x ignores (distribution `registry/handlers/tags.go`).
    """
    status, headers = await registry.status(repository, "tags/list?n=-1")
    return _DISTRIBUTION in headers and _GITLAB not in headers and status != HTTPStatus.BAD_REQUEST
