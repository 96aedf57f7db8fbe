"""The planted run folder, once for all tests that only read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.planted import plant


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant(tmp_path_factory.mktemp("planted"))
