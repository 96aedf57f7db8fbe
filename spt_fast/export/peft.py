"""Soft prompts and LoRA as PEFT adapters: `<model>/<task>@<protocol>/`, which `PeftModel.from_pretrained` loads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from spt_fast.analysis.names import portable
from spt_fast.analysis.runs import Run
from spt_fast.errors import ConfigError
from spt_fast.export.source import Written, done_cells
from spt_fast.prompts.adapters import save_adapter

NOT_CARRIED = (
    "what was learnt at the steps before the last: prompt.safetensors or adapter.safetensors of a cell has it",
    "scores, and how it was learnt, but for what stands in the header of adapter_model.safetensors",
)


def write(source: Run, to: Path) -> Written:
    """Write an adapter for each done cell that has a soft prompt or an adapter.

    Raises:
        ConfigError: no cell has one that PEFT can hold.
        StoreError: a file is damaged, or nothing can be written there.
    """
    written, left = 0, []
    for cell in done_cells(source):
        model = source.model(cell.model)
        folder = to / portable(cell.model) / cell.name
        if (adapter := cell.adapter()) is not None:
            base = {"base_model_name_or_path": model.get("source", cell.model), "revision": model.get("revision")}
            replace(adapter, config={**adapter.config, **base}).save(folder)
            written += 1
        if (prompt := cell.soft_prompt()) is None:
            continue
        if prompt.position != "front":
            left.append(f"{cell.model} {cell.name}: has position: {prompt.position}, and PEFT puts all in front")
            continue
        save_adapter(prompt, folder, base_model=model.get("source", cell.model), revision=model.get("revision"))
        written += 1
    if not written:
        why = "PEFT puts all in front of BOS, and none stands there" if left else "no done cell of the run has one"
        raise ConfigError(f"--format peft: there is no soft prompt to export: {why}")
    return Written(count=written, what="adapters", not_carried=(*NOT_CARRIED, *left))
