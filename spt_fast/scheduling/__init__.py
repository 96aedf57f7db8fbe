"""Who works on what, and how long it takes: the scheduler of a grid, without a clock, a thread or Ray in it.

Decisions:

* The scheduler is proved in a simulator. It has no clock and no Ray in it, so whole nights with every kind of trouble are
  replayed in tests, and the same events give the same actions.
* A run tells its time left from tokens (`foresight`): the estimate of each cell by the lengths of its real rows, corrected
  by what training and evaluation have taken so far, apart.
"""
