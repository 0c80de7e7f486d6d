"""The geometry of the diagram: heights that grow with time, folds, and places for texts."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstkit.timeline import FLIGHT, FOLD, Box, Fold, Ground, Mark, Timeline, clock, lay_out, typical_flight

moments = st.floats(0, 100, allow_nan=False)


def test_a_flight_falls_its_pixels() -> None:
    timeline = lay_out([Mark(0, flying=1), Mark(0.02, flying=-1)], 0.02)
    assert timeline == Timeline((0.0, FLIGHT), (), FLIGHT, 1.0)


def test_a_long_silence_becomes_a_fold() -> None:
    timeline = lay_out([Mark(0, flying=1), Mark(0.02, flying=-1), Mark(60.02)], 0.02)
    assert timeline.heights == (0.0, FLIGHT, FLIGHT + FOLD)
    assert timeline.folds == (Fold(60.0, FLIGHT, FLIGHT + FOLD),)


def test_time_with_a_packet_on_its_way_is_no_silence() -> None:
    timeline = lay_out([Mark(0, flying=1), Mark(5, flying=-1)], 0.02)
    assert timeline.folds == ()


def test_the_true_scale_is_linear() -> None:
    timeline = lay_out([Mark(1), Mark(2), Mark(61)], 0.02, true_scale=True)
    first, second, third = timeline.heights
    assert timeline.folds == ()
    assert (third - first) / (second - first) == pytest.approx(60)


@given(st.lists(st.tuples(moments, st.sampled_from("abc")), min_size=1, max_size=60))
def test_heights_grow_with_time_and_marks_of_a_lane_keep_their_room(given: list[tuple[float, str]]) -> None:
    timeline = lay_out([Mark(at, lane, 9, 9) for at, lane in given], 0.02)
    order = sorted(zip(given, timeline.heights, strict=True), key=lambda item: (item[0][0], item[1]))
    assert [height for _, height in order] == sorted(timeline.heights)
    for name in "abc":
        lane = [height for (_, of), height in order if of == name]
        assert all(b - a >= 18 - 1e-9 for a, b in itertools.pairwise(lane))


def test_many_rows_move_closer_together() -> None:
    timeline = lay_out([Mark(i / 1000, "a", 9, 9) for i in range(10_000)], 0.001)
    assert timeline.scale < 1
    assert timeline.bottom < 10_000


def test_a_line_is_cut_where_time_is_folded() -> None:
    timeline = Timeline((), (Fold(1, 100, 140),), 200, 1)
    assert timeline.pieces(0, 200) == [(0, 112), (128, 200)]
    assert timeline.pieces(130, 200) == [(130, 200)]


def test_a_box_is_taken_once() -> None:
    ground = Ground()
    first, beside, below = Box(0, 0, 50, 10), Box(50, 0, 90, 10), Box(0, 63, 50, 70)
    assert ground.take(first) == first
    assert ground.take(first) is None
    assert ground.take(first, beside) == beside
    assert ground.take(below) == below
    assert ground.take(Box(0, 72, 50, 80), apart=5) is None


def test_a_line_leaves_room_for_the_texts_that_it_meets() -> None:
    ground = Ground()
    ground.take(Box(100, 20, 200, 40))
    assert ground.cut(0, 0, 300, 10) == [(0, 0, 300, 10)]
    right, left = ground.cut(0, 30, 300, 30), ground.cut(300, 30, 0, 30)
    assert [pytest.approx(piece) for piece in right] == [(0, 30, 110, 30), (190, 30, 300, 30)]
    assert [pytest.approx(piece) for piece in left] == [(300, 30, 190, 30), (110, 30, 0, 30)]


@pytest.mark.parametrize(
    ("seconds", "gap", "text"),
    [
        (0, 0.02, "0.0 ms"),
        (0.0411, 0.0001, "41.1 ms"),
        (0.04123, 0.00002, "41.23 ms"),
        (0.122, 0.02, "122 ms"),
        (1.0621, 0.02, "1.062 s"),
        (1.0821, 0.0001, "1.0821 s"),
    ],
)
def test_a_time_is_as_exact_as_its_neighbour_asks(seconds: float, gap: float, text: str) -> None:
    assert clock(seconds, gap) == text


def test_the_typical_flight_is_the_median() -> None:
    assert typical_flight([0.02, 0.5, 0.01]) == 0.02
    assert typical_flight([0.0]) == 0.001


def test_an_upright_line_is_cut_at_folds_and_at_bars() -> None:
    timeline = Timeline((), (Fold(1.0, 100.0, 140.0),), 300.0, 1.0, bars=((30.0, 60.0),))
    assert timeline.pieces(0, 300) == [(0, 30), (60, 112), (128, 300)]
    assert timeline.pieces(70, 90) == [(70, 90)]
