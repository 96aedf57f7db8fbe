"""`inspect PROMPT`: what a soft prompt is, as text."""

from __future__ import annotations

import numpy as np

from spt_fast.config import ModelConfig
from spt_fast.errors import ConfigError
from spt_fast.models.identity import require_resolved, resolve
from spt_fast.output import Location
from spt_fast.prompts.soft_prompt import SoftPrompt, load_steps


def inspect_file(path: Location, model: str | None, *, top: int) -> str:
    """Provenance and norms; nearest tokens too where the model can be loaded.

    Raises:
        StoreError: the file is no soft prompt.
        ConfigError: `model` is not there, or is another model than the one it was learnt for.
    """
    steps = load_steps(path)
    prompt = SoftPrompt.load(path)
    lines = [f"{path}: {prompt.length} vectors of {prompt.hidden_size} numbers, key {prompt.key}"]
    lines += [f"  {name}: {value}" for name, value in sorted(prompt.provenance.items()) if value]
    if len(steps) > 1:
        lines.append(f"  steps in the file: {', '.join(str(step) for step in steps)}")
    name = model or prompt.provenance.get("model")
    if name is None:
        return "\n".join([*lines, *_norms(prompt), "the file names no model; --model shows the nearest tokens"])
    try:
        return "\n".join([*lines, "", *_nearest(prompt, name, top)])
    except ConfigError as e:
        if model is not None:
            raise
        return "\n".join([*lines, *_norms(prompt), f"no nearest tokens: {e}; name the model with --model"])


def _norms(prompt: SoftPrompt) -> list[str]:
    norms = np.linalg.norm(prompt.vectors, axis=1)
    return [f"  vector {i:3d}  norm {norm:.3f}" for i, norm in enumerate(norms)]


def _nearest(prompt: SoftPrompt, name: str, top: int) -> list[str]:
    resolved = require_resolved(resolve(ModelConfig(id=name))[0])
    from spt_fast.inspection import nearest_tokens
    from spt_fast.models.frozen_model import FrozenModel
    from spt_fast.tuning import load_tokenizer

    model = FrozenModel.load(resolved.source, revision=resolved.revision)
    tokenizer = load_tokenizer(resolved)
    if model.hidden_size != prompt.hidden_size:
        raise ConfigError(f"{name}: has H = {model.hidden_size}, and the soft prompt has H = {prompt.hidden_size}")
    report = nearest_tokens(prompt, model, tokenizer, top=top)
    low, middle, high = report.vocabulary_norms
    lines = [f"norms of the vocabulary: median {middle:.3f}, 5 to 95 % in {low:.3f} to {high:.3f}", ""]
    for i, vector in enumerate(report.vectors):
        near = "  ".join(f"{neighbour.token!r} {neighbour.cosine:.2f}" for neighbour in vector.neighbours)
        lines.append(f"vector {i:3d}  norm {vector.norm:.3f}  nearest {near}")
    return lines
