"""flows.yaml as text: YAML to plain mappings, with the line of what is wrong, and `--set KEY.KEY=VALUE` on them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from generators.data import DataError
from pipelines.sheet import name_of


def names(path: str | Path) -> list[str]:
    """The pipelines that a flows.yaml names, none of them checked."""
    return [str(name) for name in read(Path(path))]


def read(path: Path) -> dict[str, Any]:
    """The entries by name, as YAML has them. What cannot be read is a DataError with its line."""
    try:
        raw = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, expected a flows.yaml; `likeness init SOURCE` writes one") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}), expected a flows.yaml") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text, expected YAML") from None
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        line = f"line {mark.line + 1}: " if mark else ""
        raise DataError(f"{path}: {line}does not parse as YAML ({problem or 'a character that YAML forbids'})") from None
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except RecursionError:
        raise DataError(f"{path}: mappings nested too deep, expected plain YAML") from None
    except ValueError as error:
        raise DataError(f"{path}: a value that is no date or number though it looks like one ({error}); put it in quotes if it is text") from None
    if not isinstance(raw, dict) or not raw:
        raise DataError(f"{path}: found {name_of(raw)}, expected pipelines by name: `NAME: {{source: {{table: …}}}}`")
    return raw


def overridden(raw: Any, override: str) -> Any:
    """An entry after `KEY.KEY=VALUE`, the value parsed as YAML."""
    path, equals, value = override.partition("=")
    if not equals or not path.strip():
        raise DataError(f"--set {override!r}: expected KEY.KEY=VALUE, such as generator.gmm.components=50")
    try:
        value = yaml.load(value, _Loader)
    except (yaml.YAMLError, DataError):
        raise DataError(f"--set {override!r}: the value does not parse as YAML") from None
    return _put(raw, _keys(path.strip().split(".")), value, override)


def _keys(parts: list[str]) -> list[str]:
    """Metrics and columns have dots of their own: gates.fidelity.shape.min is three keys."""
    if parts[0] == "gates" and len(parts) > 2:
        last = parts[-1:] if parts[-1] in ("min", "max") else []
        return ["gates", ".".join(parts[1 : len(parts) - len(last)]), *last]
    if parts[:2] == ["source", "columns"] and len(parts) > 3:
        return ["source", "columns", ".".join(parts[2:-1]), parts[-1]]
    if parts[:2] == ["sample", "where"] and len(parts) > 2:
        return ["sample", "where", ".".join(parts[2:])]
    return parts


def _put(raw: Any, keys: list[str], value: Any, override: str) -> Any:
    if not keys:
        return value
    if keys[0] == "generator" and len(keys) > 1 and isinstance(raw, dict) and isinstance(raw.get("generator"), str):
        raw = {**raw, "generator": {raw["generator"]: {}}}
    if raw is not None and not isinstance(raw, dict):
        raise DataError(f"--set {override!r}: {keys[0]!r} lies within {name_of(raw)}, expected a mapping there")
    raw = raw or {}
    return {**raw, keys[0]: _put(raw.get(keys[0]), keys[1:], value, override)}


class _Loader(yaml.SafeLoader):
    """Safe YAML in which the same key twice is an error, and 1e-3 is a number."""

    def compose_mapping_node(self, anchor):
        node, seen = super().compose_mapping_node(anchor), set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                line = key.start_mark.line + 1
                raise DataError(f"line {line}: the key {key.value!r} stands twice in one mapping, expected once")
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return node


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789"))
