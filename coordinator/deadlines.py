"""How long the edges wait, in seconds: for hosts, registries, programs and files. Every wait there has its number here.

A deadline says when a peer counts as gone, and not how long work may take: a build has none, and a transfer goes on as
long as bytes move.
"""

from __future__ import annotations

from collections.abc import Mapping

# From the request to its answer, by operation of the agent (`agents/README.md`). `follow` lasts as long as the build,
# `prune` as long as the engine deletes, `pull` and `push` as long as bytes move: there the pings count.
ANSWER: Mapping[str, float] = {
    "probe": 30.0,  # the agent answers within 20 s, whatever hangs
    "create": 20.0,
    "context": 60.0,  # in one frame
    "lacking": 20.0,
    "start": 60.0,  # a Raspberry Pi Zero that swaps takes many seconds to start a Python
    "cancel": 20.0,
    "forget": 20.0,
    "jobs": 20.0,
    "hang_up": 20.0,
    "purge": 600.0,  # it removes images and gigabytes of folders
}
# A context, an archive, a push or a pull of which no byte moves is lost. An agent that works meanwhile says so.
STALL = 60.0
# Before the first byte of an image's archive: older engines write all of it to their disk first.
ARCHIVE_BEGIN = 600.0
# The agent is asked for a sign of life so often while a request is open, and is lost after so many without an answer.
PING, MAX_UNANSWERED_PINGS = 5.0, 4
# An SSH connection that has carried nothing for so long is asked for a sign of life; it is lost after so many without
# an answer, 12 s after the cable was cut. Received bytes count as an answer, so a busy tunnel is not lost.
KEEPALIVE, MAX_UNANSWERED_KEEPALIVES = 3.0, 3
# A host whose engine or disk has not answered for so long is said, and another may begin. The agent looks every 2 s.
SILENCE = 18.0
# Key exchange and login, on a board that swaps. For the server's first line a host has its `connect_timeout`.
LOGIN = 25.0
# Between two logins that a busy sshd dropped, times the number of tries (sshd_config(5), MaxStartups).
LOGIN_PAUSE = 0.3
# A port that takes connections again takes one at once.
PORT = 1.0
# For the end of a ProxyCommand whose connection has ended.
PROXY_END = 0.2
# For a program of `Match exec` in the SSH configuration.
MATCH_EXEC = 30.0
# `boards add`: for the login, which may ask a person; for a script, which takes less than a second on a worn card too.
ENROL_AUTH, INSTALL_KEY = 60.0, 9.0
# The login shell runs the script so soon after the login, or so many times later than the login took: what else is slow
# there, on a board that swaps, is the login too. A shell that has started the agent before has `BOOT_LINE`.
LOGIN_SHELL, LOGIN_SHELL_LOGINS, MAX_LOGIN_SHELL = 9.0, 4.0, 30.0
# For each further line of the script, and for each piece of the agent's file.
BOOT_LINE = 60.0
# From the login to the start of the agent, its file sent: the login shell and each line of the script have less. Then
# for its greeting.
AGENT_START, GREETING = 120.0, 60.0
# From EOF on stdin to the end of the agent, which finishes a create, start, cancel or forget first, up to 20 s.
AGENT_END = 30.0
# For the exit status and the last words of an agent whose stdout has ended.
LAST_WORDS = 5.0
# For the end of an agent that is aborted: sshd answers when its process has ended, which it need not do.
ABORT = 1.0
# For the host's half of the end of a session or a connection that is no longer needed.
CLOSE = 2.0
# To connect to a registry.
REGISTRY_CONNECT = 10.0
# From a request to the head of its answer: HEAD, GET, POST, a manifest, a token.
REGISTRY_ANSWER = 30.0
# The same after the last byte of a blob: a registry on a NAS may hash a whole layer before it answers.
BLOB_END = 120.0
# No byte of a registry's body arrives or is taken, or none of a board's.
BODY_IDLE = 60.0
# A registry's small answer, from its head to its end.
SMALL_BODY = 60.0
# All pauses of one request that a registry asks for by `Retry-After`. A longer one is no pause but an answer.
ASKED_PAUSES = 60.0
# Pauses between readings of a tag that does not show yet what was put there, 30 s in all: some registries show a tag
# only seconds after its PUT (https://github.com/int128/docker-manifest-create-action/issues/857).
READ_BACK_PAUSES = (0.25, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 2.25)
# A program that has the credentials of a registry. It may wait for a desktop session that does not exist.
CREDENTIAL_HELPER = 30.0
# Between two tries for a session that sshd refused: it frees one once it has seen the session's process end.
SESSION_PAUSE = 0.1
# The bulk connection stays open for the next transfer.
BULK_IDLE = 10.0
# An engine shows its job's secret as soon as it is connected to the broker; then its connection may be idle for longer.
STRANGER, BOARD_IDLE = 10.0, 300.0
# What a refused engine still sends is read, so that it gets the answer.
REFUSED_DRAIN = 5.0
# The first pause before a request to a registry is repeated; each further one is twice as long.
REGISTRY_PAUSE = 0.5
# For the cancellations of uploads, when the registry client is closed.
UPLOAD_CANCEL = 2.0
# For the locks of the store and of the digest cache, which another process holds while it writes.
STORE_LOCK, DIGEST_LOCK = 10.0, 1.0
