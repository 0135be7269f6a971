"""The entries of flows.yaml, which need nothing but what is installed: every one is run, and passes."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from projects import ROOT, run

from pipelines.config import load


@pytest.mark.parametrize("name", list(load(ROOT / "flows.yaml")))
def test_an_example_passes_and_is_published(name, project):
    code, result = run(Path(shutil.copy(ROOT / "flows.yaml", project)), name=name)
    assert code == 0 and result["verdict"] == "PASS", result
    assert pq.read_table(Path(result["published"]) / "data").num_rows == result["rows"]
