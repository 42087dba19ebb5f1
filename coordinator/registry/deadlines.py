"""How long a registry may keep a request waiting, in seconds: the only place with these numbers."""

from __future__ import annotations

CONNECT_TIMEOUT_S = 10.0
# From the request to the head of its answer: HEAD, GET, POST, a manifest, a token.
ANSWER_TIMEOUT_S = 30.0
# The same after the last byte of a blob: a registry on a NAS may hash a whole layer before it answers.
BLOB_END_TIMEOUT_S = 120.0
# No byte of a body arrives, or is taken.
BODY_IDLE_TIMEOUT_S = 60.0
# A small answer, from its head to its end.
SMALL_BODY_TIMEOUT_S = 60.0
# All pauses of one request that a registry asks for by `Retry-After`. A longer one is no pause but an answer.
MAX_ASKED_PAUSES_S = 60.0
# Pauses between readings of a tag that does not show yet what was put there, 30 s in all: some registries show a tag
# only seconds after its PUT (https://github.com/int128/docker-manifest-create-action/issues/857).
READ_BACK_PAUSES_S = (0.25, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 2.25)
