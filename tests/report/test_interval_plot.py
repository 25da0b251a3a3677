"""The geometry of the dot-and-interval plot, against places worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.evidence.measurement import Measurement
from cutaway.report.interval_plot import LEFT, RIGHT, axis_over, interval_plot


def test_places_of_a_measurement_worked_out_by_hand():
    # Null band 0 ± 1.96 * 0.1 = -0.196 .. 0.196, so the axis must span -0.196 .. 0.6. A sixth of that is 0.133,
    # the next step of 1, 2, 5 is 0.2: axis -0.2 .. 0.6, four intervals on 290 units: 362.5 units per 1.
    plot = interval_plot(Measurement(0.4, 0.2, 0.6, 0.0, 0.1))
    assert plot is not None and plot.interval is not None and plot.band is not None
    assert (LEFT, RIGHT) == (72, 362)
    assert plot.value == pytest.approx(72 + 0.6 * 362.5)  # 289.5
    assert plot.interval == pytest.approx((217.0, 362.0))
    assert plot.null == pytest.approx(144.5)
    assert plot.band == pytest.approx((144.5 - 71.05, 144.5 + 71.05), abs=0.01)
    assert plot.axis.ticks() == [
        (pytest.approx(72), "−0.2"),
        (pytest.approx(144.5), "0"),
        (pytest.approx(217), "0.2"),
        (pytest.approx(289.5), "0.4"),
        (pytest.approx(362), "0.6"),
    ]


def test_the_place_in_the_drawing_is_the_place_in_the_plan():
    from cutaway.audits.findings import RuleResult
    from cutaway.report import render_html
    from tests.report.samples import bare, finding

    found = finding(effect=Measurement(0.4, 0.2, 0.6, 0.0, 0.1), effect_name="nats")
    page = render_html(bare(results=(RuleResult("toy-rule", "Why?", (found,)),)))
    assert '<circle class="dot" cx="289.5" cy="20" r="5"/>' in page
    assert "M217.0 20H362.0" in page
    assert '<rect class="band" x="73.45"' in page


def test_a_value_alone_or_without_number_has_no_plot():
    assert interval_plot(Measurement(1.0)) is None
    assert interval_plot(Measurement(math.nan, 0.0, 1.0)) is None
    assert interval_plot(Measurement(math.inf, 0.0, 1.0)) is None


def test_a_constant_null_is_a_mark_without_a_band():
    plot = interval_plot(Measurement(2.0, null_mean=2.0))
    assert plot is not None and plot.band is None and plot.null == plot.value


finite = st.floats(-1e12, 1e12, allow_nan=False)


@given(finite, finite)
def test_an_axis_spans_what_it_shows_with_few_ticks(a, b):
    low, high = min(a, b), max(a, b)
    axis = axis_over(low, high)
    slack = 1e-6 * axis.step
    assert axis.low <= low + slack and high - slack <= axis.high
    assert 2 <= len(axis.ticks()) <= 9
    places = [x for x, _ in axis.ticks()]
    assert places == sorted(places) and places[0] == pytest.approx(LEFT) and places[-1] == pytest.approx(RIGHT)


def test_tick_labels_fit_their_step():
    assert [label for _, label in axis_over(10.0, 51.0).ticks()] == ["10", "20", "30", "40", "50", "60"]
    assert [label for _, label in axis_over(0.0, 0.011).ticks()][:3] == ["0", "0.002", "0.004"]
