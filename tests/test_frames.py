"""`read` of pandas DataFrames, as from a notebook."""

import numpy as np
import pandas as pd
import pytest

from generators.data import DataError
from pipelines import read


def test_what_is_wrong_with_a_frame_is_said_in_words_without_its_values():
    twice = pd.DataFrame(np.ones((200, 2)), columns=["a", "a"])
    with pytest.raises(DataError, match="found two columns 'a'"):
        read(twice)
    with pytest.raises(DataError, match="column b with type object") as problem:
        read(pd.DataFrame({"b": [1, "Frieda Kahn", 2.5] * 70}))
    assert "Frieda" not in str(problem.value)
    visits = pd.DataFrame({"pid": np.repeat(np.arange(150), 4), "t": np.tile(range(4), 150), "x": np.random.default_rng(0).normal(size=600)})
    with pytest.raises(DataError, match=r"columns\.pid\.kind: found category, expected id or pii"):
        read(visits, subject="pid", time="t", columns={"pid": {"kind": "category"}})


def test_a_frame_is_cut_into_windows():
    prices = pd.DataFrame({"close": np.cumsum(np.random.default_rng(0).normal(size=1500))})
    data = read(prices, window=10, stride=5)
    assert data.schema.time and len(data.lengths) == 299 and set(data.lengths) == {10}
