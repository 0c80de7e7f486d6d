"""The explanation of resets, on traces made by hand."""

from rstkit.explain import explain

from .builder import data_after_close


def test_data_after_close() -> None:
    trace = data_after_close()
    (reset,) = explain(trace)
    assert reset.packet.number == 9
    assert reset.sender == "client"
    assert reset.trigger == trace.packets[7]
    assert reset.call == trace.calls[3]
    assert reset.cause.key == "data-after-close"
