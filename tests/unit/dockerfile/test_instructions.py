"""Lines become instructions as BuildKit's parser makes them."""

from __future__ import annotations

import pytest

from coordinator.domain.dockerfile.instructions import read
from coordinator.errors import UsageError


def words(text: str) -> list[list[str]]:
    return [[one.keyword, *(word.text for word in one.words)] for one in read(text, "Dockerfile").instructions]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from a\r\nRuN b\r\n", [["from", "a"], ["run", "b"]]),
        ("\ufeffFROM a", [["from", "a"]]),
        ("  FROM\t a \t\n\n # x\n", [["from", "a"]]),
        ("RUN a \\\n b\\\nc", [["run", "a", "bc"]]),
        ("RUN a \\  \n# c\n\n\t# d\n b \\", [["run", "a", "b"]]),
        ("RUN a \\\\\nENV b", [["run", "a", "\\\\"], ["env", "b"]]),
        ("\\\nRUN a", [["run", "a"]]),
        ("\\\n\\\n", []),
        ("RUN a # b", [["run", "a", "#", "b"]]),
        ("# escape=`\nRUN a `\n b\\\nENV c", [["run", "a", "b\\"], ["env", "c"]]),
        ("\n# escape=`\nRUN a `\nENV b", [["run", "a", "`"], ["env", "b"]]),
        ("# hello\n# escape=`\nRUN a `\nENV b", [["run", "a", "`"], ["env", "b"]]),
        ("#!/x\n# escape=`\nRUN a `\nENV b", [["run", "a", "`"], ["env", "b"]]),
        ("#  Escape = ` \n#check=skip=all\nRUN a`\nb", [["run", "ab"]]),
    ],
)
def test_lines(text: str, expected: list[list[str]]):
    """Continuations, comments and blank lines inside them, line ends, byte order marks, directives at the top alone."""
    assert expected == words(text)


@pytest.mark.parametrize(
    "opening",
    [
        "RUN cat <<EOF",
        "RUN cat 3<<EOF >x <y",
        "RUN <<'EOF' sh",
        'RUN <<"EOF"',
        "RUN <<\\EOF",
        "run <<-EOF",
        "COPY --chmod=644 <<EOF /x",
        "ADD <<EOF /x",
        "ONBUILD RUN <<EOF",
        'RUN echo "it\'s" <<EOF',
        "RUN a \\\n <<EOF",
        "# escape=`\nRUN <<EOF",
    ],
)
def test_heredocs_belong_to_their_instruction(opening: str):
    """The body of a heredoc is not read as instructions, whatever is in it."""
    text = f"{opening}\nFROM x\n# y \\\n EOF\nEOF \nEOF\nUSER me"

    assert words(text)[-1] == ["user", "me"]
    assert len(words(text)) == 2


@pytest.mark.parametrize(
    "opening",
    ["ENV a=<<EOF", "RUN a<<EOF", "RUN cat <<<EOF", "RUN '<<EOF'", 'RUN ["a", "<<EOF"]', "RUN cat << EOF", "CMD <<EOF"],
)
def test_what_only_looks_like_a_heredoc(opening: str):
    """Only RUN, COPY and ADD have heredocs, only as a word of its own, and not in the JSON form."""
    assert words(f"{opening}\nUSER me")[-1] == ["user", "me"]


def test_several_heredocs_follow_each_other():
    """In the order of the line; `-` lets the end be indented by tabs."""
    assert words("COPY <<a <<-b /\nb\na\na\n\tb\nUSER me") == [["copy", "<<a", "<<-b", "/"], ["user", "me"]]


@pytest.mark.parametrize(
    "trigger",
    ["ONBUILD RUN x", "onbuild", "FROM a", "MAINTAINER me", pytest.param("ONBUILD " * 5000 + "RUN x", id="many")],
)
def test_what_onbuild_may_not_hold(trigger: str):
    """However often the word is repeated."""
    keyword = trigger.split(maxsplit=1)[0].upper()
    with pytest.raises(UsageError, match=f"^Dockerfile:2: ONBUILD may not hold {keyword}$"):
        read(f"FROM a\nONBUILD {trigger}\n", "Dockerfile")


def test_words_know_where_they_are():
    """Every character of a word has its offset in the file, over lines and through quotes."""
    text = '\ufeffCOPY \\\n --from="a\\ b"c \\\n# x\n d\\\ne'

    (copy,) = read(text, "Dockerfile").instructions

    assert (copy.flags[0].name, copy.flags[0].value) == ("from", "a bc")
    assert "".join(text[at] for at in copy.flags[0].word.offsets) == '--from="a\\ b"c'
    assert "".join(text[at] for at in copy.words[0].offsets) == copy.words[0].text == "de"
