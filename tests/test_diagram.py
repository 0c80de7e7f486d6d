"""The sequence diagram, read from the Figure: what is drawn, where it stands, and that it can be read."""

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest

from rstkit.diagram import MIME, Diagram, sequence_diagram
from rstkit.layers import HEADER_SIZE, LABEL_SIZE, MONO, NOTE_CHARACTER, NOTE_SIZE
from rstkit.tcp import Flags
from rstkit.theme import BANDS, COLOURS, STYLE, SURFACES, TEXTS
from rstkit.timeline import Box, text_width
from rstkit.trace import Call, Packet, Program, State, Trace

from .builder import ADDRESSES, data_after_close, packet

ACK, FIN, PSH, RST, SYN = Flags.ACK, Flags.FIN, Flags.PSH, Flags.RST, Flags.SYN


def handshake() -> list[Packet]:
    return [
        packet(1, "client", 0.001, 0.011, SYN, 0),
        packet(2, "server", 0.0111, 0.0211, SYN | ACK, 0, 1),
        packet(3, "client", 0.0212, 0.0312, ACK, 1, 1),
    ]


def burst() -> Trace:
    """Twenty packets within a millisecond, a wait of a minute, and the answer to that."""
    packets = handshake()
    for i in range(20):
        at = 0.1 + i * 0.00005
        packets.append(packet(4 + i, "client", at, at + 0.01, PSH | ACK, 1 + 100 * i, 1, b"x" * 100))
    packets += [
        packet(24, "server", 60.2, 60.21, PSH | ACK, 1, 2001, b"late"),
        packet(25, "client", 60.2101, 60.2201, RST, 2001),
    ]
    return Trace(tuple(packets), hosts=ADDRESSES)


def lossy() -> Trace:
    """Sixty packets, of which every seventh from the client is lost and sent again."""
    packets, seq = handshake(), 1
    while len(packets) < 60:
        at = 0.1 + len(packets) * 0.004
        if len(packets) % 7 == 0:
            lost = packet(len(packets) + 1, "client", at, None, PSH | ACK, seq, 1, b"x" * 1448, lost="lost at random")
            packets.append(lost)
            at += 0.2
        packets.append(packet(len(packets) + 1, "client", at, at + 0.01, PSH | ACK, seq, 1, b"x" * 1448))
        seq += 1448
        packets.append(packet(len(packets) + 1, "server", at + 0.01, at + 0.02, ACK, 1, seq))
    return Trace(tuple(sorted(packets, key=lambda p: p.sent)), hosts=ADDRESSES)


def refused() -> Trace:
    syn = packet(1, "client", 0.001, 0.011, SYN, 0)
    answer = packet(2, "server", 0.0111, 0.0211, RST | ACK, 0, 1)._replace(seq=0)
    there = syn.destination
    calls = (
        Call(
            1,
            "client",
            9,
            "connect",
            str(there),
            0.0009,
            0.0212,
            errno="ECONNREFUSED",
            error="ConnectionRefusedError: [Errno 111] Connection refused",
            socket=1,
            peer=there,
        ),
    )
    return Trace((syn, answer), calls=calls, hosts=ADDRESSES)


def unread() -> Trace:
    """The server closes with nine thousand bytes unread."""
    data = packet(4, "client", 0.0213, 0.0313, PSH | ACK, 1, 1, b"x" * 900)
    packets = (
        *handshake(),
        data,
        packet(5, "server", 0.0314, 0.0414, ACK, 1, 901),
        packet(6, "server", 0.5, 0.51, RST | ACK, 1, 901),
    )
    there, here = data.destination, data.source
    calls = (
        Call(1, "server", 9, "accept", "", 0.0001, 0.0313, result=str(here), socket=1, local=there),
        Call(2, "server", 9, "sleep", "0.5", 0.0314, 0.4998),
        Call(3, "server", 9, "close", "", 0.4999, 0.5, socket=2, local=there, peer=here),
    )
    states = (
        State("server", 0.0001, there, None, "LISTEN"),
        State("server", 0.0313, there, here, "ESTABLISHED"),
        State("server", 0.0314, there, here, "ESTABLISHED", unread=900),
        State("server", 0.5001, there, here, "CLOSED"),
    )
    programs = (Program("server", "server", "def server(address): ...", True, 0.0, 0.52, 0),)
    return Trace(packets, calls, states, programs=programs, hosts=ADDRESSES)


def hung() -> Trace:
    calls = (Call(1, "client", 9, "recv", "1024", 0.03, socket=1),)
    return Trace(tuple(handshake()), calls, hosts=ADDRESSES, outcome="duration over", duration=5.0)


def two_connections() -> Trace:
    first = data_after_close()
    again = tuple(
        p._replace(number=p.number + 9, sent=p.sent + 2, arrived=(p.arrived or 0) + 2, source=p.source._replace(port=5))
        if p.sender == "client"
        else p._replace(
            number=p.number + 9,
            sent=p.sent + 2,
            arrived=(p.arrived or 0) + 2,
            destination=p.destination._replace(port=5),
        )
        for p in first.packets
    )
    return replace(first, packets=first.packets + again)


TRACES = {
    "data after close": data_after_close(),
    "burst": burst(),
    "lossy": lossy(),
    "refused": refused(),
    "unread": unread(),
    "hung": hung(),
    "two connections": two_connections(),
    "packets only": Trace(data_after_close().packets),
    "one host's calls": replace(
        data_after_close(), packets=(), calls=tuple(c for c in data_after_close().calls if c.host == "client")
    ),
    "nothing": Trace(()),
}


def layer(figure: Diagram, name: str) -> Any:
    return next(trace for trace in figure.data if trace.uid == f"rstkit-{name}")


def layers(figure: Diagram, kind: str) -> list[Any]:
    return [trace for trace in figure.data if trace.uid.split("-")[2] == kind]


def texts(figure: Diagram) -> list[tuple[str, Box]]:
    """All texts, with the boxes that they take at the figure's own width; state names aside."""
    found = []
    for trace in figure.data:
        if trace.mode != "text":
            continue
        for x, y, text in zip(trace.x, trace.y, trace.text, strict=True):
            rows = text.replace("<b>", "").replace("</b>", "").split("<br>")
            rows = [row.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") for row in rows]
            if trace.textfont.family == MONO:
                wide = max(map(len, rows)) * NOTE_CHARACTER
            else:
                wide = max(text_width(row, trace.textfont.size) for row in rows)
            half = trace.textfont.size * 1.3 * len(rows) / 2 - 2
            left = {"middle left": x - wide, "middle right": x, "middle center": x - wide / 2}[trace.textposition]
            found.append((" | ".join(rows), Box(left, y - half, left + wide, y + half)))
    return found


def words(figure: Diagram) -> list[str]:
    return [text for text, _ in texts(figure)]


def arrows(figure: Diagram) -> list[tuple[float, float, float, float]]:
    """The arrows from the top, each from its tail to its head."""
    found = []
    for trace in layers(figure, "head"):
        for i in range(0, len(trace.x), 3):
            found.append((trace.x[i], trace.y[i], trace.x[i + 1], trace.y[i + 1]))
    return sorted(found, key=lambda arrow: arrow[1])


@pytest.mark.parametrize("name", TRACES)
@pytest.mark.parametrize("mode", [{}, {"raw": True}, {"true_scale": True}])
def test_texts_never_overlap_and_are_never_cut(name: str, mode: dict[str, bool]) -> None:
    figure = sequence_diagram(TRACES[name], **mode)
    found = texts(figure)
    assert found
    clashes = [(a, b) for (a, one), (b, other) in itertools.combinations(found, 2) if one.overlaps(other)]
    assert clashes == []
    width, (bottom, top) = figure.layout.xaxis.range[1], figure.layout.yaxis.range
    assert [text for text, box in found if box.left < 0 or box.right > width] == []
    assert [text for text, box in found if box.top < top or box.bottom > bottom] == []
    assert figure.layout.height == pytest.approx(bottom - top, abs=1)


@pytest.mark.parametrize("name", TRACES)
def test_every_packet_has_its_arrow_and_every_text_its_size(name: str) -> None:
    trace = TRACES[name]
    figure = sequence_diagram(trace)
    crosses = sum(len(cross.x) // 3 for cross in layers(figure, "cross"))
    assert len(arrows(figure)) == sum(p.arrived is not None for p in trace.packets)
    assert crosses == sum(p.arrived is None for p in trace.packets)
    assert all(t.textfont.size >= 13 for t in figure.data if t.mode == "text")


def test_every_packet_of_a_plain_trace_has_its_label() -> None:
    labels = [text for text in words(sequence_diagram(data_after_close())) if "seq" in text or "ACK" in text]
    assert sorted(labels) == [
        "11 B seq 1:12",
        "11 B seq 1:12",
        "ACK 1",
        "ACK 12",
        "ACK 13",
        "FIN seq 12, ack 1",
        "RST seq 13",
        "SYN ACK seq 0, ack 1",
        "SYN seq 0",
    ]


def test_arrows_go_from_the_sender_down_to_the_receiver() -> None:
    trace = data_after_close()
    figure = sequence_diagram(trace)
    for packet_, (x0, y0, x1, y1) in zip(trace.packets[:5], arrows(figure)[:5], strict=True):
        assert (x0 < x1) == (packet_.sender == "client")
        assert y1 - y0 >= 48
    tails = {arrow[0] for arrow in arrows(figure)}
    heads = {arrow[2] for arrow in arrows(figure)}
    assert len(tails) == len(heads) == 2


def test_the_rst_is_the_heaviest() -> None:
    figure = sequence_diagram(data_after_close())
    widths = {trace.uid: trace.line.width for trace in layers(figure, "line")}
    assert max(widths, key=lambda uid: widths[uid]) == "rstkit-RST-line"
    assert widths["rstkit-RST-line"] == 4
    assert layers(figure, "line")[-1].uid == "rstkit-RST-line"  # on top


def test_the_rst_is_joined_to_the_packet_that_provoked_it() -> None:
    figure = sequence_diagram(data_after_close())
    trigger, rst = arrows(figure)[-2:]
    join = layer(figure, "RST-join")
    assert list(join.y) == [rst[1], trigger[3], None]
    assert join.x[0] == join.x[1]
    area = layer(figure, "highlight-area")
    assert min(y for y in area.y if y is not None) < trigger[1]
    assert max(y for y in area.y if y is not None) > rst[3]


def test_the_rst_is_joined_to_the_call_that_provoked_it() -> None:
    figure = sequence_diagram(unread())
    calls = layer(figure, "RST-note-right")
    assert list(calls.text) == ["close()"]
    join = layer(figure, "RST-join")
    assert join.y[-2] == calls.y[0]
    assert join.y[0] == arrows(figure)[-1][1]
    assert join.x[-2] < calls.x[0]


def test_calls_states_and_queues_stand_beside_the_lifelines() -> None:
    figure = sequence_diagram(unread())
    assert {"accept()", "→ 10.0.0.1:54892", "sleep(0.5)", "close()", "900 B unread"} <= set(words(figure))
    assert [note.text for note in figure.layout.annotations] == ["LISTEN", "ESTAB"]
    assert {trace.uid for trace in layers(figure, "band")} == {"rstkit-listening-band", "rstkit-open-band"}
    assert len(layer(figure, "muted-dots").x) > 0


def test_a_close_tells_what_its_socket_held() -> None:
    trace = unread()
    *others, close = trace.calls
    close = replace(close, unread=901, unsent=12_000, unacked=30)
    shown = words(sequence_diagram(replace(trace, calls=(*others, close))))
    assert "901 B unread | 12,000 B unsent | 30 B unacknowledged" in shown


def test_a_failed_call_has_the_colour_of_the_rst() -> None:
    figure = sequence_diagram(refused())
    assert list(layer(figure, "RST-note-left").text) == ["→ ECONNREFUSED<br>Connection refused"]
    assert "connect(10.0.0.2:8080)" in words(figure)


def test_a_call_that_never_returned_and_the_end_of_the_run() -> None:
    shown = words(sequence_diagram(hung()))
    assert {"recv(1024)", "→ never returned", "the run ended: duration over", "⋯ 4.97 s of silence ⋯"} <= set(shown)


def test_silence_is_folded_unless_the_true_scale_is_wanted() -> None:
    assert "⋯ 60.1 s of silence ⋯" in words(sequence_diagram(burst()))
    figure = sequence_diagram(burst(), true_scale=True)
    assert not any("silence" in text for text in words(figure))
    tails = {y for _, y, _, _ in arrows(figure)}
    assert (max(tails) - min(tails)) / figure.layout.height > 0.8


def test_a_burst_has_a_row_and_a_label_for_each_packet() -> None:
    figure = sequence_diagram(burst())
    assert len([text for text in words(figure) if text.startswith("100 B seq")]) == 20
    tails = sorted(y for x, y, *_ in arrows(figure) if x == arrows(figure)[0][0])
    assert all(b - a >= 18 - 0.2 for a, b in itertools.pairwise(tails))


def test_a_lost_packet_ends_midway_in_a_cross_with_the_reason() -> None:
    trace = lossy()
    figure = sequence_diagram(trace)
    right = max(max(arrow[0], arrow[2]) for arrow in arrows(figure))
    left = min(min(arrow[0], arrow[2]) for arrow in arrows(figure))
    crosses = layer(figure, "data-cross")
    for x in crosses.x[1::3]:
        assert left + 0.3 * (right - left) < x < left + 0.5 * (right - left)
    assert sum("lost at random" in text for text in words(figure)) == sum(p.arrived is None for p in trace.packets)
    assert layer(figure, "retransmission-line").line.dash == "7px,4px"


def test_raw_sequence_numbers() -> None:
    shown = words(sequence_diagram(data_after_close(), raw=True))
    assert "RST seq 3000000013" in shown
    assert not any(text == "RST seq 13" for text in shown)


def test_several_connections_are_told_apart() -> None:
    shown = words(sequence_diagram(two_connections()))
    assert "2 connections, states of port 54892" in shown
    assert {"54892: RST seq 13", "5: RST seq 13"} <= set(shown)


def test_hovering_tells_everything() -> None:
    hover = "\n".join(layer(sequence_diagram(data_after_close()), "text-hover").hovertext)
    for piece in (
        "<b>Packet 9: RST seq 13</b>",
        "raw 3000000013",
        "TTL 64",
        "68 65 6c 6c 6f",
        "<b>send(b'again')</b>",
        "<b>FIN_WAIT2</b> on the client",
        "unacknowledged 11 B",
        "BrokenPipeError: [Errno 32] Broken pipe",
    ):
        assert piece in hover


def test_a_program_without_recorded_calls_is_named() -> None:
    program = Program("server", "nginx", "nginx -g daemon", False, 0.0)
    assert "nginx: | calls not recorded" in [
        text.replace("nginx: calls", "nginx: | calls")
        for text in words(sequence_diagram(Trace((), programs=(program,))))
    ]


def test_nothing_from_outside_becomes_markup() -> None:
    evil = "<script>alert(1)</script><a href='http://x'>$\\alpha$\x1b[2J\u202e\udcff" + "x" * 5000
    trace = data_after_close()
    program = replace(trace.programs[0], name=evil, traceback=evil, output=evil, signal=evil)
    calls = tuple(replace(call, arguments=evil, result=evil, error=evil, name=evil) for call in trace.calls)
    states = tuple(replace(state, state=evil) for state in trace.states)
    packets = (
        *trace.packets[:-2],
        packet(8, "server", 1.062, None, PSH | ACK, 1, 13, evil.encode(errors="replace"), lost=evil),
        trace.packets[-1],
    )
    hostile = replace(trace, packets=packets, calls=calls, states=states, programs=(program,), outcome=evil)
    hostile = replace(hostile, hosts={"client": evil, "server": evil})
    figure = sequence_diagram(hostile)
    document = figure.to_json()
    document.encode()
    data = json.loads(document)["data"]
    shown = [text for trace_ in data for text in (*trace_.get("text", ()), *trace_.get("hovertext", ()))]
    shown += [note.text for note in figure.layout.annotations]
    for text in shown:
        for tag in ("<b>", "</b>", "<br>"):
            text = text.replace(tag, "")  # noqa: PLW2901
        assert not set(text) & set("<>$")
        assert text.isprintable()
        assert len(text) < 4000
    assert figure.layout.xaxis.range[1] < 1500


def test_two_thousand_packets_are_a_few_plotly_traces() -> None:
    packets = handshake()
    for i in range(1000):
        at = 0.1 + i * 0.001
        packets.append(packet(4 + 2 * i, "client", at, at + 0.01, PSH | ACK, 1 + 100 * i, 1, b"x" * 100))
        packets.append(packet(5 + 2 * i, "server", at + 0.01, at + 0.02, ACK, 1, 101 + 100 * i))
    packets.append(packet(2004, "server", 2.0, 2.01, RST, 1))
    figure = sequence_diagram(Trace(tuple(packets), hosts=ADDRESSES))
    assert len(figure.data) < 40
    assert len(figure.layout.annotations) == 0
    assert figure.layout.height < 20_000
    assert "RST seq 1" in words(figure)
    assert "drag to zoom, hover for hidden labels" in words(figure)
    assert figure.layout.dragmode == "zoom"


def test_it_shows_itself_with_its_style_and_without_a_mode_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, **_: shown.append(bundle))
    figure = sequence_diagram(data_after_close())
    figure._ipython_display_()
    style, bundle = shown
    assert style["text/html"] == STYLE
    assert bundle[MIME]["config"] == {"displayModeBar": False}
    assert {trace["uid"] for trace in bundle[MIME]["data"]} == {trace.uid for trace in figure.data}
    json.dumps(bundle)


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1])
def test_texts_have_contrast_in_both_themes(theme: int) -> None:
    for name, text in TEXTS.items():
        for surface in ("paper", "highlight"):
            assert contrast(text[theme], SURFACES[surface][theme]) >= 4.5, (name, surface)
    for name, band in BANDS.items():
        assert contrast(TEXTS["text"][theme], band[theme]) >= 4.5, name


@pytest.mark.parametrize("name", TRACES)
def test_the_style_knows_every_colour_of_a_figure(name: str) -> None:
    for trace in sequence_diagram(TRACES[name]).data:
        colour = trace.uid.removeprefix("rstkit-").split("-")[0]
        assert f'[class*="tracerstkit-{colour}-"]' in STYLE
        assert COLOURS[colour].dark in STYLE


def test_the_sizes_can_be_read_from_the_back_row() -> None:
    assert min(LABEL_SIZE, NOTE_SIZE, HEADER_SIZE) >= 13
