"""Two runs compared: what counts as a difference and what does not, in words, in the figure and on real runs."""

import itertools
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from rstkit.compare import compare
from rstkit.contrast import contrast
from rstkit.diagram import MIME, Diagram
from rstkit.lab import Lab
from rstkit.tcp import Flags
from rstkit.theme import COLOURS, STYLE
from rstkit.trace import Call, Packet, Trace

from .builder import ADDRESSES, data_after_close, packet
from .test_diagram import TRACES, arrows, handshake, layer, texts, words

ACK, FIN, PSH, RST, SYN = Flags.ACK, Flags.FIN, Flags.PSH, Flags.RST, Flags.SYN
Address = tuple[str, int]
BASE = data_after_close()


def told(first: Trace, second: Trace) -> list[tuple[str, str]]:
    """The first difference of each strand, in order, as what each run did."""
    return [difference.words for difference in contrast(first, second).differences]


def edit(trace: Trace, number: int, **changes: Any) -> Trace:
    """The trace with one call changed."""
    return replace(trace, calls=tuple(replace(c, **changes) if c.number == number else c for c in trace.calls))


def without(trace: Trace, *numbers: int) -> Trace:
    """The trace without some of its packets."""
    return replace(trace, packets=tuple(p for p in trace.packets if p.number not in numbers))


# --- what is no difference -----------------------------------------------------------------


def other_ports_and_numbers(trace: Trace) -> Trace:
    def move(p: Packet) -> Packet:
        by_client = p.sender == "client"
        seq, ack = (77, 123_456) if by_client else (123_456, 77)
        ends = [end._replace(port=end.port if end.port == 8080 else 40_001) for end in (p.source, p.destination)]
        moved = p._replace(seq=(p.seq + seq) % 2**32, source=ends[0], destination=ends[1], window=9, ttl=3)
        return moved._replace(ack=(p.ack + ack) % 2**32) if p.flags & ACK else moved

    calls = tuple(replace(c, result=c.result.replace("54892", "40001")) if c.result else c for c in trace.calls)
    return replace(trace, packets=tuple(map(move, trace.packets)), calls=calls)


def later_and_slower(trace: Trace) -> Trace:
    def late(moment: float | None) -> Any:
        return None if moment is None else 7 + 3 * moment

    return replace(
        trace,
        packets=tuple(p._replace(sent=late(p.sent), arrived=late(p.arrived)) for p in trace.packets),
        calls=tuple(replace(c, began=late(c.began), ended=late(c.ended)) for c in trace.calls),
        states=trace.states[:5],  # the others were too short to be seen
        programs=tuple(replace(p, started=late(p.started), ended=late(p.ended)) for p in trace.programs),
        duration=late(trace.duration),
    )


def more_acknowledgments_and_a_retransmission(trace: Trace) -> Trace:
    more = (
        packet(10, "server", 0.0616, 0.0816, ACK, 1, 1),
        packet(11, "client", 0.3, 0.32, PSH | ACK, 1, 1, b"hello world"),
        packet(12, "server", 0.32, 0.34, ACK, 1, 13),
        packet(13, "client", 1.09, 1.11, RST, 12),
    )
    return replace(trace, packets=tuple(sorted((*trace.packets, *more), key=lambda p: p.sent)))


def cut_elsewhere(trace: Trace) -> Trace:
    halves = (
        packet(4, "client", 0.0414, 0.0614, PSH | ACK, 1, 1, b"hell"),
        packet(10, "client", 0.0415, 0.0615, PSH | FIN | ACK, 5, 1, b"o world"),
    )
    packets = (*without(trace, 4, 5).packets, *halves)
    return replace(trace, packets=tuple(sorted(packets, key=lambda p: p.sent)))


def read_in_pieces(trace: Trace) -> Trace:
    first = next(call for call in trace.calls if call.name == "recv")
    rest = replace(first, number=20, began=0.06145, ended=0.06148, result="b'o world'", size=7)
    return replace(
        edit(trace, first.number, ended=0.0614, result="b'hell'", size=4),
        calls=(*edit(trace, first.number, ended=0.0614, result="b'hell'", size=4).calls, rest),
    )


def tried_again(trace: Trace) -> Trace:
    first = next(call for call in trace.calls if call.name == "recv")
    early = [
        replace(
            first,
            number=20 + i,
            began=0.06131 + i / 1e5,
            ended=0.061315 + i / 1e5,
            result=None,
            size=None,
            errno="EAGAIN",
            error="x",
        )
        for i in range(3)
    ]
    return replace(trace, calls=(*trace.calls, *early))


@pytest.mark.parametrize(
    "change",
    [
        other_ports_and_numbers,
        later_and_slower,
        more_acknowledgments_and_a_retransmission,
        cut_elsewhere,
        read_in_pieces,
        tried_again,
    ],
)
def test_what_timing_or_chance_decide_is_no_difference(change: Callable[[Trace], Trace]) -> None:
    changed = change(BASE)
    assert changed != BASE
    assert told(BASE, changed) == told(changed, BASE) == []
    assert contrast(BASE, changed).odd == (frozenset(), frozenset())
    text = str(contrast(BASE, changed))
    assert text.startswith("No difference: each program called the same and got the same.\nOn the wire: the same")


def test_the_words_on_the_wire_say_how_alike_the_packets_are() -> None:
    assert "On the wire: the same 9 packets." in str(contrast(BASE, later_and_slower(BASE)))
    text = str(contrast(BASE, more_acknowledgments_and_a_retransmission(BASE)))
    assert "On the wire: the same, but for what timing decides (acknowledgments," in text


def test_the_order_between_hosts_and_between_threads_is_no_difference() -> None:
    def call(number: int, name: str, began: float, ended: float, which: int) -> Call:
        return Call(number, "server", 9, name, "", began, ended, socket=which)

    one = [call(1, "accept", 0.0, 0.1, 1), call(2, "shutdown", 0.02, 0.03, 2), call(3, "close", 0.04, 0.05, 3)]
    other = [call(1, "accept", 0.0, 0.1, 1), call(2, "shutdown", 0.04, 0.05, 2), call(3, "close", 0.02, 0.03, 3)]
    assert told(Trace((), tuple(one)), Trace((), tuple(other))) == []
    # Where no call overlaps another there are no threads, and the order is the program's.
    in_turn = [[replace(c, ended=c.began) for c in calls] for calls in (one, other)]
    assert told(*(Trace((), tuple(calls)) for calls in in_turn)) == [
        ("the server calls shutdown()", "the server calls close()")
    ]


# --- what is a difference ------------------------------------------------------------------


def test_a_packet_more_or_less() -> None:
    assert told(BASE, without(BASE, 9)) == [("the client sends RST seq 13 (packet 9)", "the client sends nothing more")]
    assert told(without(BASE, 5), BASE) == [
        ("without that, the client sends RST seq 13 (packet 9)", "the client sends FIN seq 12, ack 1 (packet 5)")
    ]


def test_other_flags_lengths_and_losses() -> None:
    def exchanged(new: Packet) -> Trace:
        return replace(BASE, packets=tuple(new if p.number == new.number else p for p in BASE.packets))

    fin = packet(9, "client", 1.0821, 1.1021, FIN | ACK, 13, 12)
    assert told(BASE, exchanged(fin)) == [
        ("the client sends RST seq 13 (packet 9)", "the client sends FIN seq 13, ack 12 (packet 9)")
    ]
    with_ack = packet(9, "client", 1.0821, 1.1021, RST | ACK, 13, 12)
    assert told(BASE, exchanged(with_ack))[0][1] == "the client sends RST ACK seq 13, ack 12 (packet 9)"
    longer = packet(8, "server", 1.062, 1.082, PSH | ACK, 1, 13, b"receive message")
    found = contrast(BASE, exchanged(longer))
    assert [d.words for d in found.differences] == [
        ("the server sends nothing more", "the server sends 15 B seq 1:16 (packet 8)")
    ]
    lost = packet(8, "server", 1.062, None, PSH | ACK, 1, 13, b"receive msg", lost="lost at random")
    assert told(BASE, exchanged(lost)) == [
        ("the server sends 11 B seq 1:12 (packet 8)", "the server sends 11 B seq 1:12 (packet 8), which is lost")
    ]


def test_keepalives_are_counted() -> None:
    probes = [packet(10 + i, "server", 0.5 + i / 10, 0.52 + i / 10, ACK, 0, 13) for i in range(2)]
    one, two = (
        replace(BASE, packets=tuple(sorted((*BASE.packets, *probes[:n]), key=lambda p: p.sent))) for n in (1, 2)
    )
    assert told(one, one) == []
    assert told(one, two) == [
        ("without that, the server sends 11 B seq 1:12 (packet 8)", "the server sends keepalive seq 0 (packet 11)")
    ]


def test_another_call_argument_result_or_error() -> None:
    assert told(BASE, edit(BASE, 7, arguments="2"))[0] == ("the server sleeps 1 s", "the server sleeps 2 s")
    assert told(BASE, edit(BASE, 6, result="b'hell'", size=4)) == [
        (
            "the server calls recv(1024), which returns b'hello world'",
            "the server calls recv(1024), which returns b'hell'",
        )
    ]
    assert told(BASE, edit(BASE, 10, errno="ECONNRESET", error="ConnectionResetError: [Errno 104] Reset")) == [
        (
            "the server calls send(b'again'), which fails: EPIPE, BrokenPipeError: Broken pipe",
            "the server calls send(b'again'), which fails: ECONNRESET, ConnectionResetError: Reset",
        )
    ]
    assert told(BASE, edit(BASE, 6, ended=None, result=None, size=None))[0][1] == (
        "the server calls recv(1024), which never returns"
    )
    assert told(BASE, edit(BASE, 4, implicit=False)) == [
        ("Python calls close() for the client, which has let go of its socket", "the client calls close()")
    ]
    assert told(BASE, edit(BASE, 4, unread=3))[0][1].endswith("socket with 3 B unread")
    fewer = replace(BASE, calls=tuple(c for c in BASE.calls if c.number != 9))
    assert told(BASE, fewer) == [
        (
            "the server sleeps 0.1 s",
            "without that, the server calls send(b'again'), which fails: EPIPE, BrokenPipeError: Broken pipe",
        )
    ]


def test_how_programs_and_the_run_end() -> None:
    server, client = BASE.programs
    killed = replace(BASE, programs=(server, replace(client, status=None, signal="SIGKILL")))
    assert told(BASE, killed) == [("the client's process ends", "the client's process killed by SIGKILL")]
    hung = replace(BASE, programs=(server, replace(client, ended=None, status=None)), outcome="duration over")
    assert told(BASE, hung) == [
        ("the client's process ends", "the client's process still runs as the run ends"),
        ("the run is complete", "the run ends: duration over"),
    ]


def test_calls_that_were_not_recorded_are_not_compared() -> None:
    """A command's run has no calls: that is no difference to a function's."""
    server = replace(BASE.programs[0], recorded=False)
    command = replace(
        BASE, programs=(server, BASE.programs[1]), calls=tuple(c for c in BASE.calls if c.host == "client")
    )
    assert told(BASE, command) == []
    assert told(BASE, Trace(BASE.packets)) == []
    assert str(contrast(Trace(BASE.packets), Trace(BASE.packets))).startswith("No difference.\n")


def test_the_first_difference_is_the_earliest_and_the_values_are_told() -> None:
    other = replace(edit(without(BASE, 9), 3, arguments="b'HELLO WORLD'"), values={"nap": 2.0, "linger": -1})
    assert str(contrast(BASE, other)) == (
        "The first run: rtt = 40, nap = 1.0, linger not given.\n"
        "The second run: rtt not given, nap = 2.0, linger = -1.\n"
        "They differ first 40.3 ms after the first packet:\n"
        "  first run: the client calls sendall(b'hello world'), which returns ok.\n"
        "  second run: the client calls sendall(b'HELLO WORLD'), which returns ok.\n"
        "Then 1.0811 s after the first packet:\n"
        "  first run: the client sends RST seq 13 (packet 9).\n"
        "  second run: the client sends nothing more.\n"
        "The first run has a RST from the client (Data arrived after close).\n"
        "The second run has no RST."
    )


def test_what_has_no_match_is_told_apart_after_the_first_difference_as_well() -> None:
    changed = edit(edit(BASE, 7, arguments="2"), 10, arguments="b'more'")
    one, other = contrast(BASE, changed).odd
    assert {thing.number for thing in one if isinstance(thing, Call)} == {7, 10}
    assert {thing.number for thing in other if isinstance(thing, Call)} == {7, 10}


# --- the figure ----------------------------------------------------------------------------

SENT_LESS = edit(without(BASE, 9), 3, arguments="b'HELLO WORLD'")


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations_with_replacement(TRACES, 2)))
def test_texts_never_overlap_and_are_never_cut(one: str, other: str) -> None:
    figure = compare(TRACES[one], TRACES[other])
    found = texts(figure)
    clashes = [(a, b) for (a, box), (b, second) in itertools.combinations(found, 2) if box.overlaps(second)]
    assert clashes == []
    width, (bottom, top) = figure.layout.xaxis.range[1], figure.layout.yaxis.range
    assert [text for text, box in found if box.left < 0 or box.right > width] == []
    assert [text for text, box in found if box.top < top or box.bottom > bottom] == []
    assert all(t.textfont.size >= 13 for t in figure.data if t.mode == "text")
    assert width <= 750  # at 715 pixels, where theme.STYLE lets it scroll, this still fits
    for trace in figure.data:
        colour = trace.uid.removeprefix("rstkit-").split("-")[0]
        assert COLOURS[colour].dark in STYLE


def test_each_run_has_its_half_and_the_first_packets_stand_side_by_side() -> None:
    figure = compare(BASE, later_and_slower(BASE))
    middle = figure.layout.xaxis.range[1] / 2
    left = [arrow for arrow in arrows(figure) if arrow[0] < middle]
    right = [arrow for arrow in arrows(figure) if arrow[0] > middle]
    assert len(left) == len(right) == 9
    assert all(arrow[2] < middle for arrow in left)
    assert left[0][1] == right[0][1]
    assert {"first run", "second run", "No difference"} <= set(words(figure))


def test_the_first_difference_is_marked_across_both() -> None:
    figure = compare(BASE, SENT_LESS)
    area = layer(figure, "listening-area")
    assert area.x[:2] == (0, figure.layout.xaxis.range[1])
    top, bottom = min(area.y[:4]), max(area.y[:4])
    marked = [text for text, box in texts(figure) if top < box.top and box.bottom < bottom]
    assert marked == [
        "The first difference",
        "The client calls sendall(b'hello | world'), which returns ok",
        "The client calls sendall(b'HELLO | WORLD'), which returns ok",
    ]
    calls = {text: box for text, box in texts(figure) if text.startswith(("connect", "sendall("))}
    assert [calls[text].bottom < top for text in ("connect(…)", "sendall( | b'hello | world') | → ok")] == [True, False]
    for trace in figure.data:  # nothing runs through the words
        if trace.uid.endswith(("life", "band", "-line", "dots", "join")):
            for (_, y0), (_, y1) in itertools.pairwise(zip(trace.x, trace.y, strict=True)):
                assert y0 is None or y1 is None or max(y0, y1) <= top + 0.2 or min(y0, y1) >= bottom - 0.2


def test_calls_that_are_the_same_are_short_and_grey_and_the_others_whole() -> None:
    figure = compare(BASE, SENT_LESS)
    grey = [text for kind in ("left", "right") for text in layer(figure, f"muted-note-{kind}").text]
    assert {"connect(…)", "recv(1024)", "send(…)<br>→ EPIPE", "sleep(1)"} <= set(grey)
    whole = layer(figure, "text-note-left").text
    assert sorted(whole) == [f"sendall(<br>b'{text})<br>→ ok" for text in ("HELLO<br>WORLD'", "hello<br>world'")]


def test_names_of_errors_are_broken_where_they_can_be_read() -> None:
    refused = edit(BASE, 2, errno="ECONNREFUSED", error="ConnectionRefusedError: x", result=None)
    client = replace(BASE.programs[1], status=1, traceback="x\nConnectionRefusedError: x")
    shown = words(compare(BASE, replace(refused, programs=(BASE.programs[0], client))))
    assert "ECONN | REFUSED" in shown
    assert "process | ends by | Connection | Refused…" in shown


def test_its_text_is_the_difference_in_words() -> None:
    figure = compare(BASE, SENT_LESS)
    bundle = figure._repr_mimebundle_()
    assert bundle["text/plain"] == str(contrast(BASE, SENT_LESS))
    assert MIME in bundle
    assert isinstance(figure, Diagram)


def test_nothing_from_outside_becomes_markup() -> None:
    evil = "<script>alert(1)</script><a href='http://x'>$\\alpha$\x1b[2J\u202e\udcff" + "x" * 5000
    calls = tuple(replace(call, arguments=evil, result=evil, error=evil, name=evil) for call in BASE.calls)
    program = replace(BASE.programs[0], name=evil, traceback=evil, output=evil, signal=evil)
    hostile = replace(BASE, calls=calls, programs=(program,), outcome=evil, values={evil: evil})
    hostile = replace(hostile, hosts={"client": evil, "server": evil})
    figure = compare(BASE, hostile)
    figure.to_json().encode()
    shown = [text for trace in figure.data for text in (*(trace.text or ()), *(trace.hovertext or ()))]
    for text in shown:
        for tag in ("<b>", "</b>", "<br>"):
            text = text.replace(tag, "")  # noqa: PLW2901
        assert not set(text) & set("<>$")
        assert text.isprintable()
    assert figure.layout.xaxis.range[1] < 800
    assert all(line.isprintable() for line in str(contrast(BASE, hostile)).split("\n"))


def test_two_thousand_packets_are_compared_in_time() -> None:
    packets = handshake()
    for i in range(1000):
        at = 0.1 + i * 0.001
        packets.append(packet(4 + 2 * i, "client", at, at + 0.01, PSH | ACK, 1 + 100 * i, 1, b"x" * 100))
        packets.append(packet(5 + 2 * i, "server", at + 0.01, at + 0.02, ACK, 1, 101 + 100 * i))
    one, other = (Trace(tuple(packets[:many]), hosts=ADDRESSES) for many in (2003, 1303))
    began = time.process_time()
    figure = compare(one, other)
    assert time.process_time() - began < 5
    assert len(figure.data) < 40
    assert "The client sends 100 B seq | 65001:65101 (packet 1304)" in words(figure)


# --- on real runs --------------------------------------------------------------------------


def late_server(address: Address, nap: float = 0.3) -> None:
    with socket.create_server(address) as listener:
        connection, _ = listener.accept()
    print(connection.recv(1024))
    time.sleep(nap)
    connection.send(b"receive msg")
    time.sleep(0.1)
    connection.send(b"and more")


def impatient_client(address: Address, explicit: bool = False) -> None:
    connection = socket.create_connection(address)
    connection.settimeout(0.1)
    connection.sendall(b"hello world")
    try:
        while data := connection.recv(1024):
            print(data)
    except TimeoutError:
        print("no answer")
    if explicit:
        connection.close()
        time.sleep(0.4)


def closing_server(address: Address, read: int = 999) -> None:
    with socket.create_server(address) as listener:
        connection, _ = listener.accept()
    time.sleep(0.15)
    connection.recv(read)
    connection.close()


def asking_client(address: Address) -> None:
    with socket.create_connection(address) as connection:
        connection.sendall(bytes(1000))
        print(connection.recv(1024))


def lingering_server(address: Address, linger: int = 0) -> None:
    with socket.create_server(address) as listener:
        connection, _ = listener.accept()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 200_000)
    if linger >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, linger))
    connection.sendall(bytes(60_000))
    connection.close()


def reading_client(address: Address) -> None:
    connection = socket.create_connection(address)
    total = 0
    try:
        while data := connection.recv(65536):
            total += len(data)
        print(total, "bytes, then the end")
    except ConnectionResetError:
        print(total, "bytes, then a reset")


@pytest.mark.parametrize(
    ("server", "client", "values"),
    [
        (late_server, impatient_client, {}),
        (closing_server, asking_client, {"read": 999}),
        (closing_server, asking_client, {"read": 1000}),
        (lingering_server, reading_client, {"linger": 0, "rtt": 60}),
        (lingering_server, reading_client, {"linger": -1, "rtt": 60}),
    ],
)
def test_twenty_runs_of_the_same_are_the_same(lab: Lab, server: Any, client: Any, values: dict[str, Any]) -> None:
    first = lab.run(server, client, **values)
    for _ in range(19):
        found = contrast(first, lab.run(server, client, **values))
        assert found.differences == (), str(found)
        assert found.odd == (frozenset(), frozenset())


def test_a_round_trip_time_is_no_difference_of_its_own(lab: Lab) -> None:
    assert told(*(lab.run(closing_server, asking_client, rtt=rtt) for rtt in (0, 40))) == []


def test_linger_zero_against_linger_off(lab: Lab) -> None:
    found = contrast(*(lab.run(lingering_server, reading_client, rtt=60, linger=linger) for linger in (0, -1)))
    first, *others = [difference.words for difference in found.differences]
    assert first == (
        "the server calls setsockopt(SO_LINGER, on, 0 s)",
        "without that, the server calls sendall(60,000 B)",
    )
    wire = next(difference for difference in found.differences if difference.on_wire)
    assert wire.words[0].startswith("the server sends RST ACK seq 14481, ack 1")
    assert wire.words[1].startswith("the server sends 1,448 B seq 14481:15929")
    assert any("60,000 B" in other for _, other in others)
    assert found.values == ("linger = 0", "linger = -1")


def test_a_process_end_and_an_explicit_close_send_the_same_packets(lab: Lab) -> None:
    ends = lab.run(late_server, impatient_client, rtt=20)
    closes = lab.run(late_server, impatient_client, rtt=20, explicit=True)
    text = str(contrast(ends, closes))
    assert told(ends, closes) == [
        ("Python calls close() for the client, which has let go of its socket", "the client calls close()")
    ]
    assert "\nOn the wire: the same" in text
    assert text.count("a RST from the client (Data arrived after close)") == 2


def test_one_byte_left_unread_makes_the_difference(lab: Lab) -> None:
    found = contrast(*(lab.run(closing_server, asking_client, rtt=20, read=read) for read in (999, 1000)))
    assert [difference.words for difference in found.differences[:2]] == [
        ("the server calls recv(999), which returns 999 B", "the server calls recv(1000), which returns 1,000 B"),
        ("the server sends RST ACK seq 1, ack 1001 (packet 6)", "the server sends FIN seq 1, ack 1001 (packet 6)"),
    ]
    figure = compare(*found.runs)
    assert {"1 B unread", "The first difference", "first run: read = 999"} <= set(words(figure))
