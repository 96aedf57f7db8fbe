"""A made-up meaning of a soft prompt, and a made-up probe."""

from __future__ import annotations

import math

from spt_fast.prompts.meaning import (
    Change,
    Meaning,
    Neighbour,
    Probe,
    Spread,
    Variant,
    VectorMeaning,
)
from spt_fast.types import Metric

MEANING = Meaning(
    prompt="0" * 16,
    vectors=(
        VectorMeaning(
            norm=1.5,
            norm_above=0.25,
            by_cosine=(Neighbour("\udc80\u2028</script>", 7, 0.5), Neighbour(" a", 3, 0.25)),
            by_distance=(Neighbour(" a", 3, 1.25),),
            moved=None,
        ),
    ),
    vocabulary_norms=Spread(0.5, 1.0, 2.0),
    chance=Spread(0.1, 0.2, 0.3),
    alike_by_position=Spread(-0.1, 0.0, 0.1),
    alike_matched=Spread(0.0, 0.1, 0.2),
)


METRIC = Metric(name="format_following", value=0.5, n=2, stderr=math.nan, ci_low=0.125, ci_high=0.875)


PROBE = Probe(
    prompt="0" * 16,
    task="t",
    rows=2,
    variants=(Variant(name="without", left_out=0, metrics=(METRIC,), changes={"format_following": Change(-0.5, -0.75, 0.25)}),),
    tokens=("\udc80", " a"),
)
