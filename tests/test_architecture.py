"""The arrows of the design page, read from the import statements."""

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from generators.registry import FAMILIES, OF_IMAGES, OF_SERIES

ROOT = Path(__file__).parents[1]
PACKAGES = ("generators", "validation", "privacy", "pipelines")
FILES = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for package in PACKAGES for p in (ROOT / package).rglob("*.py")}
OURS = {"generators": set(), "validation": {"generators.data"}, "privacy": {"generators.data", "validation"}, "pipelines": set(PACKAGES)}
FAMILY_FILES = {family.__module__ for family in (*FAMILIES.values(), *OF_SERIES.values(), *OF_IMAGES.values())}
# Which file of generators may import which: those of a lower rank. A new file is put in here, or its test fails.
RANK = {
    "arguments": 0,
    "data": 0,
    "layout": 0,
    "threads": 0,
    "streams": 0,
    "base": 1,
    "exact": 0,
    "junction": 0,
    "potentials": 1,
    "columns": 1.1,
    "nets": 1.1,
    "heads": 1.5,
    "codes": 1,
    "leaves": 1.5,
    "tree": 1.7,
    "recipe": 1.8,
    "descent": 1.8,
    "noisy": 1.7,
    "em": 2,
    "train": 2,
    "neural": 2.5,
    "marginals": 2.5,
    "ordered": 2.7,
    "series": 0,
    "series.chain": 1,
    "series.factors": 1,
    "series.climb": 1.5,
    "series.past": 1,
    "series.windows": 1,
    "series.margins": 1,
    "series.held": 1.6,
    "series.holds": 1,
    "series.regression": 1.6,
    "series.ties": 1.5,
    "series.tracks": 1.6,
    "series.chains": 2.2,
    "series.stepwise": 2.7,
    "series.alone": 2.8,
    "joint": 3.4,
    "series.panel": 3.5,
    "images": 0,
    "images.directions": 1.2,
    "images.nets": 1.2,
    "images.painted": 2.7,
    "images.grain": 1.3,
    "images.apart": 1.3,
    "images.noisy": 1.4,
    "images.together": 3.1,
    "images.gmm": 3.2,
    "images.album": 3.5,
    "registry": 4,
    "building": 4.2,
    "uses": 4.5,
    "synthesizer": 5,
}
NEEDED = {"torch", "numpy", "pandas", "pyarrow", "sklearn", "scipy"}
WHEN_CALLED = {"faker", "safetensors", "ctgan", "copulas"}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text())


@cache
def imports(module: str, *, top: bool = False) -> set[str]:
    """Everything that a module imports, as dotted names; with top=True only what importing the module imports."""
    found = set()
    for node in tree(module).body if top else ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            found |= {f"{node.module}.{a.name}" if f"{node.module}.{a.name}" in FILES else node.module for a in node.names}
    return found


def ours(module: str) -> set[str]:
    return {name for name in imports(module) if name.split(".")[0] in PACKAGES}


def within(name: str, packages: set[str]) -> bool:
    return any(name == p or name.startswith(p + ".") for p in packages)


@cache
def names(module: str) -> set[str]:
    """Dotted names that are used, such as torch.save."""
    return {ast.unparse(node) for node in ast.walk(tree(module)) if isinstance(node, ast.Attribute)}


def rank(module: str) -> int:
    name = module.removeprefix("generators.")
    if name in RANK:
        return RANK[name]
    assert module in FAMILY_FILES or name.startswith("encoding"), f"{module}: say in RANK where it stands"
    return 3


def in_generators() -> list[str]:
    return sorted(m for m in FILES if m.startswith("generators."))


def test_the_parser_sees_what_is_there():
    assert {"generators.data", "generators.encoding.table", "torch"} <= imports("generators.synthesizer")
    assert len(FILES) > 30


@pytest.mark.parametrize("module", sorted(FILES))
def test_arrows_between_packages(module):
    package = module.split(".")[0]
    wrong = {name for name in ours(module) if not within(name, OURS[package] | {package})}
    assert not wrong, f"{package} must not import these"


@pytest.mark.parametrize("module", in_generators())
def test_arrows_inside_generators(module):
    below = {name for name in ours(module) if rank(name) < rank(module)}
    if module.startswith("generators.encoding"):
        allowed = {
            name
            for name in ours(module)
            if within(name, {"generators.data", "generators.layout", "generators.base", "generators.exact", "generators.encoding"})
        }
    elif module in FAMILY_FILES:
        allowed = {name for name in below if name != "generators.data"}
    elif module == "generators.registry":
        allowed = FAMILY_FILES
    elif module == "generators.synthesizer":
        allowed = ours(module)
    else:
        allowed = below
    assert ours(module) <= allowed


@pytest.mark.parametrize("module", sorted(FAMILY_FILES))
def test_a_family_sees_no_tables(module):
    assert not {name.split(".")[0] for name in imports(module)} & {"pandas", "pyarrow"}


@pytest.mark.parametrize("module", in_generators())
def test_generators_need_little(module):
    def foreign(found):
        return {name.split(".")[0] for name in found} - set(sys.stdlib_module_names) - {"generators"}

    assert foreign(imports(module, top=True)) <= NEEDED
    assert foreign(imports(module)) <= NEEDED | WHEN_CALLED


def test_importing_generators_loads_nothing_heavy():
    code = "import sys, json, generators.synthesizer, generators.gmm; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    loaded = set(json.loads(subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout))
    assert not loaded & (WHEN_CALLED | {"prefect", "sdv", "sdmetrics", "great_expectations", "matplotlib", "validation", "privacy", "pipelines"})


@pytest.mark.parametrize("module", sorted(FILES))
def test_no_pickle(module):
    assert not {name.split(".")[0] for name in imports(module)} & {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    assert not {n for n in names(module) if n in ("torch.save", "torch.load") or n.endswith(("read_pickle", "to_pickle"))}
    assert not [k for k in ast.walk(tree(module)) if isinstance(k, ast.keyword) and k.arg == "allow_pickle" and getattr(k.value, "value", None) is not False]


@pytest.mark.parametrize("module", sorted(FILES))
def test_no_global_seeds(module):
    used = {n for n in names(module) if re.fullmatch(r"(np|numpy)\.random\.(?!default_rng$|Generator$|SeedSequence$)\w+", n)}
    used |= names(module) & {"torch.manual_seed", "torch.seed", "torch.set_rng_state", "random.seed"}
    assert not used or module == "generators.streams"  # which puts them back
    assert "random" not in imports(module)
