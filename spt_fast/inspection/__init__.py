"""What soft prompts and engines are: nearest tokens, ablations of vectors, and vLLM compared with Transformers.

    prompts, inspected, origin, findings             soft prompts of a file or a run folder, and finding out what is not known
    ablation                                         what the vectors do: test rows without some of them
    verify, verify_requests, _compare, _report       the same requests to vLLM and to Transformers

Decisions:

* Nearest tokens are computed while the model is loaded for training and kept beside the vectors (meaning.json), so a report
  needs no model. What takes an engine (probe.json) is asked for by `inspect` alone. Neither is part of a result.
"""
