"""Ray: the actors that run workers on the nodes of a cluster, and the driver's side of them. The only door to `ray`.

Decisions:

* The driver owns the failures of a cluster. Ray restarts and retries nothing: a lost node can hide behind its retries for
  more than a minute. The driver asks every actor what has happened; one that is silent or hangs is given up, and its cells
  go to another. A cell in flight in three lost actors is set aside. Nothing an actor says after that is believed.
* An actor tells at once of what changes the plan, and of mere progress once a poll: a thousand workers make five times as
  much a second as the driver needs.
* A worker over several nodes is one worker. The scheduler seats all its parts or none; the driver holds their place as a
  placement group, and gives all of it up when any part is lost. The first node's engine starts the others' parts anew with
  each of its starts, by vLLM's `nnodes`, which needs no Ray inside vLLM and runs on a CPU.
* A driver leaves before Ray ends it: a minute after the head is gone Ray ends the process from inside. The driver knocks
  before it asks the head for anything, and leaves after 20 s.
"""
