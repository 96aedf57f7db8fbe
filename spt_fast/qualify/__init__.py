"""Whether a machine does everything that spt-fast does: `spt-fast doctor --gpu`, and `benchmarks/gpu/qualify.py`.

Decisions:

* A check is a value (`contract.Check`): what it needs, what it measures, what that means, how to mend it. A table of
  checks (`checks`) is all that differs between three minutes and ten.
* Each check runs in a process of its own, with its own limit of time (`processes`). A kernel that reads where it must not
  leaves a CUDA context of no use, an engine may hang: a check that dies is a row with its reason, and the next one begins.
* What a check measures of its machine is never a constant from a datasheet: `rates` comes first, and shares of a roofline are
  of what it saw.
* The measures are those of the benchmarks, which import them from here (`timing`, `kernels`, `training`, `engines`).
"""
