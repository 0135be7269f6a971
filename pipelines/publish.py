"""Publishing: everything into a staging folder, one move, then the pointer. A reader never sees half a dataset.

What leaves the house: data/part-*.parquet, manifest.json with verdicts but no figure of an attack, card.md.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from generators.data import DataError
from pipelines import card
from pipelines.config import Entry
from pipelines.house import Run, hash_of, home, replace

ABANDONED = 86400  # seconds after which what another version's run left in staging is removed


def shelf(entry: Entry) -> str:
    """The folder or URL that holds the versions of a pipeline."""
    return f"{entry.publish.rstrip('/')}/{entry.name}" if "://" in entry.publish else str(entry.root / entry.publish / entry.name)


def target(run: Run) -> str:
    """The folder or URL of this version."""
    return f"{shelf(run.entry)}/{run.version}"


def writable(entry: Entry) -> None:
    """Raises DataError if nothing can be written where it is to be published."""
    where, path = f"publish: {public(entry.publish)}", shelf(entry)
    if "://" in entry.publish:
        import fsspec
        from fsspec.implementations.local import LocalFileSystem

        try:
            fs, path = fsspec.core.url_to_fs(path)
        except (ImportError, ValueError, OSError) as problem:
            said = str(problem) if isinstance(problem, ImportError | ValueError) else type(problem).__name__
            raise DataError(f"{where}: cannot be opened ({said}), expected a folder or a URL that fsspec knows") from None
        if not isinstance(fs, LocalFileSystem):
            return
    try:
        folder = Path(path).resolve()
        there = next(f for f in (folder, *folder.parents) if f.exists())
    except (OSError, ValueError):
        raise DataError(f"{where[:80]}: no path that this machine can have, expected a folder") from None
    if folder == home(entry).resolve():
        raise DataError(f"{where}: is where runs are kept, expected a folder of its own")
    if not there.is_dir():
        raise trouble(OSError(errno.ENOTDIR, ""), f"publish: {entry.publish}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise trouble(OSError(errno.EACCES, ""), f"publish: {entry.publish}")


def trouble(problem: OSError, where: str) -> DataError:
    """An OSError in words: no permission, disk full."""
    what = {errno.ENOSPC: "no space left on the disk", errno.EDQUOT: "the disk quota is used up", errno.EACCES: "no permission to write"}
    found = what.get(problem.errno) or os.strerror(problem.errno if problem.errno in errno.errorcode else errno.EIO).lower()
    return DataError(f"{where}: found {found}, expected a folder that can be written to")


def manifest(run: Run, facts: dict) -> dict[str, Any]:
    """Who made this from what, and how: enough to make it again and to check that nothing was changed since."""
    promise, fingerprint = facts["fit"].get("promise"), facts["source"]["fingerprint"]
    parts = [{"file": f"data/{p.name}", "sha256": hash_of(p)} for p in sorted((run.folder / "data").glob("*.parquet"))]
    return {
        "name": run.entry.name, "version": run.version, "created": facts["created"], "synthetic": True, "rows": facts["sample"]["rows"], "parts": parts,
        "source": {"kind": facts["source"]["kind"], "location": public(facts["source"]["location"]), "fingerprint": None if promise else fingerprint},
        "configuration": _public(run.entry.to_json()), "configuration_sha256": run.entry.digest, "seed": run.entry.seed,
        "generator": run.entry.family, "software": facts["software"], "device": facts["device"],
        "verdict": facts["verdict"]["verdict"], "verdicts": {row["metric"]: row["verdict"] for row in facts["verdict"]["rows"]},
        "privacy": {"rare_below": run.entry.rare_below, "differential_privacy": promise},
    }  # fmt: skip


def public(location: str) -> str:
    """A path or URL without the user, password or signature that it may hold."""
    if "://" not in location:
        return location
    scheme, rest = location.split("://", 1)
    return f"{scheme}://{re.split(r'[?#]', rest.rsplit('@', 1)[-1])[0]}"


def _public(value: Any) -> Any:
    """A configuration in which every URL is public."""
    if isinstance(value, dict):
        return {k: _public(v) for k, v in value.items()}
    return public(value) if isinstance(value, str) else value


def publish(run: Run, facts: dict) -> str:
    """Publishes data/ of the run unless this version is there already; then points latest.json at it. Returns where."""
    where = target(run)
    if "://" in where:
        _publish_to_url(run, where, facts)
        return where
    folder = Path(where)
    try:
        for left in folder.parent.glob(".staging-*"):
            if left.name.startswith(f".staging-{run.version}-") or time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)
        if not folder.exists():
            staging = folder.with_name(f".staging-{run.version}-{os.getpid()}")
            try:
                (staging / "data").mkdir(parents=True)
                for part in sorted((run.folder / "data").glob("*.parquet")):
                    shutil.copyfile(part, staging / "data" / part.name)
                for name, text in _papers(run, facts).items():
                    replace(staging / name, text)
                os.rename(staging, folder)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
        elif not unchanged(run):
            raise DataError(f"{where}: does not hold what its manifest says, found parts changed since they were published; move it away and run again")
        elif json.loads((folder / "manifest.json").read_text())["parts"] != manifest(run, facts)["parts"]:
            raise DataError(f"{where}: holds other parts than this version, expected what its manifest says; move it away and run again")
        replace(folder.parent / "latest.json", _pointer(run))
    except OSError as problem:
        raise trouble(problem, f"publish: {run.entry.publish}") from None
    return where


def unchanged(run: Run) -> bool:
    """Whether this version, published before, is whole and as its manifest says."""
    folder = Path(target(run))
    try:
        stated = json.loads((folder / "manifest.json").read_text())["parts"]
        return all(hash_of(folder / part["file"]) == part["sha256"] for part in stated)
    except (OSError, KeyError, ValueError):
        return False


def _stated(fs: Any, manifest: str) -> list | None:
    """The parts of a version that was published; None where its manifest, which comes last, is not there, or was cut off."""
    if not fs.exists(manifest):
        return None
    try:
        return json.loads(fs.cat_file(manifest))["parts"]
    except (ValueError, LookupError, TypeError):
        return None


def _papers(run: Run, facts: dict) -> dict[str, str]:
    return {"manifest.json": json.dumps(manifest(run, facts), indent=1, sort_keys=True), "card.md": card.render(facts)}


def _pointer(run: Run) -> str:
    return json.dumps({"name": run.entry.name, "version": run.version, "path": run.version})


def _publish_to_url(run: Run, where: str, facts: dict) -> None:
    """Object stores know no move: parts first, the manifest after them, the pointer last."""
    import fsspec

    fs, path = fsspec.core.url_to_fs(where)
    try:
        if parts := _stated(fs, f"{path}/manifest.json"):
            if parts != manifest(run, facts)["parts"]:
                raise DataError(f"{public(where)}: holds other parts than this version, expected what its manifest says; move it away and run again")
            for part in parts:
                if not fs.exists(f"{path}/{part['file']}") or fs.size(f"{path}/{part['file']}") != (run.folder / part["file"]).stat().st_size:
                    raise DataError(f"{public(where)}: lacks parts, or holds others, expected what its manifest says; move it away and run again")
        else:
            fs.makedirs(f"{path}/data", exist_ok=True)
            for part in sorted((run.folder / "data").glob("*.parquet")):
                fs.put(str(part), f"{path}/data/{part.name}")
            for name, text in reversed(_papers(run, facts).items()):
                fs.pipe(f"{path}/{name}", text.encode())
        fs.pipe(f"{path.rsplit('/', 1)[0]}/latest.json", _pointer(run).encode())
    except OSError as problem:
        raise trouble(problem, f"publish: {run.entry.publish}") from None


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
