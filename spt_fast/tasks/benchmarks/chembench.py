"""ChemBench (arXiv 2404.01475): chemistry questions with 2 to 16 options, answered in full ("B. Paris")."""

from __future__ import annotations

from collections.abc import Mapping

from spt_fast.tasks.base import Cut, HubSource, LeftOut, Row, Task
from spt_fast.tasks.columns import chosen, decoded, group_of, in_fixed_order, listed, part, text_part
from spt_fast.tasks.multiple_choice import FORM, INSTRUCTION
from spt_fast.tasks.template import Template
from spt_fast.types import Example, Sampling

_CONFIGS = (
    "analytical_chemistry",
    "chemical_preference",
    "general_chemistry",
    "inorganic_chemistry",
    "materials_science",
    "organic_chemistry",
    "physical_chemistry",
    "technical_chemistry",
    "toxicity_and_safety",
)


def read_row(row: Row) -> Example:
    """`metrics`, `examples` (one: `input`, and `target_scores`, JSON text of option -> score), `subfield`.

    No questions of the task: those for a number, and those with several right options or none.
    """
    if listed(row, "metrics") != ["multiple_choice_grade"]:
        raise LeftOut("that want no option", column="metrics", by_design=True)
    examples = listed(row, "examples")
    if len(examples) != 1:
        raise ValueError(f"column 'examples' has {len(examples)} entries; it is to have one")
    question = text_part({"examples": examples[0]}, "examples", "input")
    scores = decoded(part({"examples": examples[0]}, "examples", "target_scores"), "examples.target_scores")
    if not isinstance(scores, Mapping):
        raise TypeError(f"column 'examples': target_scores is {type(scores).__name__}, not an object")
    right = [option for option, score in scores.items() if score == 1]
    if len(right) != 1:
        raise LeftOut("with several right options, or none", column="examples", by_design=True)
    options = in_fixed_order(question, list(scores))
    return chosen(question=question, options=options, gold=options.index(right[0]), group=group_of(row, "subfield"))


TASK = Task(
    name="chembench",
    version=2,
    summary="chemistry questions with 2 to 16 options, answered in full (B. Paris)",
    source=HubSource(
        id="jablonkagroup/ChemBench",
        config=_CONFIGS,
        revision="6e1d25748952393f44e35b8e85bbe567246a6430",
        splits={"test": "train"},
        sizes={"test": 2785},
    ),
    cut=Cut(),
    read_row=read_row,
    sample={
        "canary": "",
        "description": "What dissolves in water",
        "examples": [
            {
                "input": "Which of these dissolves best in cold water?",
                "target": None,
                "target_scores": '{"Sand": 0.0, "Table salt": 1.0, "Chalk": 0.0, "Candle wax": 0.0}',
            }
        ],
        "in_humansubset_w_tool": False,
        "in_humansubset_wo_tool": False,
        "keywords": ["requires-knowledge", "difficulty-basic"],
        "metrics": ["multiple_choice_grade"],
        "name": "dissolves_in_water",
        "preferred_score": "multiple_choice_grade",
        "uuid": "00000000-0000-5000-8000-000000000000",
        "subfield": "General Chemistry",
    },
    template=Template(instruction=INSTRUCTION, item="Question: {question}\n{options}\nAnswer:"),
    form=FORM,
    sampling=Sampling(max_tokens=256, stop=("\nQuestion:",)),
    random_baseline=0.35,
    licence="MIT",
    notes="Of 2,785 rows, those for a number and those with several right options or none are left out. The data set has one "
    "split, called train: 640 rows are cut off for tuning and 32 for shots, the rest is scored. Options stand in the order of "
    "their hashes, because the published order may tell which is right; formulas and SMILES keep their marks (\\ce{}, "
    "[START_SMILES]). A thousand rows ask which of two molecules chemists like better, hence a guess's share, which is an "
    "estimate. Its card says that it is not for training: do not publish a soft prompt that was learnt on it.",
)
