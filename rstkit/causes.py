"""The catalogue: why TCP sends RST, as data.

Everything here is about Linux, read in the sources of kernel 6.18 and seen on it running; other
systems differ where it says so. Reasons are those of ``enum sk_rst_reason`` (include/net/rstreason.h)
without their prefix, as the tracepoint tcp:tcp_send_reset prints them. Functions named tcp_v4_… have a
twin tcp_v6_… for IPv6.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a RST was sent; in its texts, “this end” is the sender of the RST.

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
        production="Clients say “Connection refused”, at once. The service is down, still starting, on another port, "
        "or bound to another address (127.0.0.1 in a container).",
        remedy="See what listens, and on which address (ss -ltn). Start the server before its clients, or let the "
        "clients try again.",
    ),
    Cause(
        key="fin-wait2-timed-out",
        title="A segment came after FIN_WAIT2 had timed out",
        happens="This end had closed, and waited in FIN_WAIT2 for the other end's FIN. After tcp_fin_timeout (60 s by "
        "default) its kernel forgot the connection; the next segment, often a keepalive, found no socket.",
        functions=("tcp_fin_time", "tcp_time_wait", "tcp_v4_rcv", "tcp_v4_send_reset"),
        rfc="RFC 9293, 3.10.7.1",
        counters=(),
        reasons=("NO_SOCKET", "TCP_FLAGS", "TCP_STATE"),
        errno="EPIPE",
        production="A server that never closes its side of finished connections: sockets pile up in CLOSE_WAIT "
        "(ss -t state close-wait) and go one by one as their keepalives are reset.",
        remedy="Close the connection once recv() has returned nothing (the other end's FIN). A longer "
        "tcp_fin_timeout only moves the RST.",
    ),
    Cause(
        key="data-after-close",
        title="Data arrived after close",
        happens="This end had closed its socket, so nobody is left to read. Data that still arrives is answered with "
        "RST, to tell its sender that it was lost.",
        functions=("tcp_timewait_state_process", "tcp_rcv_state_process", "tcp_v4_send_reset"),
        rfc="RFC 9293, 3.6.1",
        counters=(),
        reasons=("TCP_TIMEWAIT_SOCKET", "TCP_ABORT_ON_DATA"),
        errno="EPIPE",
        production="“Broken pipe” in a server's log: the client had given up (a timeout, a closed tab) before the "
        "answer was ready. The first write succeeds, a later one fails.",
        remedy="Give the client a longer timeout than the server's work takes, or let the server notice the FIN "
        "(recv() returns nothing) and stop. A client that is done sending but wants the answer calls "
        "shutdown(SHUT_WR), not close().",
    ),
    Cause(
        key="unread-data",
        title="Closed with unread data",
        happens="A socket was closed while bytes that had arrived were still unread. They are thrown away, and RST in "
        "place of FIN tells the other end so.",
        functions=("__tcp_close", "tcp_send_active_reset"),
        rfc="RFC 9293, 3.6.1; RFC 2525, 2.17",
        counters=("TcpExt:TCPAbortOnClose",),
        reasons=("TCP_ABORT_ON_CLOSE",),
        errno="ECONNRESET",
        production="“Connection reset by peer” at clients whose request was not read to its end: a large upload "
        "refused with 413, a worker that was killed. The answer may be lost as well.",
        remedy="Read to the end before you close: shutdown(SHUT_WR), then recv() until it returns nothing (with a "
        "time limit), then close().",
    ),
    Cause(
        key="linger-zero",
        title="Closed with linger on, 0 seconds",
        happens="The socket had SO_LINGER on with 0 seconds. Closing it throws away what is unsent or unacknowledged, "
        "and sends RST in place of FIN.",
        functions=("__tcp_close", "tcp_disconnect", "tcp_send_active_reset"),
        rfc="RFC 9293, 3.10.5",
        counters=("TcpExt:TCPAbortOnData",),
        reasons=("TCP_STATE", "TCP_DISCONNECT_WITH_DATA"),
        errno="ECONNRESET",
        production="“Connection reset by peer” with the tail of an answer missing. Load balancers, health checks and "
        "benchmarks set it to avoid TIME_WAIT (Go: SetLinger(0)).",
        remedy="Leave linger alone unless you mean to abort; by default the kernel sends the rest after close().",
    ),
    Cause(
        key="ack-to-listener",
        title="An ACK reached a listening socket that knows no such connection",
        happens="A segment with ACK came for a port that listens, and belongs to no connection and no handshake that "
        "this kernel knows. A listener accepts SYNs alone.",
        functions=("tcp_rcv_state_process", "tcp_v4_send_reset"),
        rfc="RFC 9293, 3.10.7.2",
        counters=(),
        reasons=("TCP_FLAGS",),
        errno="ECONNRESET",
        production="A handshake that expired because the accept queue stayed full, a client that still talks to a "
        "server's earlier life, or a scan with bare ACKs.",
        remedy="Look at the accept queue (ss -ltn, Recv-Q) and at ListenOverflows (nstat -az), and whether the server "
        "was restarted.",
    ),
    Cause(
        key="accept-queue-overflow",
        title="The accept queue was full",
        happens="The last ACK of the handshake came while the accept queue was full, and tcp_abort_on_overflow was 1. "
        "With 0, the default, the ACK is ignored and no RST is sent.",
        functions=("tcp_v4_syn_recv_sock", "tcp_check_req"),
        rfc="RFC 9293, 3.5.2",
        counters=("TcpExt:EmbryonicRsts", "TcpExt:ListenOverflows"),
        reasons=("INVALID_SYN",),
        errno="ECONNRESET",
        production="Under load, connect() succeeds and the first send or recv says “Connection reset by peer”.",
        remedy="Accept faster, or raise the backlog of listen() and net.core.somaxconn.",
    ),
    Cause(
        key="syn-to-orphan",
        title="A SYN reached a connection that still waited for a FIN",
        happens="This end had closed, and waited in FIN_WAIT2 for the other end's FIN. In its place came a SYN from "
        "the same port, with a number that fits into the old connection's window: RST, even if somebody listens.",
        functions=("tcp_timewait_state_process", "tcp_v4_send_reset"),
        rfc="RFC 9293, 3.10.7.4",
        counters=(),
        reasons=("TCP_TIMEWAIT_SOCKET",),
        errno="ECONNREFUSED",
        production="“Connection refused” now and then, although the server listens: a client that vanished without a "
        "FIN, or forgot it, and soon used its port again.",
        remedy="Try again: the RST cleared the old connection away. Find out why the client's FIN never came.",
    ),
    Cause(
        key="unacceptable-ack",
        title="A connecting socket got an ACK for something it never sent",
        happens="This end had sent a SYN; the answer acknowledged something else. The other end still held an older "
        "connection on the same addresses and ports: RST clears it away, and the next SYN gets through.",
        functions=("tcp_rcv_synsent_state_process", "tcp_v4_send_reset"),
        rfc="RFC 9293, 3.10.7.3; RFC 5961, 4.2",
        counters=(),
        reasons=("TCP_INVALID_ACK_SEQUENCE",),
        errno="ECONNRESET",
        production="A host that restarted, or a port that was reused soon. The old connection ends with “Connection "
        "reset by peer”; the new one takes one more SYN.",
        remedy="None needed: the handshake recovers by itself. Keepalives clear the old connections away sooner.",
    ),
    Cause(
        key="data-after-shutdown",
        title="Data arrived after shutdown(SHUT_RDWR)",
        happens="This end had called shutdown(SHUT_RDWR) and kept the socket open. It said that it would read no more, "
        "so new data is answered with RST.",
        functions=("tcp_rcv_state_process", "tcp_v4_send_reset"),
        rfc="RFC 9293, 3.6.1",
        counters=("TcpExt:TCPAbortOnData",),
        reasons=("TCP_ABORT_ON_DATA",),
        errno="EPIPE",
        production="“Broken pipe” at a peer that was still sending when both directions were shut down.",
        remedy="Call shutdown(SHUT_WR) and read until recv() returns nothing.",
    ),
    Cause(
        key="linger2-negative",
        title="TCP_LINGER2 was negative",
        happens="The socket had TCP_LINGER2 below 0: it was not to wait in FIN_WAIT2 for the other end's FIN at all, "
        "and sent RST where the waiting would have begun.",
        functions=("__tcp_close", "tcp_rcv_state_process"),
        rfc="RFC 9293, 3.10.4",
        counters=("TcpExt:TCPAbortOnLinger", "TcpExt:TCPAbortOnData"),
        reasons=("TCP_ABORT_ON_LINGER", "TCP_ABORT_ON_DATA"),
        errno="EPIPE",
        production="Rare: a program asked for it (tcp(7)).",
        remedy="Leave TCP_LINGER2 at its default, or set it to a few seconds.",
    ),
    Cause(
        key="keepalive-timeout",
        title="The keepalive probes were not answered",
        happens="The connection was idle, and keepalive probes (TCP_KEEPCNT of them, or for TCP_USER_TIMEOUT) got "
        "no answer. The kernel gave the connection up, told the other end by RST and the program by ETIMEDOUT.",
        functions=("tcp_keepalive_timer", "tcp_send_active_reset", "tcp_write_err"),
        rfc="RFC 9293, 3.8.4",
        counters=("TcpExt:TCPAbortOnTimeout",),
        reasons=("TCP_KEEPALIVE_TIMEOUT",),
        errno="ECONNRESET",
        production="“Connection timed out” at this end. The other end is dead or cut off, or a device between them "
        "forgot the idle connection, so the RST seldom arrives.",
        remedy="Find out why the probes went unanswered. Probe more often than the devices on the way forget.",
    ),
    Cause(
        key="listener-closed",
        title="The listener was closed with connections not yet accepted",
        happens="The handshake had ended in the kernel, or was about to, but the program had not accepted the "
        "connection when its listening socket was closed. Nobody would ever serve it.",
        functions=("inet_csk_listen_stop", "inet_child_forget", "tcp_disconnect"),
        rfc="RFC 9293, 3.10.5",
        counters=(),
        reasons=("TCP_STATE", "NO_SOCKET"),
        errno="ECONNRESET",
        production="Resets at each restart of a busy server: connect() had succeeded, then “Connection reset by peer”.",
        remedy="Take the server out of the load balancer first; accept what waits before you close the listener, or "
        "hand the listener over to the new process.",
    ),
    Cause(
        key="disconnect",
        title="The program dissolved the connection with connect(AF_UNSPEC)",
        happens="connect() with the address family AF_UNSPEC on a connected socket dissolves the connection: unsent "
        "data is thrown away and RST sent. The socket stays open.",
        functions=("tcp_disconnect", "tcp_send_active_reset"),
        rfc="RFC 9293, 3.10.5",
        counters=(),
        reasons=("TCP_STATE", "TCP_DISCONNECT_WITH_DATA"),
        errno="ECONNRESET",
        production="Rare: a library that uses sockets again (connect(2)).",
        remedy="Use close() and a new socket.",
    ),
    Cause(
        key="socket-killed",
        title="An administrator killed the socket",
        happens="ss -K, or another tool with the right to do it, had the kernel abort the connection (SOCK_DESTROY).",
        functions=("tcp_abort", "tcp_send_active_reset"),
        rfc="RFC 9293, 3.10.5",
        counters=(),
        reasons=("TCP_STATE",),
        errno="ECONNRESET",
        production="At this end the program gets ECONNABORTED, “Software caused connection abort”; the other end "
        "“Connection reset by peer”.",
        remedy="Ask who ran ss -K, or what on the host destroys sockets (Android does when a network changes).",
    ),
    Cause(
        key="orphan-memory",
        title="Too many orphaned sockets, or no memory for them",
        happens="A closed socket still had to deliver data or wait for the other end, but the kernel had too many such "
        "orphans (tcp_max_orphans) or too little memory for them, and aborted it.",
        functions=("tcp_check_oom", "tcp_out_of_resources", "tcp_send_active_reset"),
        rfc="RFC 9293, 3.10.5",
        counters=("TcpExt:TCPAbortOnMemory",),
        reasons=("TCP_ABORT_ON_MEMORY",),
        errno="ECONNRESET",
        production="“TCP: too many orphaned sockets” or “TCP: out of memory” in the kernel's log (dmesg).",
        remedy="Find the peers that do not close; then raise tcp_max_orphans or tcp_mem.",
    ),
    Cause(
        key="connect-aborted",
        title="The connecting socket was gone when the SYN ACK came",
        happens="This end had sent a SYN; before the answer came its program gave up: it closed the socket, or ended. "
        "A SYN made by hand, as port scanners do, looks the same.",
        functions=("tcp_v4_rcv", "tcp_v4_send_reset"),
        rfc="RFC 9293, 3.10.7.1",
        counters=(),
        reasons=("NO_SOCKET",),
        errno="",
        production="Clients whose connect timeout is shorter than the round trip or than the server's delay. The "
        "server's program never hears of it.",
        remedy="Give connect() more time, or find out what delays the SYN ACK.",
    ),
    Cause(
        key="half-open-scan",
        title="A half-open port scan",
        happens="A SYN was made by hand, to see whether the port is open. The kernel of the host it came from knows "
        "nothing of it, and answers the SYN ACK with RST.",
        functions=("tcp_v4_rcv", "tcp_v4_send_reset"),
        rfc="RFC 9293, 3.10.7.1",
        counters=(),
        reasons=("NO_SOCKET",),
        errno="",
        production="Many ports or many hosts asked by one address, each with one SYN that has few options or none "
        "(nmap -sS, masscan). The server's program never hears of it.",
        remedy="See whose address it is. A load balancer that asks one port again and again does no harm; a port that "
        "should not be found belongs behind a firewall.",
    ),
    Cause(
        key="unknown-connection",
        title="The host knows nothing of this connection",
        happens="A segment came for a connection that this kernel does not have: the host restarted, its FIN or RST "
        "got lost, or the segment reached another host than the one that held the connection.",
        functions=("tcp_v4_rcv", "tcp_v4_send_reset"),
        rfc="RFC 9293, 3.5.1",
        counters=(),
        reasons=("NO_SOCKET", "TCP_FLAGS"),
        errno="ECONNRESET",
        production="“Connection reset by peer” on long-lived, often idle connections after a restart, a failover or a "
        "change of addresses.",
        remedy="Let clients connect again by themselves. Keepalives find dead connections before a request does.",
    ),
    Cause(
        key="gave-up",
        title="Given up earlier, without a word",
        happens="Its segments had long gone unacknowledged, and its kernel gave the connection up: after "
        "TCP_USER_TIMEOUT or too many retransmissions, without RST. What came later found no socket.",
        functions=("tcp_write_timeout", "tcp_write_err", "tcp_v4_send_reset"),
        rfc="RFC 9293, 3.8.3",
        counters=("TcpExt:TCPAbortOnTimeout",),
        reasons=("NO_SOCKET", "TCP_FLAGS"),
        errno="ECONNRESET",
        production="“Connection timed out” at this end, and long after it “Connection reset by peer” at the other.",
        remedy="Look for the loss on the way: one direction worked, the other did not.",
    ),
    Cause(
        key="retransmission-timeout",
        title="Its retransmissions were not answered",
        happens="This end sent a segment again and again, got no acknowledgment, and gave the connection up with RST, "
        "as BSD and macOS do (tcp_drop). Linux gives up without one.",
        functions=(),
        rfc="RFC 9293, 3.8.3",
        counters=(),
        reasons=(),
        errno="ECONNRESET",
        production="“Connection timed out” at this end. The other end is dead or cut off, so the RST seldom arrives.",
        remedy="Look for the loss on the way: one direction worked, the other did not.",
    ),
    Cause(
        key="after-normal-close",
        title="A segment came after both ends had closed",
        happens="Both ends had sent FIN. A segment that came after that, a duplicate or one that was delayed, found no "
        "socket. Nothing is lost.",
        functions=("tcp_v4_rcv", "tcp_v4_send_reset"),
        rfc="RFC 9293, 3.10.7.1",
        counters=(),
        reasons=("NO_SOCKET", "TCP_FLAGS"),
        errno="",
        production="Resets in captures and in counters that no program notices.",
        remedy="None needed.",
    ),
    Cause(
        key="hurried-close",
        title="Aborted after the other end had closed",
        happens="The other end had sent its FIN, and all data of both had arrived. In place of a FIN of its own this "
        "end sent RST: a client in a hurry, that spares itself the rest of the closing.",
        functions=("__tcp_close", "tcp_send_active_reset"),
        rfc="RFC 9293, 3.10.5",
        counters=(),
        reasons=(),
        errno="",
        production="Health checks, connection pools, and clients that set linger 0 or do not read all. A program that "
        "had closed notices nothing.",
        remedy="Harmless: none needed. A peer that had only shut down its sending side (SHUT_WR) sees ECONNRESET; then "
        "let this end close without linger 0, and read all before.",
    ),
    Cause(
        key="firewall-reject",
        title="A firewall rejected the packet with RST",
        happens="A rule of a firewall, on the host or in front of it, answers with a RST of its own making (Linux: "
        "REJECT --reject-with tcp-reset, nftables: reject with tcp reset).",
        functions=("nf_send_reset", "nf_reject_ip_tcphdr_put"),
        rfc="RFC 9293, 3.5.2",
        counters=(),
        reasons=(),
        errno="ECONNREFUSED",
        production="“Connection refused” although the server listens; another TTL than the server's packets have.",
        remedy="Read the rules' counters on the way (nft list ruleset, iptables -L -v -n).",
    ),
    Cause(
        key="state-lost",
        title="A device on the way had forgotten the idle connection",
        happens="The connection was idle, and a NAT, firewall or load balancer between the ends dropped it from its "
        "table. The next segment belonged to nothing that it knew, and it answered with RST.",
        functions=(),
        rfc="RFC 5382, 5",
        counters=(),
        reasons=(),
        errno="ECONNRESET",
        production="Resets on the first use after a pause: database pools, SSH sessions, long polls. The pauses are "
        "longer than a limit that the device has (minutes, as a rule).",
        remedy="Send keepalives more often than the device forgets (TCP_KEEPIDLE), or raise its limit; give a pool a "
        "shorter idle time than the device's.",
    ),
    Cause(
        key="injected",
        title="The RST did not come from the end that it names",
        happens="A device on the way, or an attacker, sent a RST in the name of this end: a load balancer or NAT that "
        "ended an idle connection, an intrusion prevention system, a forgery.",
        functions=(),
        rfc="RFC 5961, 3",
        counters=(),
        reasons=(),
        errno="ECONNRESET",
        production="Both ends may say that the other one reset the connection. The RST's TTL or IP id does not fit, or "
        "its “sender” goes on sending.",
        remedy="Capture at both ends and compare: a RST that arrives but was never sent was made on the way.",
    ),
    Cause(
        key="other",
        title="A cause that this catalogue does not know",
        happens="What was seen fits none of the known causes.",
        functions=(),
        rfc="RFC 9293, 3.5.2",
        counters=(),
        reasons=(),
        errno="ECONNRESET",
        production="",
        remedy="Look up the kernel's reason in include/net/rstreason.h, and capture at both ends.",
    ),
)

CAUSES: dict[str, Cause] = {cause.key: cause for cause in _ALL}
"""The catalogue by key, the five situations of the course first."""
