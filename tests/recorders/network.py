"""Records into `tests/cases/network` what programs print where the network fails them.

`python -m tests.recorders.network [WORD…]`; words choose programs and faults by name.
Root only: each command runs in a network of its own, where nothing but loopback is, and no name server answers. On
127.0.0.1 a server answers 503 (port 5080), 404 (5081), closes at once (5082), or ends in the middle (5083).
`tests/unit/agents/test_network_errors.py` judges each recording. A program that is not installed is left out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.services.commands import run_limited
from tests.services.paths import CASES

FOLDER = CASES / "network"
_SERVERS = """
import socketserver, threading
ANSWERS = {
    5080: b"HTTP/1.1 503 Service Unavailable\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n",
    5081: b"HTTP/1.1 404 Not Found\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n",
    5082: b"",
    5083: b"HTTP/1.1 200 OK\\r\\nContent-Length: 9999\\r\\nConnection: close\\r\\n\\r\\nbegun",
}
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        answer = ANSWERS[self.server.server_address[1]]
        if answer:
            self.request.recv(65536)
        self.request.sendall(answer)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
servers = [Server(("127.0.0.1", port), Handler) for port in ANSWERS]
for server in servers[1:]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
print("up", flush=True)
servers[0].serve_forever()
"""
_SETUP = """
ip link set lo up
echo nameserver 127.0.0.1 >/tmp/work/resolv.conf
mount --bind /tmp/work/resolv.conf /etc/resolv.conf
python3 /tmp/work/servers.py >/tmp/work/up &
while [ ! -s /tmp/work/up ]; do sleep 0.1; done
cd /tmp/work
"""
_APT = (
    "apt-get -q -o Dir::State=/tmp/work/apt -o Dir::Cache=/tmp/work/apt -o Dir::Etc=/tmp/work/etc -o Debug::NoLocking=1"
)
_POM = (
    "<project><modelVersion>4.0.0</modelVersion><groupId>a</groupId><artifactId>b</artifactId><version>1</version>"
    "</project>"
)
# Beside the servers a registry that is configured as a mirror would be; names end in .example (RFC 2606).
_FETCHES = {
    "no-dns": "files.example",
    "refused": "127.0.0.1:9",
    "answers-503": "127.0.0.1:5080",
    "answers-404": "127.0.0.1:5081",
    "closes": "127.0.0.1:5082",
    "ends-early": "127.0.0.1:5083",
}
_COMMANDS = {
    "curl": "curl -fsSL http://{server}/x -o x",
    "curl-into-tar": "curl -fsSL http://{server}/x | tar xz",
    "wget": "wget --tries=1 http://{server}/x",
    "git": "git clone http://{server}/x.git",
    "pip": "pip install --break-system-packages --trusted-host files.example --retries 1 --timeout 2"
    " --index-url http://{server}/simple sampleproject",
    "npm": "npm_config_fetch_retries=0 npm install --registry http://{server}/ left-pad",
    "cargo": "CARGO_NET_RETRY=0 CARGO_REGISTRIES_X_INDEX=sparse+http://{server}/ cargo install --registry x nothing",
    "apt": "mkdir -p apt/lists/partial etc/apt.conf.d; echo 'deb http://{server}/debian stable main' >etc/sources.list;"
    f" {_APT} update && {_APT} install -y hello",
    "maven": f"mkdir m2; echo '{_POM}' >pom.xml; mvn -q -B -Dmaven.repo.local=/tmp/work/m2 -DremoteRepositories=x"
    " -s settings.xml package",
    "python": "python3 -c 'import urllib.request; urllib.request.urlopen(\"http://{server}/x\").read()'",
}
# pip tells nothing of these: it goes on with an index that has no such package.
_UNTOLD = {("pip", "answers-503"), ("pip", "ends-early")}
_ROOTS = {"RUSTUP_HOME": ".rustup", "PYENV_ROOT": ".pyenv"}
_SETTINGS = (
    "<settings><mirrors><mirror><id>m</id><mirrorOf>*</mirrorOf><url>http://{server}/</url>"
    "<blocked>false</blocked></mirror></mirrors></settings>"
)


def main(words: list[str]) -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for program, command in _COMMANDS.items():
        if shutil.which("apt-get" if program == "apt" else "mvn" if program == "maven" else program.split("-")[0]):
            for fault, server in _FETCHES.items():
                if (program, fault) not in _UNTOLD and all(word in f"{program} {fault}" for word in words):
                    _record(program, fault, server, command.replace("{server}", server))
    return 0


def _record(program: str, fault: str, server: str, command: str) -> None:
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        (work / "servers.py").write_text(_SERVERS)
        (work / "settings.xml").write_text(_SETTINGS.replace("{server}", server))
        script = f"mkdir -p /tmp/work; mount --bind {made} /tmp/work; {_SETUP} ({command}) >out 2>&1; echo $? >status"
        unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script]
        environ = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        # Programs of a user are found by these; their settings are not.
        environ |= {name: str(Path.home() / folder) for name, folder in _ROOTS.items()} | {"HOME": "/tmp/work/home"}
        try:
            run_limited(unshare, env=environ, stdout=subprocess.DEVNULL, timeout=110)
        except subprocess.TimeoutExpired:
            print(f"{program} {fault}: not recorded: it did not end")
            return
        status, out = (work / "status").read_text().strip(), (work / "out").read_text("utf-8", "replace")
    print(f"{program} {fault}: status {status}, {len(out.splitlines())} lines")
    if status != "0" and out.strip():
        clean = out.replace(str(Path.home()), "/opt")
        (FOLDER / f"{program}-{fault}.txt").write_text(clean)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
