"""The empty database that is kept: all of Prefect's tables, and nothing that a run wrote."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from projects import lay, run

from pipelines import server


def tables(database: Path) -> dict[str, int]:
    with closing(sqlite3.connect(database)) as opened:
        names = [name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: opened.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}


def test_an_empty_database_is_kept_and_copied_into_a_new_project(project, monkeypatch):
    assert run(lay(project))[0] == 0
    used = Path(os.environ["PREFECT_HOME"]) / server.DATABASE
    monkeypatch.setenv("XDG_CACHE_HOME", str(project / "cache"))
    server._keep_empty(used)
    kept = tables(server.empty())
    assert set(kept) == set(tables(used)) and tables(used)["flow_run"]
    assert {name for name, rows in kept.items() if rows} == {"alembic_version"}
    server._take_empty(project / "new.db")
    assert tables(project / "new.db") == kept


def test_a_damaged_copy_in_the_cache_does_no_harm(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    server.empty().parent.mkdir(parents=True)
    server.empty().write_bytes(b"no database")
    server._take_empty(tmp_path / "new.db")
    assert [path.name for path in tmp_path.iterdir()] == ["likeness"]
