"""Evaluation inside a training loop, of weights that a PyTorch process holds: no vLLM, no copy, no file.

The pieces are those of a run with the engine `transformers`: cells of a grid (`plan`), the trainer on a frozen model, the
questions and scores of `worker`. What is new is what a training loop needs: everything is as it was afterwards
(`untouched.py`), under DDP the work is divided over the ranks, and under FSDP2 (`sharded.py`) all ranks make the same passes
(`engine.py`), because each pass gathers weights from all of them.
"""
