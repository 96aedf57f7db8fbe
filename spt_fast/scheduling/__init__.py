"""Who works on what, and how long it takes: the scheduler of a grid, without a clock, a thread or Ray in it."""
