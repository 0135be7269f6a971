"""Names, numbers and notes of invented people, and diagnoses held by one of them: none may be found in anything a run leaves."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from projects import lay, patients, run

ROWS = 2000
LETTERS = np.array(list("bcdfghjklmnpqrstvwxz"))


def word(rng, n: int) -> str:
    """A word that no list of names or words holds."""
    return "".join(rng.choice(LETTERS, n))


@pytest.fixture(scope="module")
def ran(tmp_path_factory, prefect):
    """(every value that must not be found, the project's folder, the result of the run)."""
    rng = np.random.default_rng(0)
    surname = ["".join([word(rng, 5).capitalize(), "sson"]) for _ in range(ROWS)]
    first = rng.choice(["Anna", "Peter", "Maria", "John", "Laura", "James", "Sarah", "David"], ROWS)
    digits = rng.integers(0, 10, (ROWS, 9))
    checks = (11 - (digits * np.arange(10, 1, -1)).sum(1) % 11) % 11
    nhs = ["".join(map(str, d)) + str(c if c < 10 else 0) for d, c in zip(digits, checks, strict=True)]
    mrn = [f"MRN-{i:07d}" for i in rng.choice(10**7, ROWS, replace=False)]
    diagnosis = rng.choice(["asthma", "diabetes", "angina", "healthy"], ROWS).astype(object)
    alone = rng.choice(ROWS, 40, replace=False)
    rare = [f"morbus {word(rng, 7)}" for _ in alone]
    diagnosis[alone] = rare
    note = [f"patient {s} was seen because of {word(rng, 6)} and {word(rng, 8)}, will be back in spring" for s in surname]
    table = patients(ROWS, seed=3)
    planted = {
        "mrn": mrn, "nhs_number": nhs, "surname": surname, "full_name": [f"{f} {s}" for f, s in zip(first, surname, strict=True)],
        "e_mail": [f"{s.lower()}{i}@hospital.nhs.uk" for i, s in enumerate(surname)], "note": note,
    }  # fmt: skip
    for name, values in planted.items():
        table = table.append_column(name, pa.array(values))
    table = table.append_column("diagnosis", pa.array(diagnosis.tolist()))
    folder = tmp_path_factory.mktemp("secrets")
    # fmt: off
    entry = ("ward:\n  source: {table: patients.parquet, target: dead}\n"
             "  gates: {utility.target: {min: 0.0}, fidelity.detection: {min: 0.0}}\n")
    # fmt: on
    code, result = run(lay(folder, entry, table))
    assert code == 0, result
    return [v for values in planted.values() for v in values] + rare, folder, result


def test_no_planted_value_is_in_any_file_that_the_run_leaves(ran):
    secrets, folder, _ = ran
    looked = {Path(os.environ["PREFECT_HOME"]), folder / "published", folder / "runs"}
    found = []
    for file in (f for place in looked for f in place.rglob("*") if f.is_file()):
        content = file.read_bytes()
        found += [(file.name, i) for i, secret in enumerate(secrets) if secret.encode() in content]
    assert not found


def test_no_planted_value_is_in_a_published_cell(ran):
    import pyarrow.parquet as pq

    secrets, _, result = ran
    table = pq.read_table(Path(result["published"]) / "data")
    cells = {v for column in table.columns if pa.types.is_string(column.type) for v in column.to_pylist()}
    assert not cells & set(secrets)
    assert len(set(table["mrn"].to_pylist())) == table.num_rows
    assert all(v.startswith("MRN-") and len(v) == 11 for v in table["mrn"].to_pylist())


def test_no_rare_diagnosis_is_left(ran):
    import pyarrow.parquet as pq

    _, _, result = ran
    values = set(pq.read_table(Path(result["published"]) / "data")["diagnosis"].to_pylist())
    assert values == {"asthma", "diabetes", "angina", "healthy"}
