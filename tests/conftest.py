"""One Prefect server for all tests that run flows, and a project folder for each."""

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
