"""vLLM: its engine with vectors injected, requests in its terms, and how it is started. The only door to `vllm`.

Decisions:

* Options are continuations that the engine is made to write (`forced`), behind the prompt in its prefix cache. Of the
  methods measured side by side (benchmarks/engine/option_scoring.py) it is the fastest: 2 to 6 times as fast as a tree of
  options in one pass of the trainer's model, 6 to 28 times as fast as `prompt_logprobs`.
* A faster method is used only where it proves equal (`equivalence`): the same requests both ways at each start. What
  differs or dies falls back, and provenance says why (`engine_scoring`, `engine_injection`).
* Soft rows are inserted where a model embeds ids, not in its table (`virtual_rows`). With prompt embeds on, vLLM calls
  `embed_input_ids` outside the compiled graph, so ids from `V` on can stand for rows of ours: no padding or reserved token
  is needed, and there is no logit to mask. An id is never given to other rows, so the prefix cache needs no salt.
* vLLM is told which layers LoRA changes, and started for adapters only where cells have some. Its LoRA embedding counts on
  all ids of a batch and dies where soft rows stand between them (vllm#51122), so embeddings are left alone.
* vLLM's processes say why they died only in the log, so the worker's log is read (`oom_messages`).
"""
