"""Answers: how a value is found in a completion, and when two values are the same. Extractors never guess.

    extractors, thoughts                      text -> a value, with the rule that found it
    numbers, words, ...                       comparisons of one kind each
    tokens, grammar, equality, symbolic       LaTeX -> a tree, two trees; math-verify and sympy in a child process

Decisions:

* A completion that has the asked form is read as a whole; only others are searched. No word in a well-formed working ends
  it, and words that refuse to answer ("no information") judge only what is not right. An answer as it is published is in
  the form, whatever its words (`Task.verbatim`), so no row is lost for its gold answer.
* What stands in a thought is no answer, for every task and rule: verdicts are on what stands behind `</think>`, and a
  thought that never ends leaves nothing.
"""
