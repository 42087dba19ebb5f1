"""Tells from a step's last words that the network failed its program for a moment: one table, with sources.

An answer that will be the same the next time, such as 404, is not in it.
"""

from __future__ import annotations

import re

from agents.engine.failed_step import FailedStep

# (source, words): what is said of a name, a connection, TLS, or an answer that may be another one soon.
_WORDS = (
    ("getaddrinfo(3) of glibc and musl", r"[Tt]emporary failure in name resolution|[Nn]ame or service not known"),
    ("getaddrinfo(3) of glibc and musl", r"Name does not resolve|Try again\Z"),
    ("strerror(3)", r"[Cc]onnection (?:timed out|refused|reset|aborted)|[Oo]peration timed out"),
    ("strerror(3)", r"[Nn]etwork is unreachable|[Nn]o route to host|[Hh]ost is unreachable"),
    ("apt, methods/connect.cc", r"Temporary failure resolving|Could not resolve|(?:Could not|Unable to) connect to"),
    ("apt, methods/connect.cc", r"Connection failed|connection timed out|File has unexpected size|Hash Sum mismatch"),
    ("apt, methods/basehttp.cc", r"Undetermined Error"),
    ("apk-tools, src/print.c", r"temporary error \(try again later\)|DNS: transient error|DNS lookup error"),
    ("apk-tools, src/print.c", r"network connection aborted|network error \(check"),
    ("curl(1), EXIT CODES", r"[(\[](?:5|6|7|16|18|28|35|52|55|56|92)[)\]] |curl (?:16|18|28|52|56|92) "),
    ("curl, lib/strerror.c", r"[Cc]ould ?n[o']t resolve host|Failed to connect to|Empty reply from server"),
    ("curl, lib/transfer.c", r"transfer closed with \d+ bytes remaining"),
    ("curl, lib/vtls", r"SSL_ERROR_SYSCALL|gnutls_handshake\(\) failed"),
    (
        "busybox, networking/wget.c",
        r"bad address '|can't connect to remote host|download timed out|error getting response",
    ),
    ("GNU wget, src/host.c, src/http.c", r"unable to resolve host address|Read error at byte"),
    ("GNU wget, src/http.c", r"Unable to establish SSL connection|No data received|Connection closed at byte"),
    ("git, remote-curl.c, fetch-pack.c", r"the remote end hung up unexpectedly|early EOF|unexpected disconnect"),
    ("OpenSSH, sshconnect.c", r"Could not resolve hostname|Connection closed by remote host"),
    ("Go, net/net.go", r"no such host|server misbehaving|i/o timeout|unexpected EOF|: EOF\Z"),
    ("Go, net/http/transport.go", r"TLS handshake timeout|Client\.Timeout exceeded"),
    ("urllib3, exceptions.py", r"[Rr]ead timed out|timed out\. \(|(?:NewConnection|ConnectTimeout|ReadTimeout)Error"),
    ("urllib3, exceptions.py", r"NameResolutionError|IncompleteRead|connection broken"),
    ("Python, http/client.py", r"Remote end closed connection"),
    ("Node.js, common system errors", r"\bE(?:AI_AGAIN|TIMEDOUT|CONNRESET|CONNREFUSED|NOTFOUND|NETUNREACH)\b"),
    ("Node.js, common system errors", r"\bE(?:HOSTUNREACH|SOCKETTIMEDOUT)\b|ERR_SOCKET_TIMEOUT|socket hang up"),
    ("npm, lib/utils/error-message.js", r"\bE50[234]\b|network timeout"),
    ("Java, java.net", r"UnknownHostException|SocketTimeoutException|ConnectException|NoRouteToHostException"),
    ("maven-resolver, transports", r"Connect timed out|Unknown host|failed to respond|Premature end of Content-Length"),
    ("Ruby, net/protocol", r"Net::(?:Open|Read)Timeout|SocketError|Errno::E(?:CONN|HOST|NET)\w+"),
    ("cargo, src/cargo/util/network", r"spurious network error|could not download file"),
    ("reqwest, src/error.rs (uv, rustup)", r"dns error|error sending request"),
    ("RFC 9110, 15.6.3 to 15.6.5", r"\b50[234] +(?:Bad Gateway|Service (?:Temporarily )?Unavailable)"),
    ("RFC 9110, 15.6.5; RFC 6585, 4", r"\b504 +Gateway Time-?[Oo]ut|\b429 +Too Many Requests"),
    (
        "programs that have only the number",
        r"(?:[Ee]rror|ERROR|HTTP(?:/[\d.]+)?|code|[Ss]tatus|got)[: ]+(?:429|50[234])\b",
    ),
)
_TRANSIENT = re.compile("|".join(words for _, words in _WORDS))
# (program, how its lines begin): the error, and what follows it. A compiler's or a test's words are nobody's here: they
# may talk of connections without making any.
_PROGRAMS = tuple(
    (name, re.compile(lines))
    for name, lines in (
        ("apt", r"[EWN]: |Err:|Ign:|Get:|Hit:|Fetched |Reading |Building | {2}|\d+ (?:packages|upgraded)|Need to get"),
        ("apk", r"(?:ERROR|WARNING): | {2}|fetch |\d+ (?:errors?|unavailable)|OK: |\(\d+/\d+\) |v\d"),
        ("dnf", r"Error: |Errors during| {2}|Curl error|Cannot (?:download|prepare)|Last metadata|\[MIRROR\]|>>> "),
        ("pacman", r"(?:error|warning): (?:failed|too many)|Errors occurred"),
        ("curl", r"curl: |\s*[\d.]+[kMG]? +|.*--:--:--|\s*%|More details here"),
        ("busybox wget", r"wget: |Connecting to "),
        ("GNU wget", r"wget: |Resolving |Connecting to |failed: |.*ERROR \d{3}: |Retrying|Giving up|-*\d{4}-\d\d-"),
        ("GNU wget, in a transfer", r"\d{4}-\d\d-|\s*\d+K|Length: |Saving to: |HTTP request sent|Giving up"),
        ("git", r"fatal: |error: (?:RPC|\d+ bytes)|fetch-pack: |Cloning into|remote: |Failed to clone"),
        ("git over ssh", r"ssh: |fatal: |Cloning into|Please make sure|and the repository exists"),
        ("pip", r"(?:WARNING|ERROR): |\[notice\]| {2}|note: |Collecting "),
        ("Python", r"(?:[a-z]\w*\.)+\w*(?:Error|Exception|Timeout|IncompleteRead|Disconnected)\b"),
        ("uv, poetry", r"(?:error|\W{1,3}) | {2}|Caused by"),
        ("npm", r"npm (?:ERR!|error|WARN|warn|notice)"),
        ("yarn, pnpm", r"(?:error|info|warning) | ?ERR_PNPM|\W* ?YN\d{4}| ?WARN"),
        ("go", r"go: |\S+: (?:Get|Post) \"|\S*@v\S+: |.*dial tcp|fatal: |\t"),
        ("cargo", r"error: (?:failed to |download of |unable to )|Caused by:| {2}|warning: spurious|body:"),
        ("rustup", r"error: could not download|info: | {2}|Caused by:"),
        ("maven", r"\[(?:ERROR|INFO|WARNING)\]"),
        ("gradle", r"> |\* |\tat |BUILD FAILED| {2}|FAILURE|Exception in thread|java\.[\w.]+|Caused by"),
        ("gem, bundler", r"ERROR: |Bundler::|An error occurred|Net::|SocketError|Errno::|Gem::|Could not | {2}"),
        ("composer", r"In \w+\.php|curl error| {2}|\[.*Exception"),
        ("conda", r"CondaHTTPError|An HTTP error occurred|Elapsed: | {2}"),
    )
)


def network_error(step: FailedStep) -> str:
    """Return the last words of a step that the network failed; else ""."""
    return next((line for _, lines in _PROGRAMS if (line := _last_words(step, lines))), "")


def _last_words(step: FailedStep, lines: re.Pattern[str]) -> str:
    def is_cause(line: str) -> bool:
        return bool(lines.match(line) and _TRANSIENT.search(line))

    return step.ended_by(is_cause, lines)
