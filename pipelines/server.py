"""Prefect, quiet and at home: its settings, and a server on loopback that ends with the process that started it.

Import this before prefect: `settle` sets the environment that prefect reads once.
An empty database takes Prefect ten seconds to make, so one is kept in the user's cache and copied into new projects;
`python -m pipelines.server` puts it there.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

STARTS_WITHIN = 120  # seconds
DATABASE = "prefect.db"
NEEDED = 5_000_000  # bytes that it takes, and its journal


def settle(root: Path) -> None:
    """Prefect keeps its state beside flows.yaml, calls nobody, and prints nothing of its own. What is set already stays."""
    home = Path(root).resolve() / ".prefect"
    quiet = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "PREFECT_CLI_PROMPT": "false",
    }
    for key, value in quiet.items():
        os.environ.setdefault(key, value)


@contextmanager
def server(services: bool = False) -> Iterator[Callable[[], str]]:
    """The Prefect API that is configured, or that of a server of our own, started at once, for the time of the block.

    services: also what schedules flow runs. Yields a function that waits for the server and returns its address.
    """
    if os.environ.get("PREFECT_API_URL"):
        yield lambda: os.environ["PREFECT_API_URL"]
        return
    process, url = start(services)
    os.environ["PREFECT_API_URL"] = url
    _read_again()
    try:
        yield lambda: wait(process, url)
    finally:
        del os.environ["PREFECT_API_URL"]
        _read_again()
        process.terminate()
        try:
            process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _read_again() -> None:
    """Prefect reads its environment when it is imported, which may have been before."""
    if "prefect" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()


def start(services: bool) -> tuple[subprocess.Popen, str]:
    """Starts a server on a free port of loopback. One at a time makes its database, the others wait for it."""
    home = Path(os.environ["PREFECT_HOME"])
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    _take_empty(home / DATABASE)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = {"PREFECT_UI_ENABLED": "0"} if services else {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--log-level", "critical", "--lifespan", "on"],
        env=os.environ | flags,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,
    )  # fmt: skip
    return process, f"http://127.0.0.1:{port}/api"


def wait(process: subprocess.Popen, url: str) -> str:
    """Returns the address when the server answers. Raises RuntimeError if it ends or does not answer in time."""
    with open(Path(os.environ["PREFECT_HOME"]) / ".starting", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        until = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < until:
            if process.poll() is not None:
                _room(Path(os.environ["PREFECT_HOME"]))
                raise RuntimeError(f"the Prefect server ended with code {process.returncode} before it answered")
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                    if answer.status == 200:
                        _keep_empty(Path(os.environ["PREFECT_HOME"]) / DATABASE)
                        return url
            except OSError:
                time.sleep(0.1)
        raise RuntimeError(f"the Prefect server did not answer within {STARTS_WITHIN} s")


def empty() -> Path:
    """Where the empty database of this version of Prefect is kept."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "likeness" / f"prefect-{version('prefect')}.db"


def _room(home: Path) -> None:
    """Raises OSError where a database does not fit."""
    if shutil.disk_usage(home).free < NEEDED:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(home))


def _take_empty(database: Path) -> None:
    """Puts the empty database where there is none, if one is kept."""
    with contextlib.suppress(OSError, RuntimeError, sqlite3.Error):
        if not database.exists() and empty().is_file():
            _copy(empty(), database)


def _keep_empty(database: Path) -> None:
    """Keeps a database's tables without a row of them, unless they are kept already."""
    with contextlib.suppress(OSError, RuntimeError, sqlite3.Error):
        if database.is_file() and not empty().exists():
            empty().parent.mkdir(parents=True, exist_ok=True)
            _copy(database, empty(), rows=False)


def _copy(here: Path, there: Path, rows: bool = True) -> None:
    """Copies a database, whole or not at all; what is there already stays."""
    beside = there.with_name(f".{there.name}.{os.getpid()}")
    try:
        with contextlib.closing(sqlite3.connect(f"{here.as_uri()}?mode=ro", uri=True)) as source, contextlib.closing(sqlite3.connect(beside)) as copy:
            source.backup(copy)
            if not rows:
                tables = [name for (name,) in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
                for name in set(tables) - {"alembic_version"}:
                    copy.execute(f'DELETE FROM "{name}"')
                copy.commit()
                copy.execute("VACUUM")
        with contextlib.suppress(FileExistsError):
            os.link(beside, there)
    finally:
        beside.unlink(missing_ok=True)


def _end_with_parent() -> None:
    """The kernel ends the server when the process that started it is gone, even by SIGKILL."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        settle(Path(scratch))
        with server() as started:
            started()
