"""Where a run folder can be: fixtures that give a test each of them, one that nobody else has."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from spt_fast.config.output import Location


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """A bucket of S3, served by moto on this machine."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem().mkdir("spt-fast")
        yield "s3://spt-fast"
    server.stop()


def url_in(kind: str, request: pytest.FixtureRequest) -> str:
    """A URL of this kind that nothing is at."""
    root = request.getfixturevalue("bucket") if kind == "s3" else "memory://"
    return f"{root.rstrip('/')}{'/' if kind == 's3' else '//'}{uuid.uuid4().hex}"


@pytest.fixture(params=["folder", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """A folder that is there and empty, or a URL that nothing is at."""
    return tmp_path if request.param == "folder" else url_in(request.param, request)


@pytest.fixture(params=["memory", "s3"])
def url(request: pytest.FixtureRequest) -> str:
    """A URL that nothing is at."""
    return url_in(request.param, request)
