"""TriviaQA (arXiv 1705.03551): trivia from memory, answered by a name or a few words."""

from __future__ import annotations

from spt_fast.tasks.answers.extractors import SHORT_FORMAT, SHORT_WORDS, short_answer, short_form_in_words
from spt_fast.tasks.answers.text import normalise_triviaqa, triviaqa_f1
from spt_fast.tasks.base import HubSource, Row, Task, row_key
from spt_fast.tasks.columns import answers_in, decoded, one_line, part, question_in, short_target, text_part
from spt_fast.tasks.template import Template
from spt_fast.types import Example, Sampling


def read_row(row: Row) -> Example:
    """`question`, `answer` (`value`, `aliases`, and `normalized_aliases` where they are given)."""
    question, value = question_in(row, "question"), one_line(text_part(row, "answer", "value"))
    aliases = answers_in(part(row, "answer", "aliases"), "answer.aliases")
    normalized = answers_in(decoded(row["answer"], "answer").get("normalized_aliases"), "answer.normalized_aliases")
    answers = tuple(dict.fromkeys(filter(None, [value, *aliases, *normalized])))
    target = short_target(answers, "answer", SHORT_FORMAT)
    return Example(
        key=row_key({"question": question, "answer": value}),
        question=question,
        target=target,
        answers=answers,
    )


TASK = Task(
    name="triviaqa",
    version=2,
    summary="trivia from memory, answered by a name or a few words",
    source=HubSource(
        id="mandarjoshi/trivia_qa",
        config="rc.nocontext",
        revision="0f7faf33a3908546c6fd5b73a660e0f8ff173c2f",
        splits={"tuning": "train", "few_shot": "train", "test": "validation"},
        sizes={"tuning": 138384, "test": 17944},
    ),
    read_row=read_row,
    sample={
        "question": "Which city is called the City of Light?",
        "question_id": "xx_0",
        "question_source": "http://www.example.org/",
        "entity_pages": {"doc_source": [], "filename": [], "title": [], "wiki_context": []},
        "search_results": {"description": [], "filename": [], "rank": [], "title": [], "url": [], "search_context": []},
        "answer": {
            "aliases": ["Paris", "Paris, France", "The City of Light"],
            "normalized_aliases": ["paris", "paris france", "city of light"],
            "matched_wiki_entity_name": "",
            "normalized_matched_wiki_entity_name": "",
            "normalized_value": "paris",
            "type": "WikipediaEntity",
            "value": "Paris",
        },
    },
    template=Template(
        instruction=f"Answer each question with a name, a number or a few words, at most {SHORT_WORDS} and no sentence, "
        "as in: Paris\nWrite nothing else.",
        item="Question: {question}\nAnswer:",
    ),
    format=SHORT_FORMAT,
    form=short_form_in_words(),
    verbatim=True,
    extract=short_answer,
    normalise=normalise_triviaqa,
    scores={"f1": triviaqa_f1},
    sampling=Sampling(max_tokens=64, stop=("\nQuestion:",)),
    random_baseline=0.0,
    licence="Apache-2.0",
    notes="The published test split has no answers: validation is scored, by any of an answer's names. Few-shot rows are a "
    "fixed cut of train, which tuning leaves alone. No evidence is shown. A published answer has the form asked for, "
    "however long. The paper's choice between this config and rc.wikipedia.nocontext is not known.",
)
