"""What is published under a tag, by skopeo's word: every platform, its digests checked, its marker read."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

from tests.chaos.builds import MARKER, OLD, content
from tests.chaos.lab import USER, ChaosLab
from tests.services.board_lab import run
from tests.services.images import packed_file, push_image, push_index
from tests.services.judges import docker_login

Published = Mapping[str, str]


def publish_old(lab: ChaosLab, repository: str, tag: str, platforms: Sequence[str]) -> None:
    """Something that was under the tag before."""
    entries = []
    for platform in platforms:
        words = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
        layer = packed_file(MARKER, content(OLD, platform).encode())
        entries.append({**push_image(lab.registry, repository, words, layer), "platform": words})
    push_index(lab.registry, repository, tag, *entries)


def published(lab: ChaosLab, repository: str, tag: str) -> Published | str:
    """The marker of each platform; nothing where there is no such tag; a sentence where it cannot be pulled."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        login = docker_login(folder / "login", lab.registry.address, USER, lab.password)
        access = ("--authfile", str(login / "config.json"), "--src-tls-verify=false")
        try:
            run("skopeo", "copy", "--quiet", "--all", *access, f"docker://{lab.registry.address}/{repository}:{tag}",
                f"dir:{folder}/image")  # fmt: skip
        except CalledProcessError as error:
            missing = "manifest unknown" in error.stderr or "name unknown" in error.stderr
            return {} if missing else f"skopeo cannot pull it: {error.stderr.strip()}"
        return _markers(folder / "image")


def _markers(image: Path) -> Published | str:
    found: dict[str, str] = {}
    for entry in json.loads((image / "manifest.json").read_bytes())["manifests"]:
        name = entry["digest"].removeprefix("sha256:")
        manifest = json.loads((image / f"{name}.manifest.json").read_bytes())
        config = json.loads(_blob(image, manifest["config"]))
        platform = _platform(entry["platform"])
        if _platform(config) != platform:
            return f"the image for {platform} is one for {_platform(config)}"
        found[platform] = _marker([_blob(image, layer) for layer in manifest["layers"]])
    return found


def _marker(layers: list[bytes]) -> str:
    for layer in reversed(layers):
        data = gzip.decompress(layer) if layer[:2] == b"\x1f\x8b" else layer
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            if MARKER in archive.getnames():
                file = archive.extractfile(MARKER)
                assert file is not None
                return file.read().decode()
    return ""


def _blob(image: Path, descriptor: Mapping[str, Any]) -> bytes:
    return (image / descriptor["digest"].removeprefix("sha256:")).read_bytes()


def _platform(words: Mapping[str, Any]) -> str:
    return "/".join(filter(None, (words["os"], words["architecture"], words.get("variant"))))
