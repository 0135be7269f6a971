"""`likeness serve`: a pipeline with a schedule of every minute runs by itself."""

import os
import signal
import subprocess
import sys
import time

import pytest
from projects import ENTRY, ROOT, lay

from pipelines.cli import main


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_minute_runs_twice(tmp_path):
    config = lay(tmp_path, ENTRY + '  schedule: {cron: "* * * * *", timezone: Europe/Berlin}\n')
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT")} | {"PYTHONPATH": str(ROOT)}
    with open(tmp_path / "serve.log", "w") as log:
        process = subprocess.Popen([sys.executable, "-m", "pipelines", "serve", "--config", str(config)], env=environment, cwd=tmp_path, stdout=log, stderr=log)
        try:
            until, runs = time.monotonic() + 300, 0
            while runs < 2 and time.monotonic() < until and process.poll() is None:
                time.sleep(2)
                runs = sum(text.count("ward: PASS") for text in (f.read_text() for f in (tmp_path / "runs").glob("ward/*/log.txt")))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
    assert runs >= 2, (tmp_path / "serve.log").read_text()
    assert len(list((tmp_path / "published" / "ward").glob("*/manifest.json"))) == 1


def test_serve_without_a_schedule_is_an_error(tmp_path, prefect, capsys):
    assert main(["serve", "--config", str(lay(tmp_path))]) == 2
    assert "no entry has a schedule" in capsys.readouterr().err
