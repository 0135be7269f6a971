"""One Prefect server for all tests that run flows, and a project folder for each."""

import os

import pytest

from pipelines import server


@pytest.fixture(scope="session")
def prefect(tmp_path_factory):
    """A server on loopback; its address is in the environment while the tests run."""
    server.settle(tmp_path_factory.mktemp("prefect"))
    with server.server() as ready:
        yield ready()


@pytest.fixture
def project(tmp_path, prefect):
    """A folder to put a flows.yaml into."""
    return tmp_path


@pytest.fixture(scope="session")
def real_data():
    """The folder of real tables that tests may look at; they are skipped where LIKENESS_DATA does not name it."""
    folder = os.environ.get("LIKENESS_DATA")
    if not folder:
        pytest.skip("LIKENESS_DATA is not set: real tables are not looked at")
    return folder
