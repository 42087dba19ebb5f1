"""What the frontend of Docker before 23 cannot read of a Dockerfile."""

from __future__ import annotations

import pytest

from coordinator.domain.dockerfile.newer_syntax import newer_syntax
from coordinator.domain.dockerfile.stages import parse


@pytest.mark.parametrize(
    ("step", "named"),
    [
        ("RUN <<EOF\necho hello\nEOF", "the heredoc in line 2"),
        ("COPY <<a <<b /\na\nb", "the heredoc in line 2"),
        ("RUN --network=none cat <<-'EOF' >/x\n\tword\n\tEOF", "the heredoc in line 2"),
        ("ONBUILD RUN <<EOF\necho hello\nEOF", "the heredoc in line 2"),
        ("COPY --link a /", "--link in line 2"),
        ("ADD --link=true a /", "--link in line 2"),
        ('RUN ["cat", "<<EOF"]', ""),
        ('RUN echo "<<EOF"', ""),
        ("RUN echo $((1 << 2))", ""),
        ("ENV A=<<EOF", ""),
        ("COPY a /link", ""),
    ],
)
def test_what_an_old_engine_cannot_read_is_named_with_its_line(step, named):
    """Heredocs and --link; nothing else is."""
    assert newer_syntax(parse(f"FROM scratch\n{step}\n")) == named
