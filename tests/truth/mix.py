"""Which programs run, and on what kind of wire: a run for each seed."""

import random
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..scenarios import fill_the_queue, never_accept
from . import programs


@dataclass(frozen=True)
class Mix:
    """One run: its programs and values."""

    kind: str
    server: Any
    client: Any
    values: dict[str, Any]


def certificate(folder: Path) -> str:
    """A key and a certificate that nobody vouches for, in one file; its path, or nothing where there is no openssl."""
    if shutil.which("openssl") is None:
        return ""
    key, pem = folder / "key.pem", folder / "both.pem"
    made = ["-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=lab", "-keyout", str(key), "-out", str(pem)]
    subprocess.run(["openssl", "req", "-x509", *made], check=True, capture_output=True)
    pem.write_text(key.read_text() + pem.read_text())
    return str(pem)


def mixed(seed: int, pem: str) -> Mix:
    """The run of a seed; ``pem`` is the file of a `certificate`."""
    chance = random.Random(seed)
    kind = KINDS[seed % len(KINDS)]
    if kind == "tls" and not pem:
        kind = "http"
    server, client, values = _MAKERS[kind](chance, pem)
    wire: dict[str, Any] = {
        "rtt": chance.choice([0, 1, 5, 20, 40, 90]),
        "ip": chance.choice([4, 6]),
        "loss": chance.choice([0, 0, 0, 0, 2, 8]),
        "seed": seed,
        "duration": 5,
    }
    return Mix(kind, server, client, wire | values)


def _http(chance: random.Random, _: str) -> tuple[Any, Any, dict[str, Any]]:
    what = ["ok", "slow/0.5", "big/300000", "big/2000", "post"]
    ends = ["read", "no wait", "half", "abort", "again", "idle"]
    visits = [(chance.choice(what), chance.choice(ends), chance.random() * 0.2) for _ in range(chance.randint(2, 10))]
    version = chance.choice(["HTTP/1.0", "HTTP/1.1"])
    server = {"version": version, "life": chance.choice([0.4, 1.0, 1.6])}
    return programs.http_server, programs.http_client, {"visits": visits, **server}


def _mail(chance: random.Random, _: str) -> tuple[Any, Any, dict[str, Any]]:
    verbs = ["HELO me", "MAIL FROM:<a@b>", "VRFY root", "QUIT", "DATA", "NOOP"]
    ends = ["rash", "polite", "linger", "late", "plain"]
    talks = [(chance.choices(verbs, k=chance.randint(0, 4)), chance.choice(ends)) for _ in range(chance.randint(1, 6))]
    return programs.mail_server, programs.mail_client, {
        "sessions": len(talks), "patience": chance.choice([0.3, 1.0]), "talks": talks,
    }  # fmt: skip


def _tls(chance: random.Random, pem: str) -> tuple[Any, Any, dict[str, Any]]:
    ends = chance.choices(["hang up", "rude", "unwrap", "linger", "plain"], k=chance.randint(1, 5))
    server = {"pem": pem, "sessions": len(ends), "polite": chance.random() < 0.7}
    return programs.tls_server, programs.tls_client, {"ends": ends, **server}


def _proxy(chance: random.Random, _: str) -> tuple[Any, Any, dict[str, Any]]:
    ip, sessions = chance.choice([4, 6]), chance.randint(1, 4)
    back = {4: "10.0.0.1", 6: "fd00::1"}[ip]
    mood = chance.choice(["absent", "unread", "abort", "slow", "fine"])
    patience = chance.choice([0.2, 0.8])
    return programs.proxy, programs.proxied, {
        "back": back, "ip": ip, "sessions": sessions, "mood": mood, "patience": patience,
    }  # fmt: skip


def _steps(chance: random.Random) -> list[tuple[Any, ...]]:
    middle: list[tuple[Any, ...]] = [
        ("send", chance.choice([1, 20, 1000, 20_000])), ("send", 5), ("recv", chance.choice([1, 100, 65_536])),
        ("recv", 65_536), ("sleep", chance.choice([0.01, 0.05, 0.2])), ("read_all",), ("fill", 500_000),
    ]  # fmt: skip
    steps = chance.choices(middle, [4, 3, 3, 3, 4, 1, 0.5], k=chance.randint(0, 5))
    if chance.random() < 0.2:
        steps.insert(0, ("linger", 1, 0))
    if chance.random() < 0.1:
        steps.append(("shutdown", chance.choice([socket.SHUT_WR, socket.SHUT_RDWR])))
        steps.append(("sleep", 0.1))
    return steps


def _many(chance: random.Random, _: str) -> tuple[Any, Any, dict[str, Any]]:
    count = chance.randint(4, 20)
    each = [[_steps(chance) for _ in range(count)] for _ in range(2)]
    if chance.random() < 0.2:
        each[chance.randrange(2)][0].append(("kill",))
    return programs.many_server, programs.many_clients, {"of_server": each[0], "of_client": each[1]}


def _async(chance: random.Random, _: str) -> tuple[Any, Any, dict[str, Any]]:
    count = chance.randint(1, 8)
    of_server = chance.choices(["close", "abort", "late", "limit"], k=count)
    of_client = chance.choices(["impatient", "reads", "abort", "close"], k=count)
    return programs.async_server, programs.async_client, {"of_server": of_server, "of_client": of_client}


def _scan(chance: random.Random, _: str) -> tuple[Any, Any, dict[str, Any]]:
    ports = chance.sample(range(1, 1000), chance.randint(1, 15)) + [8080] * chance.randint(0, 2)
    options = chance.choice([b"", bytes.fromhex("020405b4")])
    server = chance.choice([programs.open_port, None])
    return server, programs.scan, {"ports": ports, "options": options}


def _knock(chance: random.Random, _: str) -> tuple[Any, Any, dict[str, Any]]:
    ports = [chance.choice([8080, 8080, 8080, chance.randrange(1, 9000)]) for _ in range(chance.randint(1, 10))]
    ends = [chance.choice(["give up", "abort", "talk", "close"]) for _ in ports]
    rtt = chance.choice([1, 30, 60, 150])
    return programs.open_port, programs.knock, {"ports": ports, "ends": ends, "patience": rtt / 2500, "rtt": rtt}


def _vanish(chance: random.Random, _: str) -> tuple[Any, Any, dict[str, Any]]:
    way = chance.choice(["talk", "probe", "close", "again"])
    server = {"listening": way == "again" or chance.random() < 0.5, "talk": chance.random() < 0.6}
    nap = chance.choice([0.2, 0.5])
    return programs.forgetful, programs.trusting, {"way": way, "nap": nap, **server}


def _cut(chance: random.Random, _: str) -> tuple[Any, Any, dict[str, Any]]:
    how = chance.choice(["probe", "send"])
    first = {"probe": chance.choice([4, 5]), "send": 2}[how]
    host = {"probe": "client", "send": "server"}[how]
    drop = [(host, number) for number in range(first, 60)]
    nap = {"probe": 4.2, "send": chance.choice([1.2, 1.6])}[how]
    return programs.cut_off, programs.far_off, {"how": how, "nap": nap, "drop": drop, "loss": 0, "duration": 6}


def _overflow(chance: random.Random, _: str) -> tuple[Any, Any, dict[str, Any]]:
    sysctls = {"server": {"net.ipv4.tcp_abort_on_overflow": 1}}
    return never_accept, fill_the_queue, {"sysctls": sysctls, "loss": 0, "stay": chance.choice([0.1, 0.2, 0.3])}


_MAKERS = {
    "http": _http,
    "mail": _mail,
    "tls": _tls,
    "proxy": _proxy,
    "many": _many,
    "async": _async,
    "scan": _scan,
    "knock": _knock,
    "vanish": _vanish,
    "cut": _cut,
    "overflow": _overflow,
}
KINDS = tuple(_MAKERS)
