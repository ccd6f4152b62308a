"""evaluation.summarise: means, and intervals that are scipy's."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from fusionlib.evaluation import bootstrap_interval, summarise


@pytest.mark.parametrize("seed", range(3))
def test_interval_is_scipys(seed):
    """Two independent sets of resamples estimate the same two quantiles.

    The standard error of a quantile p from n draws is sqrt(p (1 - p) / n) over the density
    there; for a normal law's 2.5 % that is 0.0267 of its deviation at n = 10,000. The
    difference of two such estimates stays below 5 sqrt(2) of it.
    """
    values = np.random.default_rng(seed).normal(3, 2, 20)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=seed + 100
    ).confidence_interval
    deviation = values.std() / np.sqrt(len(values))
    tolerance = 5 * np.sqrt(2) * 0.0267 * deviation
    ours = bootstrap_interval(values)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=tolerance)
    assert ours[0] < values.mean() < ours[1]


def test_interval_of_two_values():
    """The mean of two draws from {0, 1} is 0, 1/2 or 1, the ends with a quarter each."""
    assert bootstrap_interval([0.0, 1.0]) == (0.0, 1.0)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12), st.floats(0.1, 10))
@settings(max_examples=25)
def test_interval_properties(values, scale):
    low, high = bootstrap_interval(values, draws=500)
    slack = 1e-9 * (1 + max(map(abs, values)))  # rounding of a mean
    assert min(values) - slack <= low <= high <= max(values) + slack
    assert bootstrap_interval(values, draws=500) == (low, high)
    scaled = bootstrap_interval(np.array(values) * scale, draws=500)
    assert scaled == pytest.approx((low * scale, high * scale), rel=1e-9, abs=10 * slack)


def test_seed_changes_the_interval():
    values = np.random.default_rng(0).normal(size=20)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_no_interval_of_fewer_than_two(values):
    assert np.isnan(bootstrap_interval(values)).all()


# ---------------------------------------------------------------- the summary


def per_pair(metric="EN", **rows):
    return pd.DataFrame(
        {"row": row, "metric": metric, "pair": str(i), "value": value}
        for row, values in rows.items()
        for i, value in enumerate(values)
    )


def test_summary():
    frame = summarise(per_pair(b=[1.0, 2.0, 6.0], a=[5.0]))
    assert list(frame) == ["row", "metric", "n", "mean", "ci_low", "ci_high"]
    assert frame[["row", "n", "mean"]].values.tolist() == [["b", 3, 3.0], ["a", 1, 5.0]]
    assert tuple(frame.loc[0, ["ci_low", "ci_high"]]) == bootstrap_interval([1.0, 2.0, 6.0])
    assert frame.loc[1, ["ci_low", "ci_high"]].isna().all()


def test_undefined_values_are_not_counted():
    frame = summarise(per_pair(a=[1.0, np.nan, 3.0], b=[np.nan]))
    assert frame[["n", "mean"]].fillna(-1).values.tolist() == [[2, 2.0], [0, -1]]
    assert tuple(frame.loc[0, ["ci_low", "ci_high"]]) == bootstrap_interval([1.0, 3.0])


def test_summary_by_other_columns():
    frame = summarise(per_pair(a=[1.0, 2.0]), by=["pair"])
    assert frame[["pair", "n", "mean"]].values.tolist() == [["0", 1, 1.0], ["1", 1, 2.0]]


def test_summary_of_nothing():
    empty = per_pair(a=[1.0]).iloc[:0]
    assert len(summarise(empty)) == 0


@pytest.mark.parametrize(
    ("values", "expected"),
    [([np.inf] * 3, (np.inf, np.inf)), ([-np.inf] * 2, (-np.inf, -np.inf))],
)
def test_infinite_values_have_no_interval_but_themselves(recwarn, values, expected):
    assert bootstrap_interval(values) == expected
    assert np.isnan(bootstrap_interval([*values, 3.0])).all()
    assert not recwarn
