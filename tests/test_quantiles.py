"""The protected distribution function: what it may hold, and that it is one."""

import numpy as np
import pytest

from generators.encoding.quantiles import Quantiles, fit_quantiles

SHAPES = {
    "normal": lambda r, n: r.normal(size=n),
    "cauchy": lambda r, n: r.standard_cauchy(n),
    "log-normal": lambda r, n: r.lognormal(0, 4, n),
    "pareto": lambda r, n: r.pareto(0.3, n),
    "two far heaps": lambda r, n: np.where(r.random(n) < 0.5, r.normal(-1e6, 1, n), r.normal(1e6, 1e-3, n)),
    "one outlier": lambda r, n: np.append(r.normal(size=n - 1), 1e15),
    "outliers both ways": lambda r, n: np.concatenate([r.normal(size=n - 4), [-1e9, -2e9, 3e9, 4e9]]),
    "whole numbers": lambda r, n: r.poisson(20, n).astype(float),
    "steep whole numbers": lambda r, n: np.floor(r.pareto(0.7, n)),
    "zeros and a tail": lambda r, n: np.where(r.random(n) < 0.7, 0, r.lognormal(3, 2, n)),
    "few values": lambda r, n: r.choice([1.0, 2.0, 3.5], n, p=[0.9, 0.09, 0.01]),
    "constant": lambda r, n: np.full(n, 7.0),
    "counting up": lambda r, n: np.arange(n) * 1.5,
}


def held(x, subjects, low, high) -> tuple[int, int]:
    """How many subjects have a number at or below the low end, and at or above the high one."""
    return len(np.unique(subjects[x <= low])), len(np.unique(subjects[x >= high]))


@pytest.mark.parametrize("k", [2, 10])
@pytest.mark.parametrize("rows", [25, 101, 3000])
@pytest.mark.parametrize("shape", SHAPES)
def test_ends_are_held_by_enough_subjects(shape, rows, k):
    for seed in range(5):
        r = np.random.default_rng(seed)
        x, own, shared = SHAPES[shape](r, rows), np.arange(rows), r.integers(0, max(rows // 3, 2 * k), rows)
        for subjects in (own, shared):
            if len(np.unique(subjects)) >= 2 * k:
                q = fit_quantiles(x, subjects, k)
                assert min(held(x, subjects, q.low[0], q.high[-1])) >= k


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_a_distribution_function(shape):
    r = np.random.default_rng(3)
    x = SHAPES[shape](r, 2000)
    q = fit_quantiles(x, np.arange(2000), 10)
    assert q.edges[0] == 0
    assert q.edges[-1] == pytest.approx(1)
    assert (np.diff(q.edges) * 2000 > 10 - 1e-6).all()  # each segment holds at least k rows
    assert (q.low <= q.high).all()
    slack = 1e-9 * np.abs(x).max()
    assert (q.high[:-1] <= q.low[1:] + slack).all()
    back = q.from_unit(q.to_unit(x, r))
    atom = np.isin(x, q.low[q.low == q.high])
    assert (back[atom] == x[atom]).all()
    between = ((x[:, None] > q.low) & (x[:, None] < q.high)).any(1)
    assert np.allclose(back[between], x[between], rtol=1e-6, atol=1e-9 * np.ptp(x))
    drawn = q.from_unit((np.arange(20_000) + 0.5) / 20_000)
    for value in q.low[q.low == q.high][:50]:  # shares of what is kept exactly are kept, but for the rare neighbours given to it
        assert (drawn == value).mean() == pytest.approx((x == value).mean(), abs=20 / 2000)


@pytest.mark.parametrize("shape", ["normal", "cauchy", "log-normal", "pareto", "two far heaps"])
def test_no_number_of_a_continuous_column_is_stored(shape):
    for k in (2, 10):
        for seed in range(5):
            x = SHAPES[shape](np.random.default_rng(seed), 700)
            for subjects in (np.arange(700), np.arange(700) // 7):
                q = fit_quantiles(x, subjects, k)
                assert not np.isin(np.concatenate([q.low, q.high]), x).any()


def test_a_number_is_exact_if_enough_subjects_hold_it_however_many_rows_do():
    x = np.concatenate([np.full(500, 1.0), np.full(10, 2.0), np.full(9, 3.0), np.random.default_rng(0).normal(50, 5, 300)])
    subjects = np.concatenate([np.zeros(500), np.arange(10), np.arange(9), np.arange(100, 400)]).astype(int)
    q = fit_quantiles(x, subjects, 10)
    exact = set(q.low[q.low == q.high])
    assert 2.0 in exact  # ten subjects
    assert not {1.0, 3.0} & exact  # one subject with 500 rows; nine subjects
    assert not {1.0, 3.0} & {*q.low, *q.high}


@pytest.mark.parametrize("k", [2, 10])
def test_fewer_than_k_subjects_at_an_end_do_not_show(k):
    """However far out the k - 1 farthest at each end are, the same is learned."""
    x = np.sort(np.random.default_rng(1).normal(size=500))
    far = x.copy()
    far[: k - 1] -= 1e12 * np.arange(1, k)
    far[-(k - 1) :] *= 1e9
    one, other = (fit_quantiles(v, np.arange(500), k) for v in (x, far))
    for a, b in zip((one.low, one.high, one.edges), (other.low, other.high, other.edges), strict=True):
        assert np.array_equal(a, b)


def test_by_hand():
    """0 is held by 6 of 10, 5 by 2 and the lone 9 and 8 are fewer than k = 2 apart from them: counted with the nearest."""
    x = np.array([0, 0, 0, 0, 0, 0, 5, 5, 9, 1.0])
    q = fit_quantiles(x, np.arange(10), 2)
    assert q.low.tolist() == q.high.tolist() == [0, 5]
    assert q.edges.tolist() == [0, 0.7, 1]  # the 1 is nearer to 0, the 9 to 5


def test_to_unit_is_total():
    q = Quantiles(np.array([0.0, 1.0, 5.0]), np.array([0.0, 2.0, 5.0]), np.array([0, 0.5, 0.8, 1]))
    r = np.random.default_rng(0)
    for x in (-1e300, -1.0, 0.0, 0.4, 0.6, 1.5, 3.0, 4.9, 5.0, 1e300):
        u = q.to_unit(np.full(100, x), r)
        assert ((u >= 0) & (u <= 1)).all()
        assert np.isin(q.from_unit(u), [0.0, 5.0]).all() or ((q.from_unit(u) >= 1) & (q.from_unit(u) <= 2)).all()
    assert np.isfinite(q.from_unit(np.array([0.0, 0.5, 1.0, -3, 7]))).all()
