"""Completions that have misled extractors, ours or others', with the verdicts they deserve.

`gsm8k`: (completion, the number that is its answer or None, whether it has the form "working, then #### number").
`mmlu`: (completion, whether it equals an option). `answers`: (completion, the value under "answer" in JSON, or None).
The options of `mmlu` are A. Rome, B. Paris, C. Lima, D. Oslo. Where a tool is named, this input failed there.
"""

# ruff: noqa: RUF001  (look-alike characters are the point)

GSM8K: list[tuple[str, str | None, bool]] = [
    # as asked
    ("6 * 3 = 18\n#### 18", "18", True),
    ("  6 * 3 = 18\n#### 18\n\n", "18", True),
    ("a\n\nb\n#### 1,080", "1080", True),
    ("a\n#### -5", "-5", True),
    ("a\n#### 2.50", "2.5", True),
    # nearly
    ("#### 18", "18", False),
    ("6 * 3 = 18\n####18", "18", False),
    ("6 * 3 = 18\n#### $18", "18", False),
    ("6 * 3 = 18\n#### 18.", "18", False),
    ("6 * 3 = 18\n#### 18 dollars", "18", False),
    ("6 * 3 = 18\n#### **18**", "18", False),
    ("6 * 3 = 18\n#### \\$18\\%", "18", False),
    ("6 * 3 = 18 #### 18", "18", False),
    ("so\n#### 6 * 3 = 18", "18", False),
    ("so\n#### 18\nThat is all.", "18", False),
    ("so\n#### 1,00", None, False),
    ("so\n#### 1 000", None, False),
    ("so\n### 18", None, False),
    ("so\n##### 18", None, False),
    # cut off, empty
    ("", None, False),
    ("   \n\n ", None, False),
    ("so\n####", None, False),
    ("so\n#### ", None, False),
    ("so\n#### $", None, False),
    ("She has 16 eggs. She eats 3", None, False),
    ("so\n#### 18 -", None, False),
    # run-on (sglang PR#29933)
    ("so\n#### 18\n\nQuestion: How many cats?\nAnswer: 4\n#### 4", "18", False),
    ("18\n\nQ: How many cats?\nA: The answer is 4.", "18", False),
    ("Question: How many cats?\nAnswer: The answer is 4.\n#### 4", None, True),
    ("The answer is 18.\n**Question 2:** And now?\nThe answer is 5.", "18", False),
    ("The answer is 18.<|im_end|>\n<|im_start|>user\nThe answer is 5.", "18", False),
    ("The answer is 18.</s> #### 7", "18", False),
    ("so\n#### 18\n#### 19", "18", False),
    # numbers compared as numbers (lm-eval flexible-extract, NeMo numeric_match)
    ("She makes $29.00.\nThe answer is $29.00.", "29", False),
    ("The answer is 100", "100", False),
    ("The answer is 10.0", "10", False),
    ("so\n#### 007", "7", True),
    # other wordings and mark-up (inspect_evals#470)
    ("**ANSWER: 20**", "20", False),
    ("**Answer:** 20", "20", False),
    ("Final answer = 20 eggs.", "20", False),
    ("The final answer is: $\\boxed{18}$.", "18", False),
    ("\\boxed{x = 18 \\text{ dollars}}", "18", False),
    ("\\[ \\boxed{1{,}000} \\]", "1000", False),
    ("The answer is:\n\n18", "18", False),
    ("The answer is 3 + 4 = 7.", "7", False),
    ("18", "18", False),
    ("$18.00", "18", False),
    ("18 eggs.", "18", False),
    ("18\nBecause she has 20 and eats 2.", "18", False),
    # no answer, or more than one
    ("As an AI model, I cannot know", None, False),
    ("I have 3 apples and 4 pears.", None, False),
    ("The answer is not 18.", None, False),
    ("The answer is 18 or 19.", None, False),
    ("The answer is between 18 and 20.", None, False),
    ("The answer is 18-20.", None, False),
    ("The answer is 18, 19 and 20.", None, False),
    ("The answer is 5. Wait. The answer is 6.", None, False),
    ("\\boxed{5} or \\boxed{6}", None, False),
    ("Is the answer 18?", None, False),
    ("The answer is 18?", None, False),
    ("2\n4\n6", None, False),
    # half a value
    ("The answer is 3 million.", None, False),
    ("The answer is 3 and a half.", None, False),
    ("The answer is 18/3.", None, False),
    ("The answer is 5 more than hers.", None, False),
    ("The answer is 1e3.", None, False),
    ("so\n#### 12:30", None, False),
    ("so\n#### 1.2.3", None, False),
    ("\\boxed{\\frac{1}{2}}", None, False),
    # headings and lists
    ("#### Step 1: count the eggs\nThere are some.", None, False),
    ("#### 1. Count the eggs\n#### 2. Sell them", None, False),
    ("#### 1 Count the eggs\n#### 2 Sell them", None, False),
    ("Answer: 1. Count the eggs", None, False),
    ("Answer:\n1. Count the eggs\n2. Sell them", None, False),
    ("Answer: Let's think", None, False),  # opencompass#1933
    # look-alikes and other scripts
    ("so\n#### l8", None, False),
    ("so\n#### 1O8", None, False),
    ("so\n#### 1О8", None, False),
    ("so\n#### −5", "-5", False),
    ("so\n#### ４２", "42", False),
    ("so\n#### ٤٢", "42", False),
    ("so\n#### ½", None, False),
    ("so\n#### 5²", None, False),
    ("＃＃＃＃ 18", None, False),
    ("答案是18。", None, False),
    ("La réponse est 18.", None, False),
    ("\x00\x1b[31m#### 18", "18", False),
    ("#" * 3000, None, False),
    ("1" * 3000, "1" * 3000, False),
    ("The answer is " * 500, None, False),
]

MMLU: list[tuple[str, bool]] = [
    ("B. Paris", True),
    (" B. Paris\n", True),
    ("D. Oslo", True),  # wrong, and in the form asked for
    ("B", False),
    ("Paris", False),
    ("B.Paris", False),
    ("b. Paris", False),
    ("B. paris", False),
    ("B. Paris.", False),
    ("B) Paris", False),
    ("B. Oslo", False),  # letter and text of two options
    ("**B. Paris**", False),
    ("\\boxed{B. Paris}", False),
    ("The answer is B. Paris", False),
    ("B. Paris\nC. Lima", False),
    ("B. Paris because it is", False),
    ("В. Paris", False),  # a Cyrillic letter
    ("B.\u00a0Paris", False),
    ("B. Pari", False),
    ("", False),
    ("As an AI model, I cannot know", False),  # OpenCompass: A
    ("Dogs bark.", False),  # OpenCompass: D
    ("Answer: Because ...", False),  # NeMo: B
    ("ANSWER: B", False),
]

ANSWERS: list[tuple[str, str | None]] = [
    ('{"answer": "Paris"}', "Paris"),
    ('  {"answer" : "Paris"}\n', "Paris"),
    ('```json\n{"answer": "Paris"}\n```', "Paris"),
    ('Sure! {"answer": "Paris"}', "Paris"),
    ('{"Answer": "Paris"}', "Paris"),
    ('{"answer": "Paris", "why": {"answer": "Rome"}}', "Paris"),
    ('{"answer": 42}', "42"),
    ('{"answer": 1e3}', "1e3"),
    ('{"answer": "Paris"}\n{"answer": "Rome"}', "Paris"),  # run-on behind the object
    ('{"answer": "Paris"}\n\nQuestion: x\n{"answer": "Rome"}', "Paris"),
    ('Such as {"answer": "x"}. So {"answer": "Paris"}', None),
    ('{"answer": "Paris", "answer": "Rome"}', None),
    ('{"answer": ["Paris"]}', None),
    ('{"answer": null}', None),
    ('{"answer": true}', None),
    ('{"answer": ""}', None),
    ('{"answer": "Par', None),
    ("{'answer': 'Paris'}", None),
    ('{answer: "Paris"}', None),
    ('{"city": "Paris"}', None),
    ('["Paris"]', None),
    ("Paris", None),
    ("", None),
    ("{" * 3000, None),
    ('{"answer":' * 3000, None),
    ("[" * 3000 + '{"answer": "Paris"}', "Paris"),
    ('{"answer": ' + "9" * 5000 + "}", "9" * 5000),
]
