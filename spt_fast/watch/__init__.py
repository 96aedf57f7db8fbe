"""The night as one thing: checkpoints are waited for, evaluated, judged against the last accepted one, and told of.

    checkpoints    what a pattern names, and which of it is whole
    verdict        what is said of a checkpoint: kept in the run folder, sent to who is told
    night          one checkpoint: evaluate, gate, keep
    notify         a command or a URL that is told
    loop           look, wait, look again

Decisions:

* Nothing is remembered but what the run folder holds: cells that are done, verdicts that were kept, verdicts that were told. A
  kill at any moment loses what is in flight; the same command does only that again.
* A verdict is kept before it is told, and told at least once; its id is the same each time, made of what it is about.
* A checkpoint is held against the last accepted one before it in natural order: one that comes late changes no verdict.
* What is whole is told by content (`models.whole`), and held against the fingerprint again when it has been evaluated.
* A checkpoint that is written anew, as after a fault was mended, is judged again: a new verdict follows the old one.
"""
