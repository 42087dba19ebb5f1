"""`archloom why` over real builds."""

from __future__ import annotations

import json
from secrets import token_hex

import pytest

from tests.acceptance.archloom import context, good
from tests.services.images import base_image

pytestmark = pytest.mark.engine


@pytest.mark.usefixtures("nothing_left")
def test_why_a_run_built_what_it_built(registry, home, tmp_path):
    """What changed, each phase and step with its seconds, beside the run before; a reused job touched no host."""
    base = base_image(registry, "linux/amd64", repository="why/base")
    step = f"RUN echo {token_hex(4)}; sleep 1"
    folder = context(
        tmp_path / "app",
        f"FROM {base.reference}\n{step}\nCOPY . /app/\nARG WORD=a\nRUN echo $WORD >/word\n",
        {"src/main.py": "1", "README.md": "1"},
    )
    words = ("build", str(folder), "-t", f"{registry.address}/why/app:1", "--platform", "linux/amd64")
    good(home.run(*words))
    (folder / "src" / "main.py").write_text("2")

    good(home.run(*words, "--build-arg", "WORD=b"))
    good(home.run(*words, "--build-arg", "WORD=b"))
    reused, second, first = (run["run"] for run in json.loads(good(home.run("runs", "--json")).stdout))
    told = {run: json.loads(good(home.run("why", run, "--json")).stdout) for run in (first, second, reused)}

    assert [told[run]["before"] for run in (first, second, reused)] == [None, first, second]
    assert [(one["kind"], one["what"], one["takers"]) for one in told[second]["changes"]] == [
        ("build_arg", "WORD", None),
        ("file", "src/main.py", ["COPY . /app/"]),
    ]
    entries = told[second]["platforms"]["linux/amd64"]["entries"]
    named = {entry["name"]: entry for entry in entries if entry["kind"] in ("phase", "step")}
    assert list(named)[:2] in (["context", "base"], ["base", "context"])
    assert named[step]["cached"]
    assert named[step]["before"]["seconds"] >= 1
    assert named["COPY . /app/"]["before"]["seconds"] is not None
    assert {"build", "push", "verify"} <= named.keys()
    assert all(named[name]["seconds"] is not None for name in ("context", "base", "build", "push", "verify"))
    assert told[reused]["changes"] == []
    (entry,) = told[reused]["platforms"]["linux/amd64"]["entries"]
    assert "(pin archloom-" in entry["text"]
    assert entry["text"].endswith(": no host was touched")
    text = good(home.run("why", second, "linux/amd64")).stdout
    assert "plan: local builds (native): " in text
    assert f"changed since run {first}:\n  --build-arg WORD: none → b\n  COPY . /app/ ← src/main.py\n" in text
    assert f"[2/4] {step}" in text
