"""Models: which one it is, what is wrong with its folder, its tokenizer and chat template, and the frozen model itself.

    identity, hub, weights, faults, fits    which model it is, how large, and what is wrong with it; no weights are loaded
    tokenizer, chat                         text -> token ids; what a chat template does to a prompt
    frozen_model, lora                      the model that soft prompts and adapters are trained through
    load, load_errors, head, layers         how it is loaded, and what it is made of
    memory, finite                          memory of the device; why logits are not finite

Decisions:

* A model is known by its weights: the commit of a Hub id, or a hash over config, tokenizer and a sample of every tensor of
  a folder. New weights under an old path are new cells; a copy elsewhere is the same model.
* White space between a prompt and its answer is the template's: one space behind "Answer:", and behind a chat template what
  the template itself writes there (`Tokenizer.continuation`). Training, generation and scoring share it.
* Options are scored whole. Where a token reaches from the prompt into an option (": A"), all options of the question are
  scored from the last token that the prompt shares with all of them (`Tokenizer.pairs`). Where none does, token ids are
  those of lm-eval (`_encode_pair`), which in the other case leaves out what that token holds.
* A rendered chat template is checked against the prompt: all words of the prompt stand in it, in order. Its clock is a
  fixed day (`chat_date`, part of the cache key). Options are not scored in a thought that the template leaves open.
* The last layer's MLP sees only the positions that predict a target, as the head does (`FrozenModel.hidden_at`): a ninth of
  a step of 8 layers. A model family whose MLP needs all positions is found at load. The last layer is never recomputed.
* How many threads a pass on a CPU takes follows from its size and is not timed, so that a result is a function of its
  inputs.
* Memory is found by trying: a batch, half of it, ..., one row, then the same with activations recomputed. What fitted is
  remembered as long as the model is loaded (`training/memory_plan.py`).
* Engines that share a GPU start one after the other (`memory`): vLLM measures its memory by what is free before and after.
"""
