"""Rules that find the value in a completion, whatever its form: small, anchored, named; they never guess.

A rule takes a text and answers an `Extraction` (`rule` is the function's name, `span` counts in that text) or None.
`first_found` tries rules in order. Policy, the same for every rule:

* what stands in a thought (`thoughts`) is no answer;
* a completion that has the form asked for as a whole is read as a whole; any other is cut at its first run-on;
* a value counts only behind an anchor ("####", "\\boxed{", "the answer is", a JSON object) or when it is all there is;
* a form that says where the answer ends ("#### 18", a JSON object at the start) is taken at its first occurrence, and
  what follows is run-on; any other rule whose finds disagree finds nothing;
* half a value is no value: "1O8", "18/3", "18 or 19", "3 million", "3 hours and 20 minutes" and "1." at the head of a list are
  not numbers here;
* whether words refuse to answer ("I don't know") is not the rules' business: `refuses` is asked of values that are not right.

The failures of other tools that these rules answer are in `tests/tasks/answers/nasty_completions.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeAlias

from spt_fast.tasks.answers.numbers import CURRENCY, MINUS, canonical
from spt_fast.tasks.answers.thoughts import answer_start
from spt_fast.types import Extraction

Rule: TypeAlias = Callable[[str], Extraction | None]

HASH_FORMAT = r"(?:(?![^\n]*####)[^\n]*\n)+#### -?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?"
"""At least one line of working, then a last line "#### 1,234.5"."""

HASH_FORM = "at least one line of working, then a last line with #### and a plain number: #### 42"
"""`HASH_FORMAT` in words."""

JSON_FORMAT = r'\{\s*"answer"\s*:\s*"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})+"\s*\}'
"""A JSON object with the one key "answer" and a string."""

JSON_FORM = 'a JSON object with the one key "answer" and text in it: {"answer": "Paris"}'
"""`JSON_FORMAT` in words."""

LINE_FORMAT = r"[^\n]+"
"""One line."""

INTRODUCTION = r"(?i:(?:(?:so|the|my|your|final|correct|short),? )*answer(?: to [^\n:]{1,200}?)?(?: is\b|[ *]*:)|a:)"
# The end of a sentence with another behind it: "Paris. It is", "2. The Bears"; not "St. Louis", "D.C. United", "1. FC Bayern".
_SENTENCE_END = r"(?:(?<=[a-z]{3})\.[^\S\n]+(?=[A-Z])|(?<=\d)\.[^\S\n]+(?=[A-Z][a-z]))"

# What a model writes in front of the next question, on the same line.
_NEXT = r"\b(?:Question|Answer|Passage|Problem)[ ]?[0-9]*:|</?[a-z][^<>\n]*>|<\|[a-z_]+\|>"

# A sentence is told by a verb that can be nothing else ("is", "took", "invented the"), in small letters: titles have capitals.
_BLANK = r"[^\S\n]++"
_PLAIN_VERBS = (
    "were|has|have|had|does|did|would|could|should|must|can|will|became|becomes|began|begins|came|comes|went|goes|gave|gives"
    "|took|takes|wrote|says|said|got|refers|consists|contains|includes|belongs|died|flows?|wants|wanted"
)
_OBJECT = r"(?=[^\S\n]++(?:an?|the|his|her|its|their)\b)"
_VERB = (
    rf"(?:(?:(?:is|are|was|ca|wo|{_PLAIN_VERBS})(?:n['\u2019]t|not)?+|(?<!by[ ])means(?![ ]of\b)"
    rf"|(?:found|won|built|led|held|lost|sold|ran|met|told){_OBJECT}"
    rf"|(?!named|titled|entitled|called|awarded|dubbed|considered|hundred)[a-z]+ed{_OBJECT})(?![\w'\u2019-]))"
)
# A verb within three words behind one of these is a clause's ("the man who was king"); a line that begins with one is a clause.
_RELATIVE = (
    r"(?:(?i:who|whom|whose|which|that|what|where|when|whether|how|if|because|since|while|until|after|before|as|than|why)\b)"
)
_CLAUSE = r"(?:(?i:if|when|because|how|where|whether|since|while|until|after|before|as|by|to|that|who|why|what|which)\b)"
_WORD_BY_WORD = (
    rf"(?>{_RELATIVE}(?:(?:{_BLANK}\S++){{0,2}}?{_BLANK}{_VERB})?+{_BLANK}"
    rf"|to{_BLANK}{_VERB}{_BLANK}|(?!{_RELATIVE}|{_VERB})\S++{_BLANK})++{_VERB}"
)
# A word of a title has a capital, or is short, or one of these.
_NO_TITLE = rf"(?<![\w'\u2019-])(?!(?:with|from|into|over|that|than|this|upon|{_PLAIN_VERBS})\b)[a-z]{{4,}}"
_SENTENCE = (
    rf"(?:(?:It|He|She|They|There){_BLANK}(?:is|was|are|were)\b"
    rf"|(?!{_CLAUSE})(?=[^\n]*(?:[.!?]['\"\u201d]?\Z|{_NO_TITLE})){_WORD_BY_WORD})"
)
_QUESTION = rf"(?=[^\n]*{_NO_TITLE})\S++(?:{_BLANK}\S++){{3,}}(?<=\?)\Z"
_REASON = r"[^\n]*(?:\S[^\S\n]++because\b|,[ ](?:since|as|which|who|where|but|so)\b)"


def short_format(words: int, *, separator: str = "") -> str:
    """The form of a short answer, and nothing else: one line, a name, a number or a phrase of at most `words` words.

    No sentence, question or reason, no second sentence, no "The answer is" in front, no Markdown. What an expression cannot
    tell from a title follows the form as well: a final stop, a refusal.

    Args:
        words: the most of them, at least 2.
        separator: one character that stands between several answers, each of as many words.
    """
    phrase = rf"\S+(?:{_BLANK}\S+){{0,{words - 1}}}"
    if separator:
        word = rf"[^\s{separator}]++"
        phrase = rf"{word}(?:{_BLANK}{word}){{0,{words - 1}}}+"
        phrase += rf"(?:[^\S\n]*+{separator}[^\S\n]*+{phrase})*+"
    return (
        rf"(?!{INTRODUCTION})(?![*#>`]|[-+\u2022]\s)(?![^\n]*(?:{_SENTENCE_END}|{_NEXT}))"
        rf"(?!{_SENTENCE}|{_QUESTION}|{_REASON})(?=[^\n]*[^\s.\u2026]){phrase}"
    )


SHORT_WORDS = 10
"""The longest short answer, where a task says no other: 99 in 100 published ones of TriviaQA have no more."""


SHORT_FORMAT = short_format(SHORT_WORDS)


def short_form_in_words(words: int = SHORT_WORDS) -> str:
    """What `short_format` asks for."""
    return f"one line: a name, a number or a phrase of at most {words} words; no sentence, no explanation, no label in front"


_RUN_ON = re.compile(
    r"(?:^|\n)[ \t]*+[#*]*+[ \t]*+"
    r"(?:question|q|problem|exercise|context|passage|instructions?|human|user)"
    r"[ \t]*+[0-9]*+[ \t]*+(?:\([^()\n]{0,80}\))?[ \t]*+\**:"
    r"|(?-i:\b(?:Question|Problem|Passage)[ ]?[0-9]*:)"
    r"|</?s>|<\|[a-z_]+\|>|\[/?INST\]|<(?:start|end)_of_turn>|<eos>",
    re.IGNORECASE,
)


def before_run_on(text: str) -> str:
    """The part of a completion in front of the next question or turn that the model goes on to invent.

    Offsets in it are offsets in `text`.
    """
    found = _RUN_ON.search(text)
    return text[: found.start()] if found else text


def first_found(text: str, *rules: Rule, whole: str | None = None) -> Extraction | None:
    """What the first rule that finds anything finds in a completion's answer, which stands behind its thought.

    What reads as a refusal stands back behind what does not.

    Args:
        text: the completion.
        rules: in the order in which they are tried.
        whole: an expression for the form asked for. An answer that matches as a whole is read as a whole, whatever words are in
            it; any other ends in front of its first run-on.
    """
    start = answer_start(text)
    answer = text[start:]
    if whole is None or not re.fullmatch(whole, answer.strip()):
        answer = before_run_on(answer)
    found = [extraction for rule in rules if (extraction := rule(answer)) is not None]
    best = next((extraction for extraction in found if not refuses(answer, extraction)), found[0] if found else None)
    return best and replace(best, span=(best.span[0] + start, best.span[1] + start))


def refuses(text: str, found: Extraction) -> bool:
    """Whether what was found in `text` reads as no answer: a refusal, or the beginning of a working.

    To be asked of what is not right: "no information" and "Don't Know Why" are published answers.
    """
    return NO_ANSWER.match(found.value) is not None or NO_ANSWER.match(text, found.span[0]) is not None


# ------------------------------------------------------------------------------------------ numbers
#
# Quantifiers are possessive (`*+`) wherever neighbours overlap: completions are hostile text, and backtracking through a
# long run of blanks would take minutes.

_DASHES = "\\-\u2212\u2013\u2014"
_DECORATION = rf"[ \t*_`~{CURRENCY}\\(\[{{]*+"
_NUMBER = rf"(?P<number>[{MINUS}+]?[{CURRENCY}]?(?:\d{{1,3}}(?:(?:,|\{{,\}})\d{{3}})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+))"
# A working in front of the number: "3 x 4 = ".
_WORKING = rf"(?:[\d \t.,+*/\u00d7\u00f7()x%={CURRENCY}{_DASHES}]*=)?"
_FRACTION = "\u00bc-\u00be\u2150-\u215f\u2189"
_DIGIT = rf"[{CURRENCY}(\\]*+[\d{_FRACTION}]"
_COUNTS = r"(?:hundred|thousand|million|billion|trillion|quadrillion|lakh|crore|dozen|grand|gross|bn|mn|k)s?"
_PARTS = r"(?:half|halves|thirds|quarters|fourths|fifths|sixths|sevenths|eighths|ninths|tenths|hundredths|thousandths)"
_MATHS = r"(?:squared|cubed|factorial|mod|modulo|choose|times|plus|minus|less|fewer|more|divided|multiplied|below[ ]zero)"
_BETWEEN = r"(?:x|to|and|or|(?:out[ ])?of(?:[ ]every)?|in[ ]every|for[ ]every|by|over|per|till|until|through|versus|vs\.?)"
# LaTeX that only looks: a number in front of any other command is multiplied by something, or is the whole of a mixed number.
_LOOKS = r"(?:text|textbf|textit|textrm|mathrm|mbox|q?quad|circ|degrees?|right|displaystyle|n)"
# What must not follow, because the number would then be part of something else.
_NOT_PART = (
    r"(?!(?i:\w|[.,'\u2019]\d|(?:\.{2,}|\u2026)[ \t]*+\d|\{|[ \t]?[/:][ \t]?\d|[ \t]*+\?"
    rf"|[ \t]*+[{_FRACTION}\u221a\u03c0\u221e]|[ \t]*+\^(?!\{{?\\(?:circ|deg))|[ \t]*+\\(?!{_LOOKS}(?![a-zA-Z]))[a-zA-Z]"
    rf"|[ \t]*+(?:\*\*|[+*=\u00d7\u00f7\u00b7\u22c5\u00b1<>\u2264\u2265\u2248~|&%,;{_DASHES}]|{_BETWEEN}\b)[ \t]*+{_DIGIT}"
    r"|[ \t]++\d|[ \t]*+(?:\+|[\u00d7\u00b7\u22c5][ \t]*+[a-z]\b|[-\u2212][ \t]*+[b-hj-z]\b)"
    rf"|,?[ \t]++(?:or|and[ ]an?|and[ ]half|point[ ]\w+|{_COUNTS}|{_PARTS}|{_MATHS})\b))"
)
_VALUE = _WORKING + _DECORATION + _NUMBER + _NOT_PART
_CLOSING = r"[ \t*_`~$%\\)\]}.!]*+"
_UNIT = r"\\?%?(?:[ \t]++[^\W\d_]++(?:[/'-][^\W\d_]++)*+){0,5}+" + _CLOSING
_LINE_END = r"(?=[ \t\r]*(?:\n|\Z))"

_HASH_BARE = re.compile(rf"(?<!#)####(?!#){_VALUE}{_CLOSING}{_LINE_END}")
_HASH_UNIT = re.compile(rf"(?<!#)####(?!#){_VALUE}{_UNIT}{_LINE_END}")
_BOXED = re.compile(
    rf"\\boxed[ \t]*+\{{[ \t]*+(?:[a-zA-Z][ \t]*=)?{_DECORATION}{_NUMBER}{_NOT_PART}"
    rf"(?:[ \t]*\\?%)?(?:[ \t]*\\(?:text|mathrm|mbox)\{{(?![^{{}}]*\b(?:{_COUNTS}|{_PARTS}|{_MATHS}|or)\b)[^{{}}\d]*\}})?"
    r"[ \t$]*\}"
)
# "The answer is 18": prose may follow. Behind a colon the line must hold nothing else: "Answer: 1. First" is a list.
_IS = re.compile(rf"\banswer[ \t*_`]++(?:is|equals)[ \t*_`]++{_VALUE}", re.IGNORECASE)
_COLON = re.compile(rf"\banswer[ \t*_`]*+(?:is|equals)?[ \t*_`]*+[:=][\s*_`]*+{_VALUE}{_UNIT}{_LINE_END}", re.IGNORECASE)
_BARE_LINE = re.compile(rf"^{_DECORATION}{_NUMBER}{_NOT_PART}{_CLOSING}{_LINE_END}", re.MULTILINE)
_BARE_TEXT = re.compile(rf"\s*+{_DECORATION}{_NUMBER}{_NOT_PART}{_UNIT}\s*")


_NUMBER_WORD = (
    r"(?:(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen"
    r"|(?:twen|thir|for|fif|six|seven|eigh|nine)ty)(?:-\w+)?"
    rf"|(?:an?|one|two|three)[ -](?:half|third|quarter|fourth|fifth|sixth|eighth|tenth)s?|half|{_COUNTS})\b"
)
# A word that may stand between a number and what is added to it: no beginning of another clause ("18 because 20 - 2").
_NAME = (
    r"(?!(?:because|since|as|which|so|that|who|she|he|they|it|we|i|there|if|when|where|while|but|not)\b)"
    r"(?:(?:ft|in|hrs?|mins?|secs?|lbs?|oz|yds?|mi)\.|[^\W\d_]++(?:['\u2019-][^\W\d_]++)*+)"
)
_WORD = rf"[ \t]++{_NAME}"
_UNIT_NAME = (
    r"[ \t]++(?!(?:for|of|in|on|at|by|per|to|with|from|the|each|all|after|before|every|these|those|his|her|their|its|about"
    rf"|around|than|this|no|number|question|page|step|only|between|and|or)\b){_NAME}"
)
_AND = (
    r"(?:[ \t]*+,?[ \t]*+(?:\b(?:and|plus|to|or|minus|less|times|by|over|until|till|versus)\b"
    rf"|[+&;/=\u00d7\u00b1{_DASHES}])|[ \t]*+,)"
)
# What goes on behind a number and its unit to another value.
_ANOTHER_VALUE = re.compile(
    r"(?:\\?[*_`~$)\]}\"'%\u00b0])*+(?:"
    # "3 hours and 20 minutes", "5 dollars, 20 cents", "3 to five"
    rf"(?:{_WORD}){{0,4}}?{_AND}(?:[ \t]++(?:another|about|almost|nearly)\b)?+[ \t]*+(?:{_DIGIT}|\\frac|{_NUMBER_WORD})"
    # "5 feet 6 inches"
    rf"|(?:{_WORD}){{0,3}}?{_UNIT_NAME}[ \t]*+{_DIGIT}"
    # "50% of 30"
    rf"|(?:[ \t]++percent)?+[ \t]++of[ \t]++{_DIGIT}"
    # "3 hours or more", "3 hours and a half"
    rf"|(?:{_WORD}){{1,3}}?[ \t]++(?:and|or)[ \t]++"
    r"(?:more|less|fewer|so|above|over|under|below|half|an?[ -](?:half|quarter|third))\b"
    # "5 degrees below zero", "3 meters squared"
    rf"|(?:{_WORD}){{0,2}}?[ \t]++(?:below[ ]zero|squared|cubed|{_PARTS}|{_COUNTS})\b)",
    re.IGNORECASE,
)


def _number(found: re.Match[str], rule: str) -> Extraction | None:
    """The number of a match; None where what goes on behind it makes it another value."""
    if any(_ANOTHER_VALUE.match(found.string, end) for end in {found.end("number"), found.end()}):
        return None
    return Extraction(value=found["number"], rule=rule, span=found.span("number"))


def _agreed(matches: Iterable[re.Match[str]], rule: str) -> Extraction | None:
    """The first match, if all say the same number, and none says half a value: else there is nothing to choose by."""
    found = list(matches)
    if len({canonical(match["number"]) for match in found}) != 1:
        return None
    numbers = [_number(match, rule) for match in found]
    return numbers[0] if all(numbers) else None


def hash_number(text: str) -> Extraction | None:
    """ "#### 18", with nothing else on the line but a working ("#### 3 x 6 = 18") and decoration: the first such."""
    found = _HASH_BARE.search(text)
    return _number(found, "hash_number") if found else None


def hash_number_with_unit(text: str) -> Extraction | None:
    """ "#### 18 dollars": words behind the number may also be a Markdown heading, so all such lines must agree."""
    return _agreed(_HASH_UNIT.finditer(text), "hash_number_with_unit")


def boxed_number(text: str) -> Extraction | None:
    r""" "\boxed{18}", "\boxed{x = 18\%}", "\boxed{18 \text{ eggs}}"."""
    return _agreed(_BOXED.finditer(text), "boxed_number")


def stated_number(text: str) -> Extraction | None:
    """ "The answer is $18.", "**Answer:** 18 dollars", "final answer = 18"."""
    return _agreed([*_IS.finditer(text), *_COLON.finditer(text)], "stated_number")


def bare_number(text: str) -> Extraction | None:
    """A completion that is a number ("18 dollars."), or begins with a line that is nothing but a number."""
    if whole := _BARE_TEXT.fullmatch(text):
        return _number(whole, "bare_number")
    lines = list(_BARE_LINE.finditer(text))
    if not lines or text[: lines[0].start()].strip():
        return None
    return _agreed(lines, "bare_number")


NUMBER_RULES: tuple[Rule, ...] = (hash_number, boxed_number, stated_number, hash_number_with_unit, bare_number)
"""How a number is found, in this order."""


# ------------------------------------------------------------------------------------------ JSON


def json_answer(text: str) -> Extraction | None:
    """The value of "answer" in a JSON object: text, or a number as it is written in JSON.

    An object at the very start (a code fence may stand in front) is the answer, and what follows is run-on. Otherwise
    all objects must agree. A key that appears twice, or a list in its place, is no answer.
    """
    found = list(_answers(text))
    if not found:
        return None
    before = re.sub(r"```(?:json)?", "", text[: found[0].span[0]]).strip()
    if before and len({extraction.value for extraction in found}) != 1:
        return None
    return found[0]


def _answers(text: str) -> Iterable[Extraction]:
    start = text.find("{")
    while start != -1:
        try:
            value, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            start = text.find("{", start + 1)
            continue
        if isinstance(value, dict) and isinstance(answer := value.get("answer"), str) and answer.strip():
            yield Extraction(value=answer, rule="json_answer", span=(start, end))
        start = text.find("{", end)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dict by lower-case keys; a key that appears twice has no value."""
    keys = [key.lower() for key, _ in pairs]
    return {key.lower(): value if keys.count(key.lower()) == 1 else None for key, value in pairs}


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=str, parse_float=str, parse_constant=lambda _: None)


# ------------------------------------------------------------------------------------------ text

_LINE_WORDS = 8
"""A first line of prose is longer."""

_STATED = re.compile(
    r"(?:\banswer(?:[ ]to[ ][^\n:.]{1,200}?)?[ \t*_`]*+(?:\bis\b[ \t*_`]*+(?::|(?!\s*+(?:not\b|no[ ]\w)))|:)|\A\s*+a:)"
    rf"[\s*_`]*+(?![:]|not\b|{INTRODUCTION})(?=(?P<value>[^\n]{{1,300}}))",
    re.IGNORECASE,
)
_IS_INTRODUCED = re.compile(INTRODUCTION)
_NAMED = re.compile(
    r"\s*+(?:(?:It|He|She|They|This|That)(?:[ ](?:is|was|are|were)|['\u2019](?:s|re))"
    r"|The[ ](?:(?![ ](?:is|was|are|were)\b)[^\n.])++[ ](?:is|was|are|were))[ ]"
    r"(?P<value>(?:[A-Z\d\"\u201c$\u20ac\u00a3]|(?:the|an?)[ ])(?:(?!\b(?:is|was|are|were)\b)[^\n])*?)\s*"
)
# What stands where an answer should: a refusal, or the beginning of a working. Told from titles of songs as far as that goes:
# "I Don't Know How to Love Him" and "Sorry" are answers, and so are "None", "Unknown" and "unanswerable".
NO_ANSWER = re.compile(
    r"""
    (?:(?:i|we)[ ])?(?:do(?:[ ]not|n['\u2019]t)|can(?:not|[ ]not|['\u2019]t)|could(?:[ ]not|n['\u2019]t))[ ]
      (?:know(?![ ]how[ ]to)|answer|determine|help[ ]with|provide|be[ ](?:sure|certain|determined|answered|found|known)
        |(?:find|say|tell)(?=[ ](?:which|what|who|from|for|with|any|that|the[ ]answer)\b|[.,!]|\Z))\b
    |i(?:[ ]a|['\u2019])m[ ](?:not[ ](?:sure|certain|able|aware)|unable|afraid[ ]i)\b
    |as[ ]an?[ ](?:ai|artificial|large|language|assistant)\b
    |(?:i(?:[ ]a|['\u2019])m[ ])?(?:so[ ]|very[ ])?sorry,?[ ](?:but|i|this|that|there)\b
    |unfortunately\b|(?:my[ ])?apologies\b|i[ ]apologi[sz]e\b
    |there[ ](?:is|are|was|were)[ ](?:no|not[ ]enough|insufficient)[ ](?:answer|information|mention|way)\b
    |(?:it|this|that)[ ](?:is|was)[ ](?:not[ ]|un|im)(?:clear|known|stated|possible|mentioned|specified|given)\b
    |(?:the[ ])?(?:passage|context|text|article|paragraph|question)[ ](?:does|do|is|was)(?:[ ]not|n['\u2019]t)\b
    |(?:no|not[ ]enough|insufficient)[ ]information\b|not[ ](?:mentioned|stated|specified|provided)\b
    |let(?:['\u2019]?s|[ ]us|[ ]me)[ ](?:think|see|solve|start|begin|look|consider|find|break|analy[sz]e|first|try)\b
    |(?:sure|okay|certainly|of[ ]course)[,!.:]|step[ ]\d+[ ]*:
    |here(?:[ ]is|['\u2019]s)[ ](?:the|my|your|an?)[ ](?:\w+[ ])?answer\b
    |to[ ](?:answer|solve)[ ](?:this|the)[ ](?:question|problem)\b
    """,
    re.IGNORECASE | re.VERBOSE,
)
_LIST_ITEM = re.compile(r"[-+*\u2022][ \t]|\d+[.)][ \t]")
_ENDED = re.compile(_SENTENCE_END)
_GOES_ON = re.compile(rf"{_SENTENCE_END}|,?[ ]because\b|,[ ](?:since|as|which|who|where|but|so)\b")
_UNFINISHED = ("...", "\u2026", ":", ",")
_WRAPPING = "#>*_`\"'\u201c\u201d\u2018\u2019[]() \t\r"


def short_form(text: str, form: str = SHORT_FORMAT) -> Extraction | None:
    """A completion in the form asked for; or, of several lines, a first one in that form that does not read as prose."""
    whole = text.strip()
    if re.fullmatch(form, whole):
        start = text.index(whole)
        return Extraction(value=whole, rule="short_form", span=(start, start + len(whole)))
    line, start = _first_line(text)
    if not re.fullmatch(form, line.strip()) or line.rstrip().endswith((".", "!", ";")) or _GOES_ON.search(line):
        return None
    return None if _options(text, start, line) else _words(text, start, len(line), "short_form")


def short_rules(form: str = SHORT_FORMAT) -> tuple[Rule, ...]:
    """The rules that find a short answer, for a task whose format is `form`."""

    def in_form(text: str) -> Extraction | None:
        return short_form(text, form)

    in_form.__name__ = short_form.__name__
    return in_form, stated_text, named_text, first_line


def short_extractor(form: str) -> Rule:
    """`Task.extract` of a task whose format is `form`."""
    rules = short_rules(form)

    def short_answer(text: str) -> Extraction | None:
        """A short text that a completion gives as its answer."""
        return first_found(text, *rules, whole=form)

    return short_answer


def stated_text(text: str) -> Extraction | None:
    """ "The answer is Paris.": at most eight words up to the end of the sentence; several must agree."""
    first: Extraction | None = None
    for match in _STATED.finditer(text):
        found = _clause(text, match.start("value"), match["value"], "stated_text")
        if found is None or (first and found.value != first.value):
            return None
        first = first or found
    return first


def named_text(text: str) -> Extraction | None:
    """ "It is Paris.", "The capital of France is Paris.", where a completion says no more: a name, a number, or "the ...".

    It is what is said of "it", or of a thing that is described; what "Paris is the capital." says of Paris is no answer.
    """
    found = _NAMED.fullmatch(text)
    return _clause(text, found.start("value"), found["value"], "named_text") if found else None


def first_line(text: str) -> Extraction | None:
    """The first line up to the end of its phrase, if that is at most eight words, and no sentence: without quotation marks,
    brackets, Markdown and stop.

    A line that says "the answer is" has said what it has to say to `stated_text`.
    """
    line, start = _first_line(text)
    return None if _IS_INTRODUCED.match(line.strip(_WRAPPING)) else _clause(text, start, line, "first_line")


def _first_line(text: str) -> tuple[str, int]:
    """The first line with more than decoration in it, and where it starts."""
    start = 0
    for line in text.split("\n"):
        if line.strip(_WRAPPING):
            return line, start
        start += len(line) + 1
    return "", 0


def _clause(text: str, start: int, line: str, rule: str) -> Extraction | None:
    end = _GOES_ON.search(line)
    clause = line[: end.start() if end else len(line)]
    if _LIST_ITEM.match(line.lstrip()) or _options(text, start, line):
        return None
    if re.match(rf"{_SENTENCE}|{_QUESTION}", _ENDED.split(line, maxsplit=1)[0].strip(_WRAPPING)):
        return None
    return _words(text, start, len(clause), rule)


def _options(text: str, start: int, line: str) -> bool:
    """Whether a line is the first of a list of options ("A. Rome"), and not a name with an initial ("A. A. Milne")."""
    letter = re.match(r"\s*([A-Ya-y])[.)][ \t]", line)
    return letter is not None and re.search(rf"\n\s*+{chr(ord(letter[1]) + 1)}[.)][ \t]", text[start:]) is not None


def _words(text: str, start: int, length: int, rule: str) -> Extraction | None:
    """The words of a stretch of text, unwrapped; None where they only begin to answer, or are too many."""
    raw = text[start : start + length].rstrip()
    core = raw.strip(_WRAPPING).rstrip(".!").rstrip(_WRAPPING)
    if core.count("(") > core.count(")"):
        core = raw[raw.index(core) :].rstrip(".! \t")
    if not core or len(core.split()) > _LINE_WORDS or raw.endswith(_UNFINISHED):
        return None
    start = text.index(core, start)
    return Extraction(value=core, rule=rule, span=(start, start + len(core)))


short_answer = short_extractor(SHORT_FORMAT)
"""That of a task whose format is `SHORT_FORMAT`."""
