"""The real builder says which Dockerfiles it takes; the reader has to take the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.domain.dockerfile.bases import plan_bases
from coordinator.domain.dockerfile.stages import parse
from coordinator.domain.image.platforms import parse as platform_of
from coordinator.errors import UsageError
from tests.edges.context.build_judge import build, buildx

TAKEN = (
    "from scratch as One\ncopy f /a\nFROM scratch\nCOPY --from=ONE /a /b\nCOPY --from=0 /a /c\n",
    "FROM scr\\\n# why\n\n  \n\\\natch\nCOPY f /a\n",
    "# Escape=`\n# syntax\nFROM scr`\natch\r\nCOPY f /a\r\n",
    "ARG A=scr B=${A}atch\nARG C\nFROM --platform=$BUILDPLATFORM ${C:-$B}\nCOPY f /a\n",
    'ARG N=one\nFROM scratch AS one\nCOPY f /a\nFROM "$N" AS two\nFROM two\nCOPY f /b\n',
    # What only some instructions read as JSON.
    "FROM scratch\nCOPY f /a\nWORKDIR []\nUSER []\nMAINTAINER []\nARG []\nENV [ ]\nLABEL [ ]\nONBUILD []\n",
    'FROM scratch\nCOPY f /a\nworkdir [ ]\nUSER ["a"]\nONBUILD VOLUME []\nONBUILD COPY a\nCMD []\nENTRYPOINT [ ]\n',
    'FROM scratch\nCOPY [ "f" , "/a"]\nVOLUME ["/v"]\nVOLUME [[]\nSHELL ["s"]\nHEALTHCHECK CMD ["x"]\n',
    "FROM scratch\nCOPY f /a\nVOLUME " + "[" * 30_000 + "\n",
    'FROM scratch\nCOPY ["f","/a"]#why\nADD ["f","/a"] why\nVOLUME ["/v"] #\n',
    # What is a blank in Python, and none in Go.
    "FROM scratch\nCOPY f \x1c\nUSER \x1f\nVOLUME \x1d\nARG \x1e\n",
    # What is a blank, and none before a flag.
    "FROM scratch\nCOPY f /a\nARG \u3000--chown=1\nUSER \x85--x\n",
)
REFUSED = (
    "# nothing\n",
    "FOO x\nFROM scratch\n",
    "RUN x\nFROM scratch\n",
    "FROM scratch x\nCOPY f /a\n",
    "FROM scratch AS 1st\nCOPY f /a\n",
    "FROM --foo=x scratch\nCOPY f /a\n",
    "ARG X\nFROM ${X}\nCOPY f /a\n",
    "FROM --platform=$BULDPLATFORM scratch\nCOPY f /a\n",
    "FROM scratch AS Build\nCOPY f /a\nFROM Build\n",
    "FROM scratch AS a\nCOPY f /a\nFROM scratch\nARG X=a\nCOPY --from=$X /a /b\n",
    "FROM scratch\nCOPY --from=4 /f /a\n",
    "FROM scratch\nCOPY f \\\\\n /a\n",
    "#!/x\n# escape=`\nFROM scr`\natch\nCOPY f /a\n",
    "FROM scratch\nCOPY []\n",
    "FROM scratch\nCOPY f /a\nVOLUME [ ]\n",
    "FROM scratch\nCOPY f /a\nSHELL []\n",
    "FROM scratch\nCOPY f /a\nUSER \xa0\n",
    "FROM scratch\nCOPY f /a\n\x1cUSER a\n",
    "FROM scratch\nCOPY f /a\nONBUILD\n",
)


@pytest.mark.engine
def test_the_builder_agrees(tmp_path: Path, engine: Path):
    """What is planned builds, and what is refused does not."""
    client = buildx(tmp_path)
    context = tmp_path / "context"
    context.mkdir()
    (context / "f").write_text("x")

    answers = {text: build(client, tmp_path, context, text).error for text in (*TAKEN, *REFUSED)}

    assert [text for text in TAKEN if answers[text]] == [text for text in TAKEN if refused(text)] == []
    assert [text for text in REFUSED if not answers[text]] == [text for text in REFUSED if not refused(text)] == []


def refused(text: str) -> bool:
    platform = platform_of("linux/amd64")
    try:
        found = plan_bases(parse(text), stage="", platform=platform, build_platform=platform, build_args={})
    except UsageError:
        return True
    return bool(found)
