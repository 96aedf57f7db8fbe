"""The driver does a grid: it plans, has stages run, keeps what workers say, and tells where the grid stands.

    run                     the main job on one page
    ahead                   what is to be done, before it begins
    stages, keep            running stages on an executor; events in, files of the run folder out
    ensembles               majority votes of soft prompts, from what is in the run folder
    estimates, heartbeat    how long it takes; what events.jsonl says while it goes on
    resolved, result        grid.yaml as it was resolved; what `run_grid` returns
    options                 options of the command line that change a grid

Decisions:

* Only the driver writes results, and result.json last: killing anything at any moment loses the cells in flight.
* A cell whose result cannot be kept has failed, and the grid goes on; a folder that cannot be written ends the run.
* What a worker says that cannot be stored (`UnstorableError`), sent or read is its cell's failure, never the driver's.
* A worker that dies costs the cell it died of. With several in flight it is not known which that was: they are tried once
  more, one by one (`Stage.alone`). After three deaths with nothing done between, all that is left fails.
"""
