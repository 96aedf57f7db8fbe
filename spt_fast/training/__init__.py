"""Training: tuning rows -> soft prompts and LoRA adapters, with the model frozen.

    task       one soft prompt for one model and task: rows, start, rate
    batches    rows in batches; encoders, optimizers, vocabulary
    trainer    the passes; `run` one soft prompt while it is trained, `at_once` how many share a pass,
               `memory_plan` how many rows memory has room for

Decisions:

* Start, position and rate of a soft prompt are in units of the model (`task.settled`): what enters a model for a token
  differs by a factor of 60 between models, so fixed numbers train some of them not at all. The cache key has the word
  `auto`; the provenance of the vectors has the number and the position, and requests go by that (`SoftPrompt.position`).
* Several soft prompts share a pass where that was measured to be faster (`at_once`): 1, 2, 4, ... on a GPU, one on a CPU.
  Rows of all of them are sorted by length, and cut where the padding saved is worth a pass. A pass that fails is repeated
  one by one, so that only the culprit fails.
* A soft position is a negative token id (`~p` is row p of the vectors) in what the trainer embeds, so one gather serves one
  soft prompt and several.
* An encoder gets the vectors' gradient: the model's part ends at a leaf, so micro-batches work for both.
* Early stop on the form looks at what the model writes: the trainer's own model answers the held-out rows, with the code of
  the Transformers engine, at the price of about a step. On the zoo the loss fell for 120 steps after the form was there.
* `torch.compile` is left out: on a CPU matrix products are 85 % of a step (50 M parameters, V = 32k) and attention 7, so
  fusing the rest could save 6 of 80 seconds at most.
"""
