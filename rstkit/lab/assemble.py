"""From what a supervisor told to a `Trace`: packets dissected, calls paired, times on one clock."""

import base64
import json
from collections.abc import Mapping
from typing import Any

from ..tcp import Endpoint, Flags
from ..trace import Call, Counter, Packet, Program, Reason, State, Trace

_REASON_WINDOW = 0.05  # seconds between the tracepoint and the frame on the wire, at the most
_LISTENERS_WINDOW = 0.005  # the same where only the port tells whose it is


def assemble(result: Mapping[str, Any], **about: Any) -> Trace:
    """The trace of a run; ``about`` are the fields of `Trace` that the supervisor does not know."""
    zero = result["zero"]

    def seconds(nanoseconds: int | None) -> float | None:
        return None if nanoseconds is None else (nanoseconds - zero) / 1e9

    packets = _packets(result["frames"], seconds)
    calls, tracebacks = _calls(result["programs"], seconds)
    states = tuple(
        State(host, (at - zero) / 1e9, Endpoint(*local), Endpoint(*peer) if peer else None, *found)
        for host, at, local, peer, found in result["states"]
    )
    counters = tuple(
        Counter(host, name, before[name], after)
        for host, before in result["before"].items()
        for name, after in result["after"][host].items()
        if name in before and before[name] != after
    )
    texts: Mapping[str, tuple[str, str, bool]] = about.pop("texts")
    programs = tuple(
        Program(
            host,
            *texts[host],
            started=(told["started"] - zero) / 1e9,
            ended=seconds(told["ended"]),
            status=told["status"],
            signal=told["signal"],
            traceback=tracebacks.get(host),
            output=_output(told),
        )
        for host, told in result["programs"].items()
        if told["started"] is not None
    )
    return Trace(
        packets=packets,
        calls=calls,
        states=states,
        counters=counters,
        reasons=_reasons(result["reasons"] or (), packets, zero),
        programs=programs,
        outcome=result["outcome"],
        problems=tuple(_problems(result, programs, calls, about["values"])),
        duration=(result["ended"] - zero) / 1e9,
        epoch_ns=result["epoch"],
        **about,
    )


def _packets(frames: list[Any], seconds: Any) -> tuple[Packet, ...]:
    packets: list[Packet] = []
    for sender, sent, arrived, data, lost in sorted(frames, key=lambda frame: frame[1]):
        packet = Packet.from_frame(
            len(packets) + 1, sender, seconds(sent), seconds(arrived), base64.b64decode(data), lost
        )
        if packet:  # other frames, ICMP say, are carried and not kept
            packets.append(packet)
    return tuple(packets)


def _calls(programs: Mapping[str, Any], seconds: Any) -> tuple[tuple[Call, ...], dict[str, str]]:
    """The calls of all programs in order of their beginning, and the tracebacks by host.

    A line that is no record (a program can write anything to its own descriptors) is left out.
    """
    begun: dict[tuple[str, int, int], dict[str, Any]] = {}
    tracebacks: dict[str, str] = {}
    for host, told in programs.items():
        for line in told["records"].splitlines():
            try:
                kind, *record = json.loads(line)
                if kind == "x":
                    tracebacks[host] = tracebacks.get(host, "") + str(record[0])
                    continue
                key = (host, int(record[0]), int(record[1]))
                if kind == "b":
                    _, _, name, arguments, at, number, local, peer, implicit, queues = record
                    begun[key] = {
                        "host": host,
                        "process": key[1],
                        "name": str(name),
                        "arguments": str(arguments),
                        "began": seconds(at),
                        "socket": int(number),
                        "local": _endpoint(local),
                        "peer": _endpoint(peer),
                        "implicit": bool(implicit),
                        **dict(zip(("unread", "unsent", "unacked"), queues or (), strict=False)),
                    }
                elif kind == "e" and key in begun:
                    _, _, at, value, code, error, size, local, peer = record
                    begun[key] |= {"ended": seconds(at), "result": value, "errno": code, "error": error, "size": size}
                    begun[key] |= {"local": _endpoint(local), "peer": _endpoint(peer)}
            except (ValueError, TypeError):
                continue
    rows = sorted(begun.values(), key=lambda row: row["began"])
    return tuple(Call(number, **row) for number, row in enumerate(rows, 1)), tracebacks


def _endpoint(text: str | None) -> Endpoint | None:
    if not text:
        return None
    address, _, port = text.rpartition(":")
    return Endpoint(address.strip("[]"), int(port))


def _reasons(events: Any, packets: tuple[Packet, ...], zero: int) -> tuple[Reason, ...]:
    """The kernel's reasons that belong to a RST on this wire: the tracepoint tells of the whole machine's.

    Where a listening socket answers, the tracepoint gives that socket's ends, which are a port
    and no peer: the RST from that port that left next is meant.
    """
    resets = [p for p in packets if p.flags & Flags.RST]
    told = [((at - zero) / 1e9, Endpoint(*source), Endpoint(*peer), reason) for at, source, peer, reason in events]
    found = [
        Reason(at, source, peer, reason)
        for at, source, peer, reason in told
        if any((p.source, p.destination) == (source, peer) and abs(p.sent - at) < _REASON_WINDOW for p in resets)
    ]
    known = {(reason.source, reason.destination) for reason in found}
    for at, source, peer, reason in told:
        if not peer.port:  # it may be of another lab: a RST whose own reason is known is not meant
            meant = (p for p in resets if p.source.port == source.port and 0 <= p.sent - at < _LISTENERS_WINDOW)
            found += [Reason(at, *ends, reason) for p in meant if (ends := (p.source, p.destination)) not in known][:1]
    return tuple(sorted(found, key=lambda reason: reason.at))


def _output(told: Mapping[str, Any]) -> str:
    kept: str = told["output"]
    more = told["output_bytes"] - len(kept.encode(errors="replace"))
    return kept + (f"\n… {more:,} more bytes, not kept" if more > 0 else "")


def _problems(
    result: Mapping[str, Any], programs: tuple[Program, ...], calls: tuple[Call, ...], values: Mapping[str, Any]
) -> list[str]:
    """What the person who ran it should know, in sentences."""
    problems = []
    outcome, port = result["outcome"], values["port"]
    if outcome == "never listened":
        where = f"nothing listened on port {port}"
        others = [str(p) for p in result["listening"] if p != port]
        if others:
            where += f" (but on {', '.join(others)}: bind the address that the function is given)"
        server = next((p for p in programs if p.host == "server"), None)
        ended = "the server ended and" if server and server.ended is not None else f"in {values['duration']:g} s"
        problems.append(f"The client was never started: {ended} {where}.")
    elif outcome == "duration over":
        still = [f"the {p.host}{_still_in(p.host, calls)}" for p in programs if p.ended is None]
        waited = f"still running: {' and '.join(still)}" if still else "both had ended, but a socket was still busy"
        problems.append(f"The run was ended after its duration of {values['duration']:g} s; {waited}.")
    elif outcome == "stopped":
        problems.append("The run was stopped; this is what it had shown by then.")
    for program in programs:
        if program.traceback:
            problems.append(f"The {program.host} raised {program.traceback.strip().splitlines()[-1]}")
        elif program.signal:
            problems.append(f"The {program.host}'s process was ended by {program.signal}.")
        elif program.status:
            problems.append(f"The {program.host}'s process ended with status {program.status}.")
    if result["frames_not_kept"]:
        problems.append(f"{result['frames_not_kept']:,} more frames were carried, and not kept.")
    return problems


def _still_in(host: str, calls: tuple[Call, ...]) -> str:
    last = next((c for c in reversed(calls) if c.host == host and c.ended is None), None)
    return f", in {last.name}({last.arguments})" if last else ""
