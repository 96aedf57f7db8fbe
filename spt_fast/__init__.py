"""spt-fast: what a base model knows, apart from whether it writes the answer in the form asked for.

The names below are the public ones. They are looked up when first used, so that `import spt_fast` is light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spt_fast.analysis.compare import compare_protocols, compare_runs
    from spt_fast.analysis.ranking import rank_run
    from spt_fast.analysis.runs import read_run
    from spt_fast.config import GridConfig, ModelConfig, SoftPromptConfig, TaskConfig
    from spt_fast.config.reader import load_grid
    from spt_fast.driver.result import GridResult
    from spt_fast.driver.run import run_grid
    from spt_fast.errors import (
        ConfigError,
        DataError,
        EngineError,
        ModelError,
        ScoringError,
        SptError,
        StoreError,
        TrainingError,
    )
    from spt_fast.in_loop.evaluate import evaluate_in_loop
    from spt_fast.in_loop.result import InLoopResult, SoftPrompts
    from spt_fast.prompts.soft_prompt import SoftPrompt
    from spt_fast.training.task import tune

_HOME = {
    "ConfigError": "errors",
    "DataError": "errors",
    "EngineError": "errors",
    "GridConfig": "config",
    "GridResult": "driver.result",
    "InLoopResult": "in_loop.result",
    "ModelConfig": "config",
    "ModelError": "errors",
    "ScoringError": "errors",
    "SoftPrompt": "prompts.soft_prompt",
    "SoftPromptConfig": "config",
    "SoftPrompts": "in_loop.result",
    "SptError": "errors",
    "StoreError": "errors",
    "TaskConfig": "config",
    "TrainingError": "errors",
    "compare_protocols": "analysis.compare",
    "compare_runs": "analysis.compare",
    "evaluate_in_loop": "in_loop.evaluate",
    "load_grid": "config.reader",
    "rank_run": "analysis.ranking",
    "read_run": "analysis.runs",
    "run_grid": "driver.run",
    "tune": "training.task",
}

__all__ = [
    "ConfigError",
    "DataError",
    "EngineError",
    "GridConfig",
    "GridResult",
    "InLoopResult",
    "ModelConfig",
    "ModelError",
    "ScoringError",
    "SoftPrompt",
    "SoftPromptConfig",
    "SoftPrompts",
    "SptError",
    "StoreError",
    "TaskConfig",
    "TrainingError",
    "compare_protocols",
    "compare_runs",
    "evaluate_in_loop",
    "load_grid",
    "rank_run",
    "read_run",
    "run_grid",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
