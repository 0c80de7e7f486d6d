"""The catalogue: why TCP sends RST, as data.

Everything here is about Linux, read in the sources of kernel 6.18 and seen on it running; other
systems differ where it says so. Reasons are those of ``enum sk_rst_reason`` (include/net/rstreason.h)
without their prefix, as the tracepoint tcp:tcp_send_reset prints them.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a RST was sent.

    ``functions`` are the kernel's functions that decide it, ``counters`` those of the sender's
    host that move with it (besides Tcp:OutRsts), ``reasons`` the kernel's own words for it.
    ``errno`` is what the program at the other end gets. ``production`` tells how it looks in
    logs and to clients, ``remedy`` what to do.
    """

    key: str
    title: str
    happens: str
    functions: tuple[str, ...]
    rfc: str
    counters: tuple[str, ...]
    reasons: tuple[str, ...]
    errno: str
    production: str
    remedy: str


_ALL = (
    Cause(
        key="no-listener",
        title="Nobody listens on the port",
        happens="A SYN came for a port on which no socket listens. The kernel refuses it with RST.",
        functions=("tcp_v4_rcv", "tcp_v4_send_reset"),
        rfc="RFC 9293, 3.10.7.1",
        counters=(),
        reasons=("NO_SOCKET",),
        errno="ECONNREFUSED",
        production="Clients say “Connection refused”, at once. The service is down, still starting, on another "
        "port, or bound to another address (127.0.0.1 in a container).",
        remedy="Look at what listens (ss -ltn) and on which address; start the server before its clients, or let "
        "the clients try again.",
    ),
    Cause(
        key="fin-wait2-timed-out",
        title="A late segment came for a connection whose FIN_WAIT2 had timed out",
        happens="This end had closed, and waited in FIN_WAIT2 for the other end's FIN. After tcp_fin_timeout (60 s "
        "by default) the kernel forgot the connection; the next segment, often a keepalive, found no socket.",
        functions=("tcp_time_wait", "tcp_v4_rcv", "tcp_v4_send_reset"),
        rfc="RFC 9293, 3.10.7.1",
        counters=(),
        reasons=("NO_SOCKET", "TCP_FLAGS", "TCP_STATE"),
        errno="EPIPE",
        production="A server that never closes its side of idle connections: CLOSE_WAIT sockets pile up (ss -t state "
        "close-wait) and vanish one by one when their keepalives are reset.",
        remedy="Close the connection when recv() returns nothing (the other end's FIN); a longer tcp_fin_timeout "
        "only moves the RST.",
    ),
    Cause(
        key="data-after-close",
        title="Data came after this end had closed",
        happens="This end had closed its socket, so nobody is left to read. Data that still arrives is answered "
        "with RST, so that the sender learns that it was lost.",
        functions=("tcp_timewait_state_process", "tcp_rcv_state_process", "tcp_v4_send_reset"),
        rfc="RFC 9293, 3.6.1; RFC 1122, 4.2.2.13",
        counters=(),
        reasons=("TCP_TIMEWAIT_SOCKET", "TCP_ABORT_ON_DATA"),
        errno="EPIPE",
        production="“Broken pipe” at the server: the client gave up (a timeout, a closed tab) before the answer was "
        "ready. The first write succeeds, the next one fails.",
        remedy="Make the client's timeout longer than the server's work, or let the server notice the FIN (recv() "
        "returns nothing) and stop. A client that is done sending and wants the answer calls shutdown(SHUT_WR).",
    ),
    Cause(
        key="unread-data",
        title="Closed with unread data",
        happens="A socket was closed while bytes that had arrived were still unread. They are lost, and RST instead "
        "of FIN tells the other end so.",
        functions=("tcp_close", "tcp_send_active_reset"),
        rfc="RFC 2525, 2.17; RFC 1122, 4.2.2.13",
        counters=("TcpExt:TCPAbortOnClose",),
        reasons=("TCP_ABORT_ON_CLOSE",),
        errno="ECONNRESET",
        production="“Connection reset by peer” at clients whose request was not read to its end (a large upload "
        "refused with 413, a killed worker). The answer may be lost as well.",
        remedy="Read to the end before you close: shutdown(SHUT_WR), then recv() until it returns nothing (with a "
        "time limit), then close().",
    ),
    Cause(
        key="linger-zero",
        title="Closed with linger on, 0 seconds",
        happens="The socket had SO_LINGER on with 0 seconds: close() throws away what is unsent or unacknowledged "
        "and sends RST instead of FIN.",
        functions=("tcp_close", "tcp_disconnect", "tcp_send_active_reset"),
        rfc="RFC 9293, 3.10.5",
        counters=("TcpExt:TCPAbortOnData",),
        reasons=("TCP_STATE",),
        errno="ECONNRESET",
        production="“Connection reset by peer” with the tail of an answer missing. Load balancers, health checks and "
        "benchmarks set it to avoid TIME_WAIT (Go: SetLinger(0)).",
        remedy="Do not set linger to 0 except to abort on purpose; the default lets the kernel send the rest after "
        "close().",
    ),
)

CAUSES: dict[str, Cause] = {cause.key: cause for cause in _ALL}
