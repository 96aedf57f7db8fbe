"""The tasks of the comparison, each with what of lm-eval it is there for, and where its rows are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Case:
    """A task to compare."""

    task: str
    """Its name, or a YAML file beside this one."""
    rows: str = ""
    """A layout of `made_rows`; of real rows their folder."""
    covers: str
    shots: int = 2
    """Of the few-shot comparison; 0: there is none."""
    only: Mapping[str, str] = field(default_factory=dict)
    """Of real rows those that have these values."""

    @property
    def reference(self) -> str:
        """As a grid names it."""
        return f"lm-eval:{HERE / 'tasks' / self.task if self.task.endswith('.yaml') else self.task}"


CASES = (
    Case(task="arc_easy", rows="arc", covers="multiple_choice without letters, acc_norm"),
    Case(task="arc_challenge", rows="arc", covers="`include` of another task"),
    Case(task="piqa", rows="piqa", covers="options from two columns, validation rows scored"),
    Case(task="hellaswag", rows="hellaswag", covers="`!function` process_docs"),
    Case(task="openbookqa", rows="openbookqa", covers="a column as the whole prompt"),
    Case(task="sciq", rows="sciq", covers="a constant index as target"),
    Case(task="boolq", rows="boolq", covers="a list as doc_to_choice"),
    Case(task="copa", rows="copa", covers="`!function` text, target and options"),
    Case(task="winogrande", rows="winogrande", covers="one prompt for each option (multiple inputs)"),
    Case(task="social_iqa", rows="social_iqa", covers="a Jinja filter in the target"),
    Case(task="blimp_anaphor_gender_agreement", rows="blimp", covers="an empty prompt", shots=0),
    Case(task="truthfulqa_mc1", rows="truthfulqa", covers="worked examples inside the prompt", shots=0),
    Case(task="truthfulqa_mc2", rows="truthfulqa", covers="mc2: `process_results` over likelihoods", shots=0),
    Case(task="qnli", rows="qnli", covers="GLUE"),
    Case(task="rte", rows="rte", covers="GLUE, capital options"),
    Case(task="sst2", rows="sst2", covers="GLUE, one sentence"),
    Case(task="cola", rows="cola", covers="mcc over all rows"),
    Case(task="mrpc", rows="rte", covers="f1 over all rows"),
    Case(task="cb", rows="nli", covers="f1 by a function of its own"),
    Case(task="wic", rows="wic", covers="slices in the template"),
    Case(task="logiqa", rows="logiqa", covers="`!function` text with options in the prompt"),
    Case(task="race", rows="race", covers="a prompt from several questions of a passage"),
    Case(task="anli_r1", rows="nli", covers="splits with names of their own, text targets"),
    Case(task="xnli_en", rows="nli", covers="an empty prompt, whole sentences as options"),
    Case(task="xcopa_it", rows="xcopa", covers="another language, validation rows for shots"),
    Case(task="xwinograd_en", rows="xwinograd", covers="multiple inputs, test rows alone", shots=1),
    Case(task="xstorycloze_en", rows="storycloze", covers="a target that is reckoned"),
    Case(task="mathqa", rows="mathqa", covers="options parsed from text"),
    Case(task="pubmedqa", rows="pubmedqa", covers="text targets, three options"),
    Case(task="mmlu_anatomy", rows="mmlu", covers="letters, description, dev rows first_n"),
    Case(task="commonsense_qa", rows="commonsense_qa", covers="letters as targets"),
    Case(task="belebele_eng_Latn", rows="belebele", covers="shots from the test rows themselves"),
    Case(task="medqa_4options", rows="medqa", covers="letters by functions"),
    Case(task="medmcqa", rows="medmcqa", covers="letters, test and validation the same rows"),
    Case(task="leaderboard_mmlu_pro", rows="mmlu_pro", covers="ten letters, validation rows for shots"),
    Case(task="leaderboard_bbh_boolean_expressions", rows="boolean", covers="fixed samples", shots=3),
    Case(task="toxigen", rows="toxigen", covers="a target by a function"),
    Case(task="crows_pairs_english", rows="crows", covers="likelihood_diff, an empty prompt and delimiter", shots=0),
    Case(task="swag", rows="swag", covers="a sentence that goes on"),
    Case(task="kobest_boolq", rows="kobest", covers="a prompt that ends in a space; Korean; macro f1"),
    Case(task="agieval_sat_math", rows="agieval", covers="several right options", shots=0),
    Case(task="webqs", rows="webqs", covers="exact_match of greedy options, several targets"),
    Case(task="lambada_openai", rows="lambada", covers="loglikelihood: perplexity and greedy accuracy", shots=1),
    Case(task="arithmetic_2da", rows="arithmetic", covers="loglikelihood with process_docs", shots=1),
    Case(task="gsm8k", rows="gsm8k", covers="two regex filters, `until`"),
    Case(task="gsm8k_cot", rows="gsm8k", covers="fixed samples with targets of their own", shots=4),
    Case(task="triviaqa", rows="triviaqa", covers="several targets, remove_whitespace"),
    Case(task="nq_open", rows="nq_open", covers="several targets, a description"),
    Case(task="drop", rows="drop", covers="em and f1 by process_results, an empty delimiter"),
    Case(task="coqa", rows="coqa", covers="a conversation, f1 by process_results"),
    Case(task="bbh_cot_fewshot_boolean_expressions", rows="boolean", covers="worked chains of thought", shots=3),
    Case(task="bbh_zeroshot_boolean_expressions", rows="boolean", covers="take_first and a filter of its own", shots=0),
    Case(task="mmlu_flan_cot_zeroshot_anatomy", rows="mmlu", covers="multi_choice_regex", shots=0),
    Case(task="mmlu_anatomy_generative", rows="mmlu", covers="four filter steps"),
    Case(task="hendrycks_math_algebra", rows="math", covers="process_results with equality of its own"),
    Case(task="wmt16-en-ro", rows="wmt", covers="bleu, ter and chrf over all rows", shots=1),
    Case(task="mgsm_direct_en", rows="mgsm", covers="conditions in the template, an empty delimiter"),
    Case(task="mmlu_pro_math", rows="mmlu_pro", covers="letters written, validation rows for shots", shots=2),
    Case(task="brier.yaml", rows="arc", covers="a user's YAML: brier_score, likelihood, acc_bytes, acc_mutual_info"),
    Case(task="colon.yaml", rows="boolq", covers="a user's YAML: target delimiter ':'"),
    Case(task="glued.yaml", rows="mmlu", covers="a user's YAML: no delimiter, options that begin with a space"),
    Case(task="prefix.yaml", rows="nq_open", covers="a user's YAML: gen_prefix, f1 of several targets"),
    Case(task="mc2.yaml", rows="truthfulqa", covers="a user's YAML and Python: mc2", shots=0),
    Case(task="line.yaml", rows="boolq", covers="a user's YAML: a line break as delimiter"),
)


REAL = (
    Case(task="arc_easy", rows="arc_easy", covers="multiple_choice without letters, acc_norm"),
    Case(task="piqa", rows="piqa", covers="options from two columns, validation rows scored"),
    Case(task="boolq", rows="boolq", covers="a list as doc_to_choice"),
    Case(task="boolq-seq2seq", rows="boolq", covers="the same, written: exact_match without case and punctuation"),
    Case(task="belebele_eng_Latn", rows="belebele", covers="letters, shots from the test rows themselves"),
    *(
        Case(task=f"mmlu_{subject}", rows="mmlu", only={"subject": subject}, covers="letters, description, dev rows first_n")
        for subject in ("professional_law", "miscellaneous", "high_school_mathematics", "astronomy")
    ),
    Case(
        task="mmlu_nutrition_generative",
        rows="mmlu",
        only={"subject": "nutrition"},
        covers="letters written, four filter steps",
    ),
    Case(task="triviaqa", rows="triviaqa", covers="several targets, remove_whitespace"),
    Case(task="gsm8k", rows="gsm8k", covers="two regex filters, `until`"),
    Case(task="hendrycks_math500", rows="math500", covers="process_results with equality of its own", shots=0),
    Case(task="squad.yaml", rows="squad", covers="a user's YAML: text taken from a passage, several targets"),
)
"""On rows of the data sets themselves, in the columns that they have on the Hub."""
