"""The README is true: its Python runs, its YAML loads, its tables name what there is."""

import re
from pathlib import Path

import yaml

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_python_runs():
    scope: dict = {}
    for block in blocks("python"):
        exec(block, scope)
    assert len(scope["frame"]) == 1000 and set(scope["frame"]["diagnosis"]) == {"malignant"}
    assert len(set(scope["odd"])) == 10 and max(scope["odd"]) < 1797


def test_yaml_loads(tmp_path):
    from pipelines.config import load

    for block in blocks("yaml"):
        (tmp_path / "flows.yaml").write_text(block)
        assert load(tmp_path / "flows.yaml").keys() == yaml.safe_load(block).keys()


def test_the_shipped_flows_load():
    from pipelines.config import load

    assert "breast-cancer" in load(Path(__file__).parents[1] / "flows.yaml")


def test_tables_name_every_metric_with_its_gate_and_every_family():
    from generators.registry import FAMILIES, OF_IMAGES, OF_SERIES
    from pipelines.gates import DEFAULTS

    for metric, bound in DEFAULTS.items():
        (row,) = [line for line in README.splitlines() if line.startswith(f"| `{metric}`")]
        limit = next(iter(bound.values()))
        assert (f"{limit:g}" if limit else "none") in row.rsplit("|", 2)[1]
    for what, families in (("tables", FAMILIES), ("series", OF_SERIES), ("images", OF_IMAGES)):
        for family in families:
            assert any(line.startswith(f"| `{family}`") and what in line.split("|")[2] for line in README.splitlines())
