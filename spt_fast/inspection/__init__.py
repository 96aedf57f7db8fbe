"""What soft prompts and engines are: ablations of vectors, and vLLM compared with Transformers.

Decisions:

* Nearest tokens are computed while the model is loaded for training and kept beside the vectors (meaning.json), so a report
  needs no model. What takes an engine (probe.json) is asked for by `inspect` alone. Neither is part of a result.
"""
