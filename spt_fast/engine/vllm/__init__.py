"""vLLM: its engine with vectors injected, requests in its terms, and how it is started. The only door to `vllm`.

Decisions:

* Options are continuations that the engine is made to write (`forced`), behind the prompt in its prefix cache. Of the
  methods measured side by side (benchmarks/engine/option_scoring.py) it is the fastest: 2 to 6 times as fast as a tree of
  options in one pass of the trainer's model, 6 to 28 times as fast as `prompt_logprobs`.
* A faster method is used only where it proves equal (`equivalence`): the same requests both ways at each start. Equal is what
  differs by no more than the plain method does from itself in other batches, for on a GPU no two batches round alike. What
  differs more or dies falls back, and provenance says why (`engine_scoring`, `engine_injection`) and how far apart the two
  were (`engine_scoring_proof`, `engine_injection_proof`).
* vLLM is started for as many positions as the cells need (`EngineConfig.positions`), since it refuses a model of which the
  memory does not hold one sequence of full length, and for no fewer where that changes what the model answers.
* Compiled graphs are shared by all checkpoints of an architecture (`shared_graphs`).
* Soft rows are inserted where a model looks up its embeddings, behind its table (`virtual_rows`): ids from `V` on stand for
  rows of ours, so no padding or reserved token is needed, and there is no logit to mask. Room is made before the model is
  compiled, and rows are written into it, so the graph has them. vLLM's prompt embeds stay off: a maintainer asks whether to
  keep them (vllm#42963), and with them on each step looks up embeddings outside the graph. An id is given to other rows only
  when the room is full, nothing runs and the prefix cache was emptied, so that needs no salt.
* What rows are held against are tokens: rows that are the embeddings of tokens must answer as those tokens do. That is the
  path that all of vLLM's users take, and needs no third way to be right.
* vLLM is told which layers LoRA changes, and started for adapters only where cells have some. Its LoRA embedding counts on
  all ids of a batch and dies where soft rows stand between them (vllm#51122), so embeddings are left alone.
* vLLM's processes say why they died only in the log, so the worker's log is read (`oom_messages`).
"""
