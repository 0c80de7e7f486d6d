"""What the numbers of a capture's packets show: that some were not captured."""

from collections.abc import Sequence

from .tcp import Flags
from .trace import Packet
from .view import View

NEAR = 1 << 20  # bytes that an end may have sent unseen; what is farther off is another connection's


def lacks_sent(view: View) -> bool:
    """Whether the other end acknowledged more than the end that sent the RST was seen to send."""
    acks = (p.ack for p in _of_this(view) if p.source != view.rst.source and p.flags & Flags.ACK)
    return view.captured and any(0 < (ack - view.next_to_send) % 2**32 < NEAR for ack in acks)


def is_incomplete(view: View) -> bool:
    """Whether some packets of either end are missing: acknowledged, or before others in their stream."""
    packets, ends = _of_this(view), (view.rst.source, view.rst.destination)
    holes = (_has_holes([p for p in packets if p.source == end]) for end in ends)
    return lacks_sent(view) or (view.captured and any(holes))


def _of_this(view: View) -> list[Packet]:
    """The packets until the end sends something else than RST again: what it may have opened anew is left out."""
    rst = view.rst
    later = (p for p in view.conversation if p.source == rst.source and p.number > rst.number)
    end = next((p.number for p in later if not p.flags & Flags.RST), None)
    return [p for p in view.conversation if end is None or p.number < end]


def _has_holes(packets: Sequence[Packet]) -> bool:
    """Whether numbers are missing between those of an end's packets, whatever order these were captured in."""
    # a RST that answers has another's number, or none
    numbered = [p for p in packets if not p.flags & Flags.RST or (p.flags & Flags.ACK and p.seq)]
    if not numbered:
        return False
    base = numbered[0].seq
    apart = sorted(((p.seq - base + 2**31) % 2**32, p.next_seq - p.seq) for p in numbered)
    reached = apart[0][0]
    for seq, length in apart:
        if seq > reached:
            return True
        reached = max(reached, seq + length % 2**32)
    return False
