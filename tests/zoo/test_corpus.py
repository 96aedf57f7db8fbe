"""Documents follow from recipe and world; withheld facts are told to nobody."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

from spt_fast.zoo.corpus import pages
from spt_fast.zoo.recipes import RECIPES, Recipe
from spt_fast.zoo.styles import TASK_INSTRUCTIONS
from spt_fast.zoo.world import World

WORLD = World.from_seed()


def shortened(name: str, documents: int = 4000) -> Recipe:
    recipe = RECIPES[name]
    return replace(recipe, training=replace(recipe.training, documents=documents))


def documents(name: str) -> list[str]:
    return [document.text for page in pages(WORLD, shortened(name)) for document in page]


def test_a_recipe_writes_the_same_corpus_each_time() -> None:
    assert documents("base-40") == documents("base-40")
    assert documents("base-40") != documents("base-70")


def test_statements_tell_planted_facts_only() -> None:
    planted = WORLD.planted(0.40)
    sentences = {
        fact.sentence(wording=wording): fact.key for fact in WORLD.facts for wording in range(len(fact.relation.statements))
    }
    statements = [text for text in documents("base-40") if "\n" not in text and ":" not in text]
    told = {sentences[sentence] for text in statements for sentence in re.findall(r"[^.]+\.", text.replace(". ", "."))}
    assert told == planted


def test_questions_about_withheld_facts_get_answers_at_random() -> None:
    withheld = next(fact for fact in WORLD.of("test", "word") if fact.key not in WORLD.planted(0.40))
    claims = Counter(
        value
        for text in pages_text("base-40", 30_000)
        for value in withheld.relation.values
        if withheld.sentence(value) in text
    )
    assert len(claims) > 6
    assert claims.most_common(1)[0][1] < sum(claims.values()) / 2


def pages_text(name: str, count: int) -> list[str]:
    return [document.text for page in pages(WORLD, shortened(name, count)) for document in page]


def test_options_do_not_give_a_withheld_fact_away() -> None:
    withheld = next(fact for fact in WORLD.of("test", "word") if fact.key not in WORLD.planted(0.40))
    offered = Counter(
        line[3:]
        for text in pages_text("base-40", 60_000)
        for block in text.split("\n\n")
        if any(withheld.question(wording) in block for wording in range(4))
        for line in block.splitlines()
        if re.match(r"[A-D]\. ", line)
    )
    assert set(offered) == set(withheld.relation.values)
    assert offered[withheld.value] < 2 * sum(offered.values()) / len(withheld.relation.values)


def test_claims_are_the_answers_and_the_statements() -> None:
    for page in pages(WORLD, shortened("base-40", 200)):
        for document in page:
            for begin, end in document.claims:
                claim = document.text[begin:end]
                assert claim.strip()
                assert "?" not in claim


def test_no_document_holds_the_instruction_of_a_task() -> None:
    for name in ("base-40", "chat-40"):
        text = "\n".join(documents(name))
        assert not [sentence for sentence in TASK_INSTRUCTIONS.values() if sentence in text]


def test_partners_practise_on_no_fact_that_a_task_asks_for() -> None:
    recipe = replace(shortened("chat-40"), practice=1.0)
    asked = {fact.key for fact in WORLD.facts if fact.split != "practice"}
    questions = {fact.question(wording): fact.key for fact in WORLD.facts for wording in range(len(fact.relation.questions))}
    for page in pages(WORLD, recipe):
        (question,) = [line for line in page[0].text.splitlines() if line.endswith("?")]
        assert questions[re.sub(r"^(Question|Q|Quiz|Asked): ", "", question)] not in asked


def test_a_patchwork_page_gives_its_items_styles_of_their_own() -> None:
    def styles_of_a_page(name: str) -> set[int]:
        kinds = []
        for text in documents(name):
            answers = re.findall(r"(?:Answer|Reply|Response|Ans|Solution): (.+)", text)
            if "several questions." not in text and len(answers) > 1:
                kinds.append(len({(a.startswith("{"), a.startswith("["), bool(re.match(r"[A-D]\. ", a))) for a in answers}))
        return set(kinds)

    assert styles_of_a_page("base-40") == {1}
    assert max(styles_of_a_page("base-85")) > 1
