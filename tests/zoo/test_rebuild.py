"""The recipe still gives a model as good as the committed one. Some minutes: only where it is asked for."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from spt_fast import zoo


@pytest.mark.slow
@pytest.mark.skipif("SPT_FAST_REBUILD" not in os.environ, reason="takes five to ten minutes: SPT_FAST_REBUILD=1 asks for it")
def test_a_model_built_anew_knows_as_much_as_the_committed_one(tmp_path: Path) -> None:
    from spt_fast.zoo.build import build

    (folder,) = build(["base-40"], into=tmp_path)
    anew, committed = (json.loads((f / "zoo.json").read_text()) for f in (folder, zoo.find("base-40")))
    assert anew["recipe"] == committed["recipe"]
    assert anew["planted"] == committed["planted"]
    for name, value in committed["measured"].items():
        assert anew["measured"][name] == pytest.approx(value, abs=0.1), name
