"""The fleet of SSH servers does what it is told: tests of hundreds of boards, and of bad ones, rest on it."""

from __future__ import annotations

import asyncio
import dataclasses
import resource
from contextlib import AsyncExitStack
from pathlib import Path

import asyncssh
import paramiko
import pytest

from tests.services.fleet import Behaviour, Board, Greeting, Reply, fleet, fleet_thread

GRACE = 5
HI = Behaviour(replies={"^hi$": Reply(stdout=b"hi\n")})


def login(board: Board, **more):
    """A connection to this board that knows its key and nothing else."""
    known = asyncssh.import_known_hosts(board.known_hosts)
    given = {"username": "pi", "known_hosts": known, "config": None, "client_keys": None, "agent_path": None, **more}
    return asyncssh.connect(board.host, board.port, **given)


async def test_a_command_runs_in_the_board_s_home(tmp_path):
    """A real shell with HOME, input, output, errors and status; bytes stay what they are."""
    async with fleet(Behaviour(folder=tmp_path, environ={"COLOUR": "green"})) as made, login(made.boards[0]) as board:
        told = await board.run('echo "$HOME $PWD $USER $COLOUR"; echo oops >&2; exit 3')
        data = bytes(range(256)) * 2000
        echoed = await board.run("cat", input=data, encoding=None)

    assert told.stdout == f"{tmp_path} {tmp_path} pi green\n"
    assert (told.stderr, told.exit_status) == ("oops\n", 3)
    assert echoed.stdout == data


async def test_a_reply_stands_for_a_command():
    """The first pattern that is found in a command answers it; a command without a reply is not there."""
    replies = {"^uname": Reply(stdout=b"Linux\n"), "u": Reply(stderr=b"no\n", status=4)}
    async with fleet(Behaviour(replies=replies)) as made, login(made.boards[0]) as board:
        named, scripted, unknown = [await board.run(command) for command in ("uname -m", "sudo x", "ls")]
        assert made.boards[0].commands == ["uname -m", "sudo x", "ls"]

    assert (named.stdout, named.exit_status) == ("Linux\n", 0)
    assert (scripted.stderr, scripted.exit_status) == ("no\n", 4)
    assert unknown.exit_status == 127


@pytest.mark.parametrize("limit", [0, 5])
async def test_a_transport_that_dies_under_a_command(limit, tmp_path):
    """asyncssh returns without a status, even with check=True; the next session is none of the script's business."""
    behaviour = Behaviour(folder=tmp_path, drop_after=(None, limit))
    async with fleet(behaviour) as made:
        async with login(made.boards[0]) as board:
            assert (await board.run("echo first")).stdout == "first\n"
            told = await board.run("echo 0123456789; exec sleep 60", check=True)
            assert (told.exit_status, told.stdout) == (None, "0123456789"[:limit])
        async with login(made.boards[0]) as board:
            assert (await board.run("echo third")).exit_status == 0


async def test_a_reply_may_end_with_the_transport():
    """Output, and then nothing."""
    async with fleet(Behaviour(replies={"": Reply(stdout=b"half", drop=True)})) as made, login(made.boards[0]) as board:
        told = await board.run("anything")
    assert (told.stdout, told.exit_status) == ("half", None)


@pytest.mark.parametrize(("greeting", "first"), [(Greeting.MUTE, b""), (Greeting.BANNER, b"SSH-2.0-")])
async def test_a_board_that_hangs_before_the_keys(greeting, first):
    """Accepts, says nothing or only its banner, and no more."""
    async with fleet(Behaviour(greeting=greeting)) as made:
        board = made.boards[0]
        with pytest.raises(TimeoutError):
            await login(board, connect_timeout=0.2)
        reader, writer = await asyncio.open_connection(board.host, board.port)
        assert await reader.readexactly(len(first)) == first
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.readuntil(b"never")
        writer.close()
    assert board.counts.connections == 2
    assert board.counts.handshakes == 0


async def test_connections_refused_before_the_banner():
    """The first N are closed at once, the next one gets in; a new behaviour counts from the start."""
    async with fleet(Behaviour(refuse_first=2)) as made:
        board = made.boards[0]
        for _ in range(2):
            for _ in range(2):
                with pytest.raises((asyncssh.ConnectionLost, ConnectionResetError)):
                    await login(board)
            async with login(board):
                pass
            board.set(Behaviour(refuse_first=2))
    assert (board.counts.connections, board.counts.refused, board.counts.handshakes) == (6, 4, 2)


async def test_sessions_beyond_the_limit(tmp_path):
    """One session too many on a connection is refused; forwarded channels and other connections do not count."""
    async with fleet(Behaviour(folder=tmp_path, max_sessions=2)) as made:
        board = made.boards[0]
        async with login(board) as connection, login(board) as other:
            held = [await connection.create_process("cat") for _ in range(2)]
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.run("true")
            assert (await other.run("true")).exit_status == 0
            await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 9)
            for process in held:
                process.stdin.write_eof()
                await process.wait(timeout=60)
            assert (await connection.run("true")).exit_status == 0
    assert (board.counts.sessions, board.counts.most_sessions, board.counts.refused_sessions) == (4, 2, 1)
    assert board.counts.forwards == 1


async def echo(reader, writer):
    writer.write(await reader.read(100))
    writer.close()


async def test_forwarding():
    """Both ways, where it is allowed."""
    async with fleet(Behaviour()) as made, login(made.boards[0]) as board:
        echoing = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = echoing.sockets[0].getsockname()[1]
        listener = await board.forward_remote_port("127.0.0.1", 0, "127.0.0.1", port)
        for reader, writer in (
            await asyncio.open_connection("127.0.0.1", listener.get_port()),
            await board.open_connection("127.0.0.1", port, encoding=None),
        ):
            writer.write(b"ping")
            assert await reader.read(100) == b"ping"
            writer.close()
        echoing.close()


async def test_forwarding_that_is_forbidden():
    """Each way fails with the error asyncssh has for it."""
    async with fleet(Behaviour(forwarding=False)) as made, login(made.boards[0]) as board:
        with pytest.raises(asyncssh.ChannelListenError):
            await board.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 9)
        with pytest.raises(asyncssh.ChannelOpenError):
            await board.open_connection("127.0.0.1", made.boards[0].port)
    assert made.boards[0].counts.forwards == 0


async def test_a_jump_from_board_to_board():
    """One board is reached through another."""
    async with (
        fleet(Behaviour(), HI) as made,
        login(made.boards[0]) as jump,
        login(made.boards[1], tunnel=jump) as board,
    ):
        assert (await board.run("hi")).stdout == "hi\n"


async def test_a_login_shell_that_prints(tmp_path):
    """Junk comes first, on stdout, before a command's own and before a reply."""
    behaviour = Behaviour(folder=tmp_path, junk=b"Welcome\n", replies={"^hi$": Reply(stdout=b"hi\n")})
    async with fleet(behaviour) as made, login(made.boards[0]) as board:
        assert [(await board.run(command)).stdout for command in ("hi", "echo x")] == ["Welcome\nhi\n", "Welcome\nx\n"]


async def test_who_is_let_in(tmp_path):
    """By password, key or questions, as asked; with the wrong one, the wrong name or none at all, nobody is."""
    key, other = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    line = key.export_public_key().decode()
    async with fleet(
        Behaviour(user="pi", password="secret"),
        Behaviour(user="pi", public_keys=(line,)),
        Behaviour(user="pi", interactive="secret"),
        Behaviour(user="pi"),
    ) as made:
        right = [{"password": "secret"}, {"client_keys": [key]}, {"password": "secret"}, {}]
        wrong = [{"password": "x"}, {"client_keys": [other]}, {"password": "x"}, {"username": "ada"}]
        for board, ok, bad in zip(made.boards, right, wrong, strict=True):
            async with login(board, **ok):
                pass
            for no in (bad, {**ok, "username": "ada"}):
                with pytest.raises(asyncssh.PermissionDenied):
                    await login(board, **no)
            assert board.counts.handshakes == 1

        enrolled = made.add(Behaviour(folder=tmp_path, password="secret"))
        async with login(enrolled, password="secret") as board:
            await board.run("mkdir .ssh && cat > .ssh/authorized_keys", input=f"# mine\n{line}")
        async with login(enrolled, client_keys=[key]):
            pass


async def test_host_keys():
    """Boards share a key unless one has its own; a board that shows another key is not trusted."""
    own = asyncssh.generate_private_key("ssh-ed25519")
    async with fleet(Behaviour(), Behaviour(), Behaviour(host_key=own)) as made:
        first, second, third = made.boards
        assert first.host_key is second.host_key
        assert third.host_key is own
        known = asyncssh.import_known_hosts(made.known_hosts())
        for board in made.boards:
            async with login(board, known_hosts=known):
                pass
        third.set(Behaviour())
        with pytest.raises(asyncssh.HostKeyNotVerifiable):
            await login(third, known_hosts=known)


async def test_signals(tmp_path):
    """A signal ends the command and what it started; a board that ignores signals lets it run on."""
    async with fleet(Behaviour(folder=tmp_path)) as made, login(made.boards[0]) as board:
        process = await board.create_process("sleep 60 & echo $!; wait")
        pid = int(await process.stdout.readline())
        process.terminate()
        ended = await process.wait(timeout=60)
        assert ended.exit_signal[0] == "TERM"
        assert not alive(pid)

        made.boards[0].set(Behaviour(folder=tmp_path, signals=False))
        process = await board.create_process("echo ready; cat; echo done")
        await process.stdout.readline()
        process.terminate()
        process.stdin.write_eof()
        assert (await process.wait(timeout=60)).stdout == "done\n"


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_dropped_connection_leaves_the_command_running(tmp_path):
    """As with sshd: only its input ends. What is left at the end of the test is ended with the fleet."""
    async with fleet(Behaviour(folder=tmp_path)) as made:
        async with login(made.boards[0]) as board:
            process = await board.create_process("trap '' HUP PIPE; echo $$; cat; mkfifo end; read line < end")
            pid = int(await process.stdout.readline())
            made.boards[0].drop()
            assert (await process.wait(timeout=60)).exit_status is None
        assert alive(pid)
    assert not alive(pid)


async def test_a_pulled_cable(tmp_path):
    """Nothing is closed: only a client that asks for signs of life notices. New connections get no banner."""
    async with fleet(Behaviour(folder=tmp_path)) as made:
        connection = await login(made.boards[0], keepalive_interval=0.3, keepalive_count_max=2)
        process = await connection.create_process("cat")
        made.boards[0].freeze()
        async with asyncio.timeout(GRACE):
            assert (await process.wait()).exit_status is None
            await connection.wait_closed()
        with pytest.raises(TimeoutError):
            await login(made.boards[0], connect_timeout=0.2)


async def test_a_board_switched_off_and_on():
    """Off, connections end and new ones are refused; on, it is back on the same port."""
    async with fleet(HI) as made:
        board = made.boards[0]
        connection = await login(board)
        board.off()
        async with asyncio.timeout(GRACE):
            await connection.wait_closed()
        with pytest.raises(ConnectionRefusedError):
            await login(board)
        board.on()
        async with login(board) as connection:
            assert (await connection.run("hi")).stdout == "hi\n"


async def test_a_slow_board():
    """The handshake is quick, the answer is not."""
    async with fleet(dataclasses.replace(HI, delay=0.2)) as made, login(made.boards[0]) as board:
        begun = asyncio.get_running_loop().time()
        assert (await board.run("hi")).stdout == "hi\n"
        assert asyncio.get_running_loop().time() - begun >= 0.19


async def test_what_is_counted(tmp_path):
    """Handshakes at once, and bytes both ways, which are at least those of the command."""
    size = 300_000
    async with fleet(Behaviour(folder=tmp_path)) as made, AsyncExitStack() as stack:
        board = made.boards[0]
        connections = await asyncio.gather(*(stack.enter_async_context(login(board)) for _ in range(3)))
        await connections[0].run("cat >/dev/null", input=bytes(size), encoding=None)
        received, sent = board.counts.received, board.counts.sent
        await connections[0].run(f"head -c {size} /dev/zero", encoding=None)
        assert board.counts.sent - sent > size
    assert size < received < 2 * size
    assert board.counts.handshakes == 3
    assert 1 <= board.counts.most_handshaking <= made.most_handshaking <= 3
    assert made.handshaking == 0


def resident() -> int:
    """KiB of this process in memory now."""
    return int(Path("/proc/self/statm").read_text("utf-8").split()[1]) * resource.getpagesize() // 1024


async def test_three_hundred_boards():
    """They start in no time and weigh next to nothing until somebody connects."""
    before = resident()
    async with fleet(*[HI] * 200) as made:
        for number in range(100):
            made.add(HI, f"127.0.{1 + number // 50}.{1 + number % 50}")
        grown = resident() - before
        assert len(made.by_place) == 300
        assert grown < 300 * 10, f"{grown} KiB for 300 boards"
        for board in made.boards[::30]:
            async with login(board) as connection:
                assert (await connection.run("hi")).stdout == "hi\n"


def test_a_client_that_blocks(tmp_path):
    """In a thread of its own the fleet serves paramiko, takes orders from here, and is gone at the end."""
    with fleet_thread(Behaviour(folder=tmp_path, password="secret")) as made:
        board = made.boards[0]
        client = paramiko.SSHClient()
        client.get_host_keys().add(f"[{board.host}]:{board.port}", "ssh-ed25519", paramiko_key(board))
        logged_in = {"username": "pi", "password": "secret", "allow_agent": False, "look_for_keys": False}
        client.connect(board.host, board.port, **logged_in)
        _, stdout, _ = client.exec_command("echo $HOME")
        assert stdout.read().decode() == f"{tmp_path}\n"
        stdout.channel.close()
        client.close()
        board.off()
        with pytest.raises(OSError, match="connect"):
            client.connect(board.host, board.port, **logged_in)
        assert made.add(HI).port


def paramiko_key(board: Board) -> paramiko.PKey:
    return paramiko.Ed25519Key(data=board.host_key.public_data)
