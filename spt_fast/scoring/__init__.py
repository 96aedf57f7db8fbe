"""Scoring: completions and log-likelihoods -> verdicts an example -> metrics a cell, each with an interval.

Decisions:

* Knowledge of closed-ended tasks is scored by five methods (`methods`, docs/knowledge.md), because small models bind no
  letters to texts. All come from one stream of requests. The best is chosen on tuning rows, at the last step, once a cell.
  Those rows are the last that vectors train on (`Rows.choosing`), so fewer steps leave them alone, and cells can share
  their training.
* What a place in the list has by itself is taken off by its mean log-softmax over these rows. The mean over the cyclic
  orders of the options costs four times as many requests, and was not better beyond chance.
* The form of "B. Paris" is the form alone (`tasks.forms`): whether the text is the letter's is `letter_binding`. Exact
  match needs both.
* Differences in half precision are compared with noise that is measured (`noise`): the same tokens again in other batches,
  and with inputs rounded otherwise. The root mean square over 200 tokens is bounded as well as the largest difference: it
  is steady, and shows faults that no single token shows.
"""
