"""Made-up rows in the columns of the data sets that tasks of lm-eval read: a few of each, the same every time."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Row: TypeAlias = dict[str, Any]
Maker: TypeAlias = Callable[[random.Random, int], Row]

_NAMES = ("Ada", "Bram", "Carla", "Dmitri", "Esra", "Femi", "Greta", "Hugo", "Ines", "Jonas", "Kaya", "Lena")
_THINGS = ("a kettle", "the old map", "seven stamps", "a red kite", "some thread", "the ladder", "a brass bell", "two lamps")
_PLACES = ("the harbour", "Ghent", "the attic", "a mountain hut", "the library", "Oslo", "the market", "a small garden")
_ACTS = ("carried", "painted", "lost", "mended", "sold", "hid", "found", "weighed")
_WHY = ("because it was raining", "before breakfast", "for a neighbour", "without a word", "on the last day of May", "again")
LETTERS = "ABCDEFGHIJ"


def sentence(rng: random.Random) -> str:
    """One sentence."""
    return f"{rng.choice(_NAMES)} {rng.choice(_ACTS)} {rng.choice(_THINGS)} in {rng.choice(_PLACES)} {rng.choice(_WHY)}."


def question(rng: random.Random) -> str:
    """One question, without a mark."""
    return f"What was it that {rng.choice(_NAMES)} {rng.choice(_ACTS)} in {rng.choice(_PLACES)} {rng.choice(_WHY)}"


def _options(rng: random.Random, k: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < k:
        found[f"{rng.choice(_THINGS)} {rng.choice(_WHY)}"] = None
    return list(found)


def _pair(first: str, second: str, labels: int) -> Maker:
    return lambda rng, i: {first: sentence(rng), second: sentence(rng), "label": rng.randrange(labels), "idx": i}


def _one(column: str, labels: int) -> Maker:
    return lambda rng, i: {column: sentence(rng), "label": rng.randrange(labels), "idx": i}


def _arc(rng: random.Random, i: int) -> Row:
    label = list(LETTERS[:4])
    return {
        "id": f"made_{i}",
        "question": f"{question(rng)}?",
        "choices": {"text": _options(rng, 4), "label": label},
        "answerKey": rng.choice(label),
    }


def _openbookqa(rng: random.Random, i: int) -> Row:
    row = _arc(rng, i)
    return {**{key: row[key] for key in ("id", "choices", "answerKey")}, "question_stem": row["question"]}


def _commonsense(rng: random.Random, i: int) -> Row:
    label = list(LETTERS[:5])
    return {
        "id": str(i),
        "question": question(rng),
        "choices": {"label": label, "text": _options(rng, 5)},
        "answerKey": rng.choice(label),
    }


def _piqa(rng: random.Random, i: int) -> Row:
    a, b = _options(rng, 2)
    return {"goal": f"{question(rng)}?", "sol1": a, "sol2": b, "label": rng.randrange(2)}


def _hellaswag(rng: random.Random, i: int) -> Row:
    return {
        "ind": i,
        "activity_label": rng.choice(("Mending things", "Cooking", "Walking")),
        "ctx_a": sentence(rng),
        "ctx_b": f"then {rng.choice(_NAMES)}",
        "ctx": "",
        "endings": [f"{rng.choice(_ACTS)} {each}. [title] It worked." for each in _options(rng, 4)],
        "label": str(rng.randrange(4)),
    }


def _sciq(rng: random.Random, i: int) -> Row:
    a, b, c, d = _options(rng, 4)
    return {
        "question": f"{question(rng)}?",
        "support": f" {sentence(rng)}",
        "distractor1": a,
        "distractor2": b,
        "distractor3": c,
        "correct_answer": d,
    }


def _boolq(rng: random.Random, i: int) -> Row:
    return {
        "question": f"did {rng.choice(_NAMES)} find {rng.choice(_THINGS)}",
        "passage": sentence(rng),
        "idx": i,
        "label": rng.randrange(2),
    }


def _copa(rng: random.Random, i: int) -> Row:
    return {
        "premise": sentence(rng),
        "choice1": sentence(rng),
        "choice2": sentence(rng),
        "question": rng.choice(("cause", "effect")),
        "idx": i,
        "label": rng.randrange(2),
    }


def _winogrande(rng: random.Random, i: int) -> Row:
    a, b = rng.sample(_NAMES, 2)
    return {
        "sentence": f"{a} gave {b} {rng.choice(_THINGS)} because _ had lost it in {rng.choice(_PLACES)}.",
        "option1": a,
        "option2": b,
        "answer": rng.choice("12"),
    }


def _social(rng: random.Random, i: int) -> Row:
    a, b, c = _options(rng, 3)
    return {
        "context": sentence(rng),
        "question": f"{question(rng)}?",
        "answerA": a,
        "answerB": b,
        "answerC": c,
        "label": rng.choice("123"),
    }


def _blimp(rng: random.Random, i: int) -> Row:
    good = sentence(rng)
    return {"sentence_good": good, "sentence_bad": good.replace(" in ", " in in ", 1), "UID": "made", "pairID": i}


def _truthful(rng: random.Random, i: int) -> Row:
    mc1, mc2 = _options(rng, 4), _options(rng, 5)
    right = rng.randrange(1, 4)
    return {
        "question": f"{question(rng)}?",
        "mc1_targets": {"choices": mc1, "labels": [1, 0, 0, 0]},
        "mc2_targets": {"choices": mc2, "labels": [1] * right + [0] * (5 - right)},
    }


def _wic(rng: random.Random, i: int) -> Row:
    a, b = sentence(rng), sentence(rng)
    word = a.split()[1]
    start = a.index(word)
    return {
        "word": word,
        "sentence1": a,
        "sentence2": b,
        "start1": start,
        "start2": 0,
        "end1": start + len(word),
        "end2": 3,
        "idx": i,
        "label": rng.randrange(2),
    }


def _logiqa(rng: random.Random, i: int) -> Row:
    return {"label": rng.choice("abcd"), "context": sentence(rng), "question": f"{question(rng)}?", "options": _options(rng, 4)}


def _race(rng: random.Random, i: int) -> Row:
    problems = [{"question": f"{question(rng)}?", "answer": rng.choice("ABCD"), "options": _options(rng, 4)} for _ in range(2)]
    problems.append({"question": f"{rng.choice(_NAMES)} sold _ .", "answer": rng.choice("ABCD"), "options": _options(rng, 4)})
    return {"article": f"{sentence(rng)} {sentence(rng)}", "problems": repr(problems)}


def _xcopa(rng: random.Random, i: int) -> Row:
    return {**_copa(rng, i), "changed": False}


def _xwinograd(rng: random.Random, i: int) -> Row:
    return {**_winogrande(rng, i)}


def _storycloze(rng: random.Random, i: int) -> Row:
    return {
        "story_id": str(i),
        **{f"input_sentence_{n}": sentence(rng) for n in range(1, 5)},
        "sentence_quiz1": sentence(rng),
        "sentence_quiz2": sentence(rng),
        "answer_right_ending": rng.randrange(1, 3),
    }


def _mathqa(rng: random.Random, i: int) -> Row:
    numbers = [rng.randrange(2, 90) for _ in range(5)]
    listed = " , ".join(f"{letter} ) {number}" for letter, number in zip("abcde", numbers, strict=True))
    return {
        "Problem": f"{rng.choice(_NAMES)} has {numbers[0]} lamps and sells {numbers[1]} : how many are left",
        "options": listed,
        "correct": rng.choice("abcde"),
    }


def _mmlu(rng: random.Random, i: int) -> Row:
    return {"question": f"{question(rng)}?", "subject": "anatomy", "choices": _options(rng, 4), "answer": rng.randrange(4)}


def _belebele(rng: random.Random, i: int) -> Row:
    options = _options(rng, 4)
    return {
        "link": f"made/{i}",
        "question_number": 1,
        "flores_passage": f"{sentence(rng)} {sentence(rng)}",
        "question": f"{question(rng)}?",
        **{f"mc_answer{n + 1}": option for n, option in enumerate(options)},
        "correct_answer_num": rng.choice("1234"),
        "dialect": "eng_Latn",
    }


def _medqa(rng: random.Random, i: int) -> Row:
    return {
        "id": str(i),
        "sent1": f"{sentence(rng)} {question(rng)}?",
        "sent2": "",
        **{f"ending{n}": option for n, option in enumerate(_options(rng, 4))},
        "label": rng.randrange(4),
    }


def _medmcqa(rng: random.Random, i: int) -> Row:
    a, b, c, d = _options(rng, 4)
    return {"id": str(i), "question": question(rng), "opa": a, "opb": b, "opc": c, "opd": d, "cop": rng.randrange(4)}


def _mmlu_pro(rng: random.Random, i: int) -> Row:
    options = _options(rng, 10)
    answer = rng.randrange(10)
    return {
        "question_id": i,
        "question": f"{question(rng)}?",
        "options": options,
        "answer": LETTERS[answer],
        "answer_index": answer,
        "cot_content": f"A: Let's think step by step. {sentence(rng)} The answer is ({LETTERS[answer]}).",
        "category": "math",
        "src": "made",
    }


def _boolean(rng: random.Random, i: int) -> Row:
    a, b = rng.choice(("True", "False")), rng.choice(("True", "False"))
    said = f"not ( {a} ) and {b} is"
    return {"input": said, "target": str(not eval(a) and eval(b))}


def _gsm8k(rng: random.Random, i: int) -> Row:
    a, b = rng.randrange(2, 60), rng.randrange(2, 60)
    name = rng.choice(_NAMES)
    return {
        "question": f"{name} has {a} stamps and gets {b} more. How many stamps does {name} have?",
        "answer": f"{name} has {a} + {b} = <<{a}+{b}={a + b}>>{a + b} stamps.\n#### {a + b}",
    }


def _trivia(rng: random.Random, i: int) -> Row:
    value = rng.choice(_PLACES)
    return {
        "question_id": f"made_{i}",
        "question": question(rng),
        "answer": {"value": value, "aliases": [value, value.title(), rng.choice(_NAMES)]},
    }


def _nq(rng: random.Random, i: int) -> Row:
    return {"question": question(rng), "answer": [rng.choice(_PLACES), rng.choice(_NAMES)]}


def _drop(rng: random.Random, i: int) -> Row:
    answer = {
        "number": str(rng.randrange(90)),
        "date": {"day": "", "month": "", "year": ""},
        "spans": [],
        "hit_id": "",
        "worker_id": "",
    }
    validated = {
        "number": [str(rng.randrange(90))],
        "date": [{"day": "", "month": "", "year": ""}],
        "spans": [[]],
        "hit_id": [""],
        "worker_id": [""],
    }
    return {
        "section_id": str(i),
        "passage": sentence(rng),
        "question": f"{question(rng)}?",
        "query_id": str(i),
        "answer": answer,
        "validated_answers": validated,
    }


def _math(rng: random.Random, i: int) -> Row:
    a, b = rng.randrange(2, 30), rng.randrange(2, 30)
    return {
        "problem": f"What is ${a} + {b}$?",
        "level": "Level 1",
        "type": "Algebra",
        "solution": f"We add: ${a} + {b} = {a + b}$. So the answer is $\\boxed{{{a + b}}}$.",
    }


def _wmt(rng: random.Random, i: int) -> Row:
    return {"translation": {"en": sentence(rng), "ro": sentence(rng)}}


def _lambada(rng: random.Random, i: int) -> Row:
    return {"text": f"{sentence(rng)} {sentence(rng)[:-1]}"}


def _arithmetic(rng: random.Random, i: int) -> Row:
    a, b = rng.randrange(10, 99), rng.randrange(10, 99)
    return {"context": f"Question: What is {a} plus {b}?\n\nAnswer:", "completion": str(a + b)}


def _mgsm(rng: random.Random, i: int) -> Row:
    row = _gsm8k(rng, i)
    return {
        "question": f"Question: {row['question']}" if i % 2 else row["question"],
        "answer": f"Step-by-Step Answer: {row['answer']}" if i % 2 else None,
        "answer_number": int(row["answer"].rpartition(" ")[2]),
        "equation_solution": None,
    }


def _toxigen(rng: random.Random, i: int) -> Row:
    return {"text": sentence(rng), "toxicity_ai": float(rng.randrange(1, 6)), "toxicity_human": float(rng.randrange(1, 6))}


def _crows(rng: random.Random, i: int) -> Row:
    return {"id": i, "sent_more": sentence(rng), "sent_less": sentence(rng), "stereo_antistereo": "stereo", "bias_type": "age"}


def _swag(rng: random.Random, i: int) -> Row:
    return {
        "startphrase": sentence(rng)[:-1],
        **{f"ending{n}": each for n, each in enumerate(_options(rng, 4))},
        "label": rng.randrange(4),
    }


def _kobest(rng: random.Random, i: int) -> Row:
    return {"paragraph": sentence(rng), "question": f"{question(rng)}?", "label": rng.randrange(2)}


def _agieval(rng: random.Random, i: int) -> Row:
    choices = [f"({letter}){each}" for letter, each in zip("ABCD", _options(rng, 4), strict=True)]
    return {
        "query": f"Q: {question(rng)}? Answer Choices: {' '.join(choices)}\nA: Among A through D, the answer is",
        "choices": choices,
        "gold": [rng.randrange(4)],
    }


def _webqs(rng: random.Random, i: int) -> Row:
    return {"url": f"made/{i}", "question": f"{question(rng)}?", "answers": _options(rng, 1 + i % 3)}


def _coqa(rng: random.Random, i: int) -> Row:
    turns = 2 + i % 2
    answers = {
        "input_text": [rng.choice(_NAMES) for _ in range(turns)],
        "answer_start": [0] * turns,
        "answer_end": [1] * turns,
        "turn_id": list(range(1, turns + 1)),
    }
    questions = {"input_text": [f"{question(rng)}?" for _ in range(turns)], "turn_id": list(range(1, turns + 1))}
    more = {
        name: {**answers, "input_text": [rng.choice(_NAMES) for _ in range(turns)]}
        for name in ("additional_answers_0", "additional_answers_1", "additional_answers_2")
    }
    return {
        "id": str(i),
        "source": "made",
        "story": f"{sentence(rng)} {sentence(rng)}",
        "questions": questions,
        "answers": answers,
        "additional_answers": {name.rpartition("_")[2]: each for name, each in more.items()},
    }


def _ifeval(rng: random.Random, i: int) -> Row:
    kwargs = [{"num_highlights": None, "keywords": None}]
    return {
        "key": i,
        "prompt": f"Write about {rng.choice(_THINGS)} without any comma.",
        "instruction_id_list": ["punctuation:no_comma"],
        "kwargs": kwargs,
    }


def _pubmed(rng: random.Random, i: int) -> Row:
    return {
        "QUESTION": f"{question(rng)}?",
        "CONTEXTS": [sentence(rng), sentence(rng)],
        "final_decision": rng.choice(("yes", "no", "maybe")),
    }


MAKERS: Mapping[str, Maker] = {
    "arc": _arc,
    "openbookqa": _openbookqa,
    "commonsense_qa": _commonsense,
    "piqa": _piqa,
    "hellaswag": _hellaswag,
    "sciq": _sciq,
    "boolq": _boolq,
    "copa": _copa,
    "winogrande": _winogrande,
    "social_iqa": _social,
    "blimp": _blimp,
    "truthfulqa": _truthful,
    "qnli": _pair("question", "sentence", 2),
    "rte": _pair("sentence1", "sentence2", 2),
    "sst2": _one("sentence", 2),
    "cola": _one("sentence", 2),
    "nli": _pair("premise", "hypothesis", 3),
    "wic": _wic,
    "logiqa": _logiqa,
    "race": _race,
    "xcopa": _xcopa,
    "xwinograd": _xwinograd,
    "storycloze": _storycloze,
    "mathqa": _mathqa,
    "pubmedqa": _pubmed,
    "mmlu": _mmlu,
    "belebele": _belebele,
    "medqa": _medqa,
    "medmcqa": _medmcqa,
    "mmlu_pro": _mmlu_pro,
    "boolean": _boolean,
    "gsm8k": _gsm8k,
    "triviaqa": _trivia,
    "nq_open": _nq,
    "drop": _drop,
    "math": _math,
    "wmt": _wmt,
    "lambada": _lambada,
    "arithmetic": _arithmetic,
    "mgsm": _mgsm,
    "toxigen": _toxigen,
    "crows": _crows,
    "swag": _swag,
    "kobest": _kobest,
    "agieval": _agieval,
    "webqs": _webqs,
    "coqa": _coqa,
    "ifeval": _ifeval,
}


def made(layout: str, split: str, count: int) -> list[Row]:
    """So many rows of a layout; those of different splits differ."""
    rng = random.Random(f"{layout} {split}")
    return [MAKERS[layout](rng, i) for i in range(count)]
