"""A category of very many values: three fields instead of one, exact both ways, learned and conditioned on like any other."""

import numpy as np
import pyarrow as pa
import pytest
from tables import rng, table

from generators.data import DataError
from generators.encoding.category import MANY, TOP
from generators.encoding.table import TableEncoder
from generators.synthesizer import Synthesizer

ROWS, VALUES = 30_000, 3000


def zips(rows: int = ROWS, values: int = VALUES, seed: int = 0, nulls: float = 0.05) -> pa.Array:
    """Codes such as 'z00017', the first ones far more often than the last."""
    stream = np.random.default_rng(seed)
    share = 1 / (100 + np.arange(values))
    return pa.array(np.array([f"z{i:05d}" for i in range(values)])[stream.choice(values, rows, p=share / share.sum())], mask=stream.random(rows) < nulls)


def both(rows: int = ROWS):
    """The region, the first of three thirds of values, goes with the code."""
    code = zips(rows)
    third = [None if v is None else "abc"[int(v[1:]) * 3 // VALUES] for v in code.to_pylist()]
    return table({"code": code, "region": pa.array(third)}, "category")


@pytest.mark.parametrize("least", [1, 3])
@pytest.mark.parametrize("values", [MANY + 1, VALUES, 20_000])
def test_round_trip(values, least):
    column = pa.concat_arrays([pa.array([f"z{i:05d}" for i in range(values)]), zips(values=values)])
    data = table({"x": column}, "category")
    encoder = TableEncoder(least).fit(data, rng=rng())
    x = encoder.encode(data, rng=rng())
    assert x.shape[1] == 3 and max(f.classes for f in encoder.layout.fields) < 400
    assert not encoder.layout.active(x).all() and (x[~encoder.layout.active(x)] == 0).all()
    kept = set(encoder.columns["x"].values)
    back = encoder.decode(x, rng=rng(1)).column("x").to_pylist()
    again = [(a, b) for a, b in zip(column.to_pylist(), back, strict=True) if a is None or a in kept]
    assert len(again) > ROWS / 2 and all(a == b for a, b in again) and set(back) <= kept | {None}
    restored = TableEncoder.restore(encoder.state())
    assert restored.layout == encoder.layout and restored.decode(x, rng=rng(1)).values.equals(encoder.decode(x, rng=rng(1)).values)


def test_common_values_are_classes_by_themselves():
    data = table({"x": zips(nulls=0)}, "category")
    encoder = TableEncoder(1).fit(data, rng=rng())
    x, known = encoder.encode(data, rng=rng()), encoder.columns["x"].values
    common = np.isin(np.array(data.column("x").to_pylist()), known[:TOP])
    assert ((x[:, 0] > 0).numpy() == common).all()


FAMILIES = {"gmm": {}, "marginals": {}, "diffusion": {"passes": 3, "width": 64, "steps": 10}, "gan": {"passes": 2, "width": 64}} | {
    family: {"passes": 3, "width": 64} for family in ("autoregressive", "flow", "vae")
}


@pytest.mark.parametrize(("family", "arguments"), FAMILIES.items(), ids=FAMILIES)
def test_every_family_learns_and_conditions(family, arguments):
    data = both()
    model = Synthesizer(family, rare_below=3, **arguments).fit(data)
    made = model.sample(ROWS).values.to_pandas()
    real = data.values.to_pandas()
    first = real["code"].value_counts(dropna=False, normalize=True).head(20)
    assert (made["code"].value_counts(dropna=False, normalize=True).reindex(first.index).fillna(0) - first).abs().max() < 0.02
    last = lambda frame: frame["code"].dropna().str[1:].astype(int).ge(TOP * 2).mean()  # noqa: E731
    assert abs(last(made) - last(real)) < 0.05
    rare = model.encoder.columns["code"].values[-1]
    assert set(model.sample(50, where={"code": rare}).column("code").to_pylist()) == {rare}
    with pytest.raises(DataError, match="cannot be met"):
        model.sample(5, where={"code": "nowhere"})


def test_an_autoregressive_model_knows_what_goes_with_a_value():
    model = Synthesizer("autoregressive", rare_below=1, passes=10, width=128).fit(both())
    some = model.sample(3000, where={"region": "c"}).column("code").drop_null().to_pylist()
    assert np.mean([int(v[1:]) * 3 // VALUES == 2 for v in some]) > 0.8
