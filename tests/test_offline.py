"""A run calls nobody: every connection that a run or a server that it starts would make to another machine is an error."""

import json

from projects import lay, spawn

GUARD = """
import sys, os

def guard(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1] if event == "socket.connect" else arguments[-1]
        host = address[0] if isinstance(address, tuple) else "local"
        if host not in ("127.0.0.1", "::1", "localhost", "local"):
            open(os.environ["GUARD_LOG"], "a").write(f"{event} {address}\\n")
            raise OSError("outbound connections are forbidden in this test")
    if event == "socket.getaddrinfo" and arguments[0] not in (None, "127.0.0.1", "::1", "localhost", b"127.0.0.1"):
        open(os.environ["GUARD_LOG"], "a").write(f"{event} {arguments[0]}\\n")
        raise OSError("outbound look-ups are forbidden in this test")

sys.addaudithook(guard)
"""


def test_a_run_attempts_no_outbound_connection(tmp_path):
    guard = tmp_path / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(GUARD)
    (tmp_path / "project").mkdir()
    config = lay(tmp_path / "project")
    log = tmp_path / "attempts"
    from projects import ROOT

    process = spawn(config, env={"PYTHONPATH": f"{guard}:{ROOT}", "GUARD_LOG": str(log), "PREFECT_API_URL": "", "PREFECT_HOME": str(tmp_path / "prefect")})
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    assert json.loads(out.strip().splitlines()[-1])["verdict"] == "PASS"
    assert not log.exists(), log.read_text()
