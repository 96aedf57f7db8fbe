"""Soft prompts and adapters as values: how vectors start, how they are saved, and PEFT's format, both ways.

Decisions:

* Vectors are kept in fp32, and cast where they enter the model, by rounding to nearest even, in the trainer and the engine
  alike.
* A start asks a `Vocabulary`, not a model: this package stays below `models/`. Rows of the vocabulary are what enters the
  model, scale included.
"""
