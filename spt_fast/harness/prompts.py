"""Which soft prompt a task of lm-eval is asked behind."""

from __future__ import annotations

from dataclasses import dataclass, field

from spt_fast.analysis.runs import open_run
from spt_fast.config.reader import LM_EVAL
from spt_fast.config.strict import did_you_mean
from spt_fast.errors import ConfigError
from spt_fast.models.identity import Model
from spt_fast.prompts.soft_prompt import SoftPrompt, is_prompt_file


@dataclass(frozen=True)
class SoftPrompts:
    """Soft prompts by the name of the task, as lm-eval has it; or one for all tasks."""

    by_task: dict[str, SoftPrompt] = field(default_factory=dict)
    for_all: SoftPrompt | None = None
    where: str = ""

    def of(self, task: str | None) -> SoftPrompt | None:
        """The one of a task; None: there are no soft prompts at all.

        Raises:
            ConfigError: the run folder has none for this task.
        """
        if not self.where or self.for_all is not None:
            return self.for_all
        if task in self.by_task:
            return self.by_task[task]
        there = ", ".join(sorted(self.by_task))
        raise ConfigError(f"soft_prompts: {self.where} has none for the task {task}; there are {there}")


def read(where: str | None, model: Model, *, protocol: str = "soft_prompt", seed: int = 0) -> SoftPrompts:
    """Those of a run folder, at their last steps; or one of a file, for all tasks.

    Raises:
        ConfigError: there are none of this model, protocol and seed.
        StoreError: a file is damaged.
    """
    if not where:
        return SoftPrompts()
    if is_prompt_file(where):
        return SoftPrompts(for_all=SoftPrompt.load(where), where=where)
    run = open_run(where)
    found: dict[str, SoftPrompt] = {}
    models: set[str] = set()
    for place, key in run.done.items():
        models.add(place.model)
        if place.model == model.name and place.protocol.partition("[")[0] == protocol and place.seed == seed:
            steps = run.store.learnt.soft_prompts(key)
            if steps:
                found[place.task.removeprefix(LM_EVAL)] = steps[max(steps)]
    if not found:
        meant = "" if model.name in models else did_you_mean(model.name, models)
        raise ConfigError(
            f"soft_prompts: {where} has no soft prompt of {model.name} for protocol={protocol}, seed={seed}{meant}; "
            "run its grid, or name the folder of another run"
        )
    return SoftPrompts(by_task=found, where=where)
