"""Servers and clients of real protocols, and of bad habits, put together at random; none is in a notebook.

Everything here runs inside the lab: standard library alone.
"""

import asyncio
import contextlib
import http.client
import http.server
import os
import random
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

from ..scenarios import LINGER_ZERO, TCP_USER_TIMEOUT, Address, checksum, keepalive, listen, read_all, vanish
from ..varied import Step, perform

BACK = 9090  # the port of a proxy's backend


def connect(address: Address, timeout: float = 2.0) -> socket.socket:
    return socket.create_connection(address, timeout=timeout)


def abort(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    connection.close()


def at_once(*jobs: Callable[[], None]) -> None:
    """Run each in a thread of its own; what fails is that thread's affair."""

    def quietly(job: Callable[[], None]) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, EOFError):
            job()

    threads = [threading.Thread(target=quietly, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# --- HTTP ----------------------------------------------------------------------------------


class _Pages(http.server.BaseHTTPRequestHandler):
    timeout = 1.0

    def do_GET(self) -> None:
        kind, _, value = self.path.strip("/").partition("/")
        if kind == "slow":
            time.sleep(float(value))
        body = bytes(int(value)) if kind == "big" else b"hello"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """Refuse without reading the body."""
        self.send_response(413)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


def http_server(address: Address, version: str, life: float, seed: int) -> None:
    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass

    handler = type("Pages", (_Pages,), {"protocol_version": version})
    with Server(address, handler) as server:
        threading.Timer(life, server.shutdown).start()
        server.serve_forever(0.02)
    if seed % 3 == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def http_client(address: Address, visits: list[tuple[str, str, float]]) -> None:
    """Each visit: what is asked for, how it ends, and a pause before."""

    def visit(what: str, end: str, pause: float) -> None:
        time.sleep(pause)
        connection = http.client.HTTPConnection(*address[:2], timeout=0.25)
        connection.connect()
        assert connection.sock
        sock = connection.sock
        try:
            if what == "post":
                connection.putrequest("POST", "/")
                connection.putheader("Content-Length", "60000")
                connection.endheaders(bytes(30_000))
                time.sleep(0.05)
                sock.sendall(bytes(30_000))
                connection.getresponse()
                return
            connection.request("GET", f"/{what}")
            if end == "no wait":
                return
            if end == "half":
                sock.recv(100)
                return
            response = connection.getresponse()
            response.read()
            if end == "abort":
                abort(sock)
            elif end == "again":
                time.sleep(0.05)
                connection.request("GET", "/ok")
                connection.getresponse().read()
            elif end == "idle":
                time.sleep(1.2)
                connection.request("GET", "/ok")
                connection.getresponse()
        finally:
            sock.close()

    def job(what: str, end: str, pause: float) -> Callable[[], None]:
        return lambda: visit(what, end, pause)

    at_once(*(job(*v) for v in visits))


# --- a line protocol, as mail has it -------------------------------------------------------


def mail_server(address: Address, sessions: int, patience: float) -> None:
    with listen(address) as listener:
        listener.settimeout(1.5)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rwb", buffering=0) as lines:
                connection.settimeout(patience)
                lines.write(b"220 mail.example ready\r\n")
                try:
                    while line := lines.readline():
                        verb = line.split()[0].upper() if line.split() else b""
                        if verb == b"DATA":
                            lines.write(b"354 go on\r\n")
                        elif verb == b"QUIT":
                            lines.write(b"221 bye\r\n")
                            return
                        elif verb == b"VRFY":
                            time.sleep(0.2)
                            lines.write(b"252 perhaps\r\n" * 300)
                        else:
                            lines.write(b"250 fine\r\n")
                except TimeoutError:
                    lines.write(b"421 too slow\r\n")

        at_once(*[serve] * sessions)


def mail_client(address: Address, talks: list[tuple[list[str], str]]) -> None:
    """Each talk: the lines that are sent, each once the last is answered or at once, and how it ends."""

    def talk(lines: list[str], end: str) -> None:
        connection = connect(address)
        with connection:
            connection.recv(100)
            for line in lines:
                connection.sendall(line.encode() + b"\r\n")
                if end != "rash":
                    connection.recv(1000)
            if end == "linger":
                abort(connection)
            elif end == "late":
                time.sleep(0.7)
                connection.sendall(b"NOOP\r\n")
                connection.recv(100)
                connection.sendall(b"NOOP\r\n")
            elif end == "polite":
                read_all(connection)

    def job(lines: list[str], end: str) -> Callable[[], None]:
        return lambda: talk(lines, end)

    at_once(*(job(*t) for t in talks))


# --- TLS -----------------------------------------------------------------------------------


def tls_server(address: Address, pem: str, sessions: int, polite: bool) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with listen(address) as listener:
        listener.settimeout(1.5)

        def serve() -> None:
            connection, _ = listener.accept()
            connection.settimeout(1)
            with context.wrap_socket(connection, server_side=True) as secure:
                secure.recv(100)
                secure.sendall(bytes(5000))
                if polite:
                    secure.unwrap()

        at_once(*[serve] * sessions)


def tls_client(address: Address, ends: list[str]) -> None:
    def visit(end: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = connect(address)
        if end == "hang up":
            connection.close()
            return
        with context.wrap_socket(connection) as secure:
            secure.sendall(b"hello")
            if end == "rude":
                return
            got = 0
            while got < 5000:
                got += len(secure.recv(5000))
            if end == "unwrap":
                secure.unwrap()
            elif end == "linger":
                abort(secure)

    def job(end: str) -> Callable[[], None]:
        return lambda: visit(end)

    at_once(*(job(end) for end in ends))


# --- a proxy: two connections, one of which often ends because the other did ----------------


def proxy(address: Address, back: str, sessions: int, patience: float) -> None:
    """Carry bytes between a client and the backend, which lives on the client's host."""

    def carry(source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(2000):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)

    with listen(address) as listener:
        listener.settimeout(1.5)

        def serve() -> None:
            front, _ = listener.accept()
            front.settimeout(patience)
            with front, connect((back, BACK), 1) as rear:
                rear.settimeout(patience)
                at_once(lambda: carry(front, rear), lambda: carry(rear, front))

        at_once(*[serve] * sessions)


def proxied(address: Address, mood: str, sessions: int) -> None:
    """The clients of the proxy, and its backend."""
    mine = "fd00::1" if ":" in address[0] else "10.0.0.1"

    def backend() -> None:
        if mood == "absent":
            return
        with listen((mine, BACK)) as listener:
            listener.settimeout(1)
            for _ in range(sessions):
                connection, _ = listener.accept()
                connection.settimeout(0.5)
                if mood != "unread":
                    connection.recv(1000)
                if mood == "abort":
                    abort(connection)
                elif mood == "slow":
                    time.sleep(0.4)
                with contextlib.suppress(OSError):
                    connection.sendall(bytes(3000))
                    connection.close()

    def client() -> None:
        time.sleep(0.05)
        connection = connect(address, 0.3)
        with connection:
            connection.sendall(b"question" * 40)
            with contextlib.suppress(TimeoutError):
                read_all(connection)

    at_once(backend, *[client] * sessions)


# --- many at once --------------------------------------------------------------------------


def many_server(address: Address, of_server: list[list[Step]]) -> None:
    with listen(address, 64) as listener:
        listener.settimeout(1)

        def serve(steps: list[Step]) -> Callable[[], None]:
            def job() -> None:
                connection, _ = listener.accept()
                perform(connection, steps)
                connection.close()

            return job

        at_once(*(serve(steps) for steps in of_server))


def many_clients(address: Address, of_client: list[list[Step]]) -> None:
    def ask(steps: list[Step], pause: float) -> Callable[[], None]:
        def job() -> None:
            time.sleep(pause)
            connection = connect(address, 1)
            perform(connection, steps)
            connection.close()

        return job

    at_once(*(ask(steps, 0.01 * i) for i, steps in enumerate(of_client)))


# --- asyncio -------------------------------------------------------------------------------


def async_server(address: Address, of_server: list[str]) -> None:
    waiting = iter(of_server)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mood = next(waiting, "close")
        if mood == "limit":  # it stops reading: what comes stays in the kernel
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(0.1)
        else:
            with contextlib.suppress(OSError):
                await reader.read(1000)
        if mood == "abort":
            writer.transport.abort()
        elif mood == "late":
            await asyncio.sleep(0.3)
            writer.write(bytes(2000))
            await asyncio.sleep(0.1)
        else:
            writer.write(b"answer")
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, *address[:2])
        async with server:
            await asyncio.sleep(0.9)

    asyncio.run(main())


def async_client(address: Address, of_client: list[str]) -> None:
    async def ask(mood: str) -> None:
        reader, writer = await asyncio.open_connection(*address[:2])
        writer.write(bytes(3000))
        if mood == "impatient":
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(10), 0.1)
        elif mood == "reads":
            await reader.read()
        elif mood == "abort":
            writer.transport.abort()
        writer.close()

    async def main() -> None:
        await asyncio.gather(*(ask(mood) for mood in of_client), return_exceptions=True)
        await asyncio.sleep(0.5)

    asyncio.run(main())


# --- scans, health checks, dead ports, connects that are given up ---------------------------


def open_port(address: Address, stay: float = 0.8) -> None:
    with listen(address, 64) as listener:
        listener.settimeout(stay)
        kept = []
        with contextlib.suppress(TimeoutError):
            while True:
                kept.append(listener.accept()[0])


def syn_by_hand(source: tuple[str, int], destination: Address, options: bytes, window: int, seq: int) -> None:
    """A SYN that no socket sent, as scanners make it."""
    six = ":" in source[0]
    family = socket.AF_INET6 if six else socket.AF_INET
    size = (20 + len(options)) // 4
    head = source[1].to_bytes(2) + destination[1].to_bytes(2) + seq.to_bytes(4) + bytes(4)
    tcp = head + bytes([size << 4, 2]) + window.to_bytes(2) + bytes(4) + options
    ends = socket.inet_pton(family, source[0]) + socket.inet_pton(family, destination[0])
    pseudo = ends + (len(tcp).to_bytes(4) + b"\0\0\0\6" if six else b"\0\6" + len(tcp).to_bytes(2))
    tcp = tcp[:16] + checksum(pseudo + tcp).to_bytes(2) + tcp[18:]
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
        raw.sendto(tcp, (destination[0], 0))


def scan(address: Address, ports: list[int], options: bytes, seed: int) -> None:
    mine = "fd00::1" if ":" in address[0] else "10.0.0.1"
    chance = random.Random(seed)
    for number, port in enumerate(ports):
        source = (mine, 50_000 + number)
        syn_by_hand(source, (address[0], port), options, 1024, chance.randrange(2**32))
        time.sleep(0.01)
    time.sleep(0.4)


def knock(address: Address, ports: list[int], patience: float, ends: list[str]) -> None:
    """Connect to ports, open and closed ones, and leave in one way or another; some leave before they are let in."""

    def visit(port: int, end: str) -> None:
        if end == "give up":
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            with socket.socket(family) as connection:
                connection.settimeout(patience)
                connection.connect((address[0], port))
            return
        connection = connect((address[0], port), 1)
        if end == "abort":
            abort(connection)
        elif end == "talk":
            connection.sendall(b"hello")
            time.sleep(0.1)
            abort(connection)
        connection.close()

    def job(port: int, end: str) -> Callable[[], None]:
        return lambda: visit(port, end)

    at_once(*(job(port, end) for port, end in zip(ports, ends, strict=True)))
    time.sleep(0.3)


# --- hosts that vanish, wires that break ----------------------------------------------------


def forgetful(address: Address, listening: bool, talk: bool, nap: float) -> None:
    """Forget connections, as a host that restarts does."""
    listener = listen(address)
    connection, _ = listener.accept()
    if not listening:
        listener.close()
    connection.recv(100)
    if talk:
        connection.sendall(b"answer")
        time.sleep(0.15)
    vanish(connection)
    time.sleep(nap)
    with contextlib.suppress(OSError):
        if listening:
            listener.settimeout(0.5)
            connection, _ = listener.accept()
            connection.recv(100)
    listener.close()


def trusting(address: Address, way: str, nap: float) -> None:
    """Go on with a connection that the other end may have forgotten."""
    connection = connect(address)
    if way == "probe":
        keepalive(connection)
    connection.sendall(b"hello")
    time.sleep(nap)
    if way == "probe":
        time.sleep(1.3)
    elif way == "close":
        connection.close()
        time.sleep(0.3)
    elif way == "again":
        source = connection.getsockname()[:2]
        vanish(connection)
        connection = socket.create_connection(address[:2], timeout=3, source_address=source)
        connection.sendall(b"hello")
    for _ in range(2 if way == "talk" else 0):
        connection.sendall(b"are you there?")
        time.sleep(0.1)


def cut_off(address: Address, how: str) -> None:
    """A server whose packets stop arriving: it probes, or sends, and gives up."""
    with listen(address) as listener:
        connection, _ = listener.accept()
    if how == "probe":
        keepalive(connection, count=2)
    else:
        connection.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 500)
        connection.sendall(b"lost")
    with contextlib.suppress(OSError):
        connection.recv(100)
        connection.recv(100)
    time.sleep(0.8)


def far_off(address: Address, nap: float) -> None:
    connection = connect(address, 5)
    connection.sendall(b"hello")
    time.sleep(nap)
    connection.sendall(b"still here")
    time.sleep(0.3)
    connection.sendall(b"still here")
    time.sleep(0.3)
