"""`series:` in flows.yaml: what is read, what is refused and in which words, windows of one long series, and a whole run."""

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from projects import run

from generators.data import DataError
from generators.synthesizer import Synthesizer
from pipelines import read, sources
from pipelines.cli import main
from pipelines.config import Source, load_entry
from pipelines.series import timed
from validation.resampling import too_few

N = 150


def long_table(people: int = N, **changed) -> pa.Table:
    """Patients with two to seven visits: sex and outcome stay, a marker depends on the outcome, a note of the state changes."""
    rng = np.random.default_rng(1)
    lengths = rng.integers(2, 8, people)
    who = np.repeat(np.arange(people), lengths)
    sick = rng.random(people) < 0.4
    day = np.concatenate([np.cumsum(rng.integers(5, 60, n)) for n in lengths])
    marker = np.round(sick[who] + 0.8 * rng.normal(size=people)[who] + rng.normal(0, 0.4, len(who)), 2)
    columns = {
        "patient": [f"P{i:04d}" for i in who],
        "visit": pa.array([dt.date(2020, 1, 1) + dt.timedelta(days=int(d)) for d in day]),
        "sex": np.where(rng.random(people) < 0.5, "f", "m")[who],
        "dead": sick[who],
        "marker": pa.array(marker, mask=rng.random(len(who)) < 0.1),
        "state": np.where(marker > 0.5, "bad", "good"),
    }
    return pa.table(columns | changed)


ENTRY = "visits:\n  source: {series: visits.parquet, subject: patient, time: visit, target: dead}\n"


def lay(folder, values=None, entry=ENTRY):
    pq.write_table(long_table() if values is None else values, folder / "visits.parquet")
    (folder / "flows.yaml").write_text(entry)
    return folder / "flows.yaml"


def series(folder, values, **options):
    pq.write_table(values, folder / "visits.parquet")
    return sources.load(Source("series", str(folder / "visits.parquet"), **({"subject": "patient", "time": "visit"} | options)))


def test_what_stays_is_found_and_rows_are_put_in_order(tmp_path):
    values = long_table()
    mixed = values.take(pa.array(np.random.default_rng(0).permutation(len(values))))
    data = series(tmp_path, mixed, target="dead")
    assert data.schema.static == ("sex", "dead") and data.schema.time == "visit" and data.schema["visit"].kind == "datetime"
    assert sorted(data.lengths) == sorted(np.unique(values["patient"].to_pylist(), return_counts=True)[1])
    days = data.column("visit").cast(pa.int32()).to_numpy()
    assert (np.diff(days)[data.subjects[1:] == data.subjects[:-1]] > 0).all()


def with_nulls(name, count):
    column = long_table()[name].to_pylist()
    column[:count] = [None] * count
    return {name: pa.array(column, long_table()[name].type)}


def endless():
    """A hundred people, of whom one has thousands of visits."""
    x = np.random.default_rng(0).normal(size=12_000)
    return pa.table({"patient": np.repeat(np.arange(100), 60).tolist() + [7] * 6000, "visit": np.arange(12_000), "x": x})


BAD = [
    ("two rows at one time", lambda t: pa.concat_tables([t, t.slice(0, 3)]), {}, "time: 3 rows stand at the same time 'visit'"),
    ("a time that does not parse", lambda t: long_table(visit=["2020-01-01"] * (len(t) - 2) + ["soon", "later"]), {}, "2 of 699 values are"),
    ("times with a zone and without", lambda t: long_table(visit=["2020-01-01", *["2020-01-01T00:00:00Z"] * (len(t) - 1)]), {}, "698 of 699 have a zone"),
    ("dates as whole numbers", lambda t: long_table(visit=[20191228 - 100 * (i % 12) - i % 28 for i in range(len(t))]), {}, "dates written as whole numbers"),
    ("a time that is not there", lambda t: long_table(**with_nulls("visit", 4)), {}, "'visit' is empty in 4 of"),
    ("a subject that is not there", lambda t: long_table(**with_nulls("patient", 2)), {}, "subject: column 'patient' is empty in 2 rows"),
    ("no such time", lambda t: t, {"time": "day"}, "time: no column 'day'; the columns are patient"),
    ("a time that is a truth", lambda t: t, {"time": "dead"}, "time: column 'dead' is of type bool, expected numbers, dates or timestamps"),
    ("a target that changes", lambda t: t, {"target": "state"}, "target: column 'state' changes within a subject"),
    ("one row each", lambda t: long_table(patient=[f"P{i}" for i in range(len(t))]), {}, "every subject has one row alone"),
    ("too long", lambda t: endless(), {}, "a series of 6060 steps, expected at most 5000; cut it with window:"),
    ("too few", lambda t: t.slice(0, 300), {}, "subjects, expected at least 100"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "make", "options", "words"), BAD, ids=[name for name, *_ in BAD])
def test_bad_series_are_refused_in_plain_words(tmp_path, name, make, options, words):
    with pytest.raises(DataError) as found:
        series(tmp_path, make(long_table()), **options)
    said = str(found.value)
    assert words in said and "visits.parquet" in said and "P0" not in said and "soon" not in said


def test_whole_numbers_that_are_no_dates_are_times():
    for times in (np.arange(20240101, 20240141), np.arange(20240101, 20240120), np.array([20240101, 20240230])):
        timed(pa.table({"t": times}), "t")
    with pytest.raises(DataError, match="holds dates written as whole numbers"):
        timed(pa.table({"t": np.array([20240131, 20240229, 20240301])}), "t")


SHEET = [
    ("source: {series: visits.parquet}", "found series: without subject:, expected subject: and time:, or window:"),
    ("source: {series: visits.parquet, subject: patient}", "found series: without time:"),
    ("source: {series: visits.parquet, subject: patient, window: 5}", "source.window: found beside subject:"),
    ("source: {series: visits.parquet, subject: patient, time: visit, stride: 2}", "source.stride: found without window:"),
    ("source: {table: visits.parquet, time: visit}", "source.time: found beside table:"),
    ("source: {series: visits.parquet, window: 2}", "source.window: found 2, expected a whole number from 3"),
    ("source: {series: visits.parquet, subject: patient, time: visit}\n  generator: flow", "generates no series, expected one of gmm, hmm, autoregressive"),
    ("source: {table: visits.parquet}\n  generator: hmm", "generates no tables, expected one of gmm"),
    ("source: {series: visits.parquet, subject: patient, time: visit}\n  generator: {hmm: {static: gmmm}}", "hmm.static: found 'gmmm'"),
    ("source: {series: visits.parquet, subject: patient, time: visit}\n  generator: {hmm: {statez: 3}}", "unknown argument 'statez', did you mean 'states'"),
    (
        "source: {series: visits.parquet, subject: patient, time: visit}\n  sample: {rows: 200}",
        "sample.rows: found beside a source of series, expected subjects:",
    ),
    ("source: {table: visits.parquet}\n  sample: {subjects: 200}", "sample.subjects: found beside a source of rows, expected rows:"),
]


@pytest.mark.parametrize(("entry", "words"), SHEET)
def test_keys_that_do_not_go_together(tmp_path, entry, words):
    config = lay(tmp_path, entry=f"visits:\n  {entry}\n")
    with pytest.raises(DataError) as found:
        load_entry(config, "visits")
    assert words in str(found.value) and "flows.yaml: visits" in str(found.value)


@pytest.mark.parametrize("kind", ["drop", "id", "category"])
def test_the_time_of_series_is_nothing_else(tmp_path, kind):
    entry = load_entry(
        lay(tmp_path, entry=f"visits:\n  source: {{series: visits.parquet, subject: patient, time: visit, columns: {{visit: {{kind: {kind}}}}}}}\n"), "visits"
    )
    with pytest.raises(DataError, match=f"columns.visit.kind: found {kind}, expected datetime: it is the time of a series"):
        sources.load_split(entry)


@pytest.mark.parametrize("sample", ["where: {state: bad}", "balance: state", "where: {visit: 2020-05-05}"])
def test_conditions_on_what_changes_are_refused(tmp_path, prefect, capsys, sample):
    config = lay(tmp_path, entry=ENTRY + f"  sample: {{{sample}}}\n")
    assert main(["run", "visits", "--config", str(config)]) == 2
    assert "changes within a subject, expected one that stays: sex, dead" in capsys.readouterr().err


def prices(rows: int = 700) -> pa.Table:
    rng = np.random.default_rng(0)
    return pa.table({"open": np.exp(np.cumsum(rng.normal(0, 0.02, rows))), "volume": rng.integers(100, 10_000, rows)})


def test_a_long_series_is_cut_into_windows_and_split_by_calendar(tmp_path):
    pq.write_table(prices(), tmp_path / "p.parquet")
    (tmp_path / "flows.yaml").write_text("p:\n  source: {series: p.parquet, window: 10, stride: 2}\n")
    entry = load_entry(tmp_path / "flows.yaml", "p")
    whole = sources.load(entry.source, root=entry.root)
    assert (whole.lengths == 10).all() and len(whole.lengths) == 346 and whole.schema.arrow.names == ["window", "step", "open", "volume"]
    train, holdout = sources.load_split(entry)
    opened = prices()["open"].to_pylist()
    assert set(train.column("open").to_pylist()) <= set(opened[:525]) and set(holdout.column("open").to_pylist()) <= set(opened[525:])
    assert not set(train.column("open").to_pylist()) & set(holdout.column("open").to_pylist())
    assert too_few(train, holdout, train, 100) == "holdout has 83 subjects, 100 are needed, a smaller window: or stride: makes more windows"


def test_a_value_of_one_day_is_that_of_one_day_however_many_windows_hold_it(tmp_path):
    """With a stride of 1 every day stands in ten windows; its price must not count as held by ten."""
    values = prices()
    pq.write_table(values, tmp_path / "p.parquet")
    data = sources.load(Source("series", str(tmp_path / "p.parquet"), window=10, stride=1))
    model = Synthesizer("hmm", passes=2, states=4).fit(data)
    made = set(model.sample(100).column("open").to_pylist())
    assert not made & set(values["open"].to_pylist())


@pytest.mark.parametrize(("time", "words"), [([1] * 700, "699 rows stand at the same time 't'"), (["x"] * 700, "is text")])
def test_windows_of_bad_times(tmp_path, time, words):
    pq.write_table(prices().append_column("t", pa.array(time)), tmp_path / "p.parquet")
    with pytest.raises(DataError, match=words):
        sources.load(Source("series", str(tmp_path / "p.parquet"), window=10, stride=1, time="t"))
    with pytest.raises(DataError, match="window: found 800, expected at most the 700 rows"):
        sources.load(Source("series", str(tmp_path / "p.parquet"), window=800))
    with pytest.raises(DataError, match="found 7 windows"):
        sources.load(Source("series", str(tmp_path / "p.parquet"), window=100))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"window": 2}, "window: found 2, expected a whole number from 3"), ({"window": "24"}, "DataFrame.window: found '24'"),
        ({"window": 9, "stride": 0}, "stride: found 0"),
        ({"time": "t"}, "without subject:, expected subject: and time:, or window:"), ({"subject": "x", "window": 9}, "beside subject"),
        ({"stride": 2}, "without window"),
        ({"subject": "x", "time": "day"}, "'day' holds times as text"),
    ],
)  # fmt: skip
def test_series_from_a_notebook_are_asked_for_rightly(options, words):
    frame = pd.DataFrame({"t": range(120), "x": np.sin(np.arange(120)), "day": ["2020-01-31"] * 120})
    with pytest.raises(DataError, match=words):
        read(frame, **options)


def test_series_that_ship_inside_statsmodels():
    data = read("fertility")
    assert data.schema.time == "year" and data.schema.subject == "country" and len(data.lengths) > 200 and data.lengths.max() == 11


def test_init_writes_an_entry_that_loads(tmp_path, capsys):
    pq.write_table(long_table(), tmp_path / "visits.parquet")
    config = tmp_path / "flows.yaml"
    asked = ["init", "visits.parquet", "--config", str(config), "--time", "visit"]
    assert main(asked) == 2 and "expected both" in capsys.readouterr().err and not config.exists()
    assert main([*asked, "--subject", "who"]) == 2 and "no column 'who'" in capsys.readouterr().err
    assert main([*asked, "--subject", "patient"]) == 0
    text = config.read_text()
    assert "series: visits.parquet" in text and "subject: patient" in text and "time: visit" in text and "generator: autoregressive" in text
    assert "stays" in next(line for line in text.splitlines() if line.strip().startswith("sex:")) and "patient: {" not in text
    config.write_text(text.replace("# static:", "static:").replace("# target: COLUMN", "target: dead"))  # as a run under epsilon asks for
    assert load_entry(config, "visits").source.static == ("sex", "dead")
    config.write_text(text)
    table = sources.load(load_entry(config, "visits").source, root=tmp_path)
    assert table.schema.time == "visit" and table.schema.static == ("sex", "dead")


def test_init_of_series_that_ship_inside_statsmodels(tmp_path, capsys):
    assert main(["init", "fertility", "--config", str(tmp_path / "flows.yaml"), "--print"]) == 0
    said = capsys.readouterr().out
    assert "dataset: fertility" in said and "generator: autoregressive" in said and "subject:" not in said


@pytest.mark.parametrize("family", ["hmm", "autoregressive"])
def test_a_whole_run(tmp_path, prefect, family):
    gates = "{fidelity.detection: null, privacy.attribute: null, privacy.membership: null, utility.target: null, fidelity.coverage: {min: 0.3}}"
    config = lay(tmp_path, long_table(400), ENTRY + f"  generator: {{{family}: {{passes: 8}}}}\n  sample: {{subjects: 300, balance: dead}}\n  gates: {gates}\n")
    code, result = run(config, name="visits")
    assert code == 0, result
    made, real = pq.read_table(f"{result['published']}/data"), pq.read_table(tmp_path / "visits.parquet")
    assert made.schema.remove_metadata().equals(real.schema.remove_metadata()) and made.schema.metadata[b"likeness.synthetic"] == b"true"
    frame = made.to_pandas()
    assert frame.patient.nunique() == 300 and not set(frame.patient) & set(real["patient"].to_pylist())
    each = frame.groupby("patient", sort=False)
    assert each.dead.first().sum() == 150 and (each.dead.nunique() == 1).all() and (each.sex.nunique() == 1).all()
    assert each.visit.apply(lambda days: days.is_monotonic_increasing and days.is_unique).all()
    assert "fidelity.timing" in (tmp_path / result["run"] / "report.html").read_text()


def test_families_of_series_are_compared(tmp_path, prefect, capsys):
    config = lay(tmp_path, long_table(400))
    small = ["--set", "generator={autoregressive: {passes: 2}}"]
    assert main(["compare", "visits", "--config", str(config), "--generators", "autoregressive,hmm", *small]) == 0
    said = capsys.readouterr().out
    assert "autoregressive (passes 2)" in said and "hmm" in said and "autocorrelation" in said and "timing" in said
    assert main(["compare", "visits", "--config", str(config), "--generators", "flow"]) == 2
    assert "expected all, or some of gmm, hmm, autoregressive" in capsys.readouterr().err


def test_a_saved_model_of_series_draws_series(tmp_path, capsys):
    pq.write_table(long_table(), tmp_path / "visits.parquet")
    source = Source("series", str(tmp_path / "visits.parquet"), target="dead", subject="patient", time="visit")
    Synthesizer("hmm", passes=2, states=4).fit(sources.load(source)).save(tmp_path / "model")
    assert main(["sample", str(tmp_path / "model"), "--rows", "25", "--out", str(tmp_path / "out"), "--where", "sex=f"]) == 0
    made = pq.read_table(tmp_path / "out").to_pandas()
    assert made.patient.nunique() == 25 and set(made.sex) == {"f"} and "25 series" in capsys.readouterr().out
    again = Synthesizer.load(tmp_path / "model")
    parts = [again.part(i, 10).values for i in range(2)]
    assert parts[1].equals(again.part(1, 10).values) and not set(parts[0]["patient"].to_pylist()) & set(parts[1]["patient"].to_pylist())


def renamed(t: pa.Table) -> pa.Table:
    """The same visits of other patients."""
    return t.set_column(t.column_names.index("patient"), "patient", pa.array([f"Q{v}" for v in t["patient"].to_pylist()]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t, "subjects stand in the source too"),
        (lambda t: renamed(t.append_column("visit2", t["visit"]).drop_columns("visit")), "no column 'visit'"),
        (lambda t: pa.concat_tables([renamed(t), renamed(t).slice(0, 1)]), "stand at the same time"),
        (lambda t: renamed(t.drop_columns("sex").append_column("sex", pa.array((["f", "m"] * len(t))[: len(t)]))), "'sex' changes within a subject"),
    ],
)  # fmt: skip
def test_a_holdout_of_its_own_is_of_other_people_and_of_the_same_kind(tmp_path, change, words):
    config = lay(tmp_path, entry="visits:\n  source: {series: visits.parquet, subject: patient, time: visit}\n  holdout: {series: more.parquet}\n")
    pq.write_table(change(pq.read_table(tmp_path / "visits.parquet")), tmp_path / "more.parquet")
    with pytest.raises(DataError, match=r"holdout: more\.parquet: ") as found:
        sources.load_split(load_entry(config, "visits"))
    assert words in str(found.value)


def test_a_holdout_of_other_people_is_taken(tmp_path):
    config = lay(tmp_path, entry="visits:\n  source: {series: visits.parquet, subject: patient, time: visit}\n  holdout: {series: more.parquet}\n")
    pq.write_table(renamed(pq.read_table(tmp_path / "visits.parquet")).slice(0, 600), tmp_path / "more.parquet")
    train, holdout = sources.load_split(load_entry(config, "visits"))
    assert holdout.schema.static == train.schema.static and len(holdout) <= 600
