"""A worker does the cells of one stage, from the model's load to the cells' results, and tells of it in events.

    stage                                   the whole program: train, evaluate; or `judge`, where the stage is a judge's
    train, training_group, trained          TRAIN: which cells are trained together, and who gets what was trained
    evaluate, result                        EVALUATE: all cells through one engine; scores, costs, provenance -> CellResult
    judge, judge_requests                   JUDGE: one engine decides on the completions of all cells
    questions, requests, answers            rows -> text and tokens -> requests; which answer belongs where
    context_window                          whether the model had positions enough
    stream, engine_loop                     one stream of requests, and engines that are started until all is answered
    workspace, rows, backlog, lease         what the steps share; which cells are left, and whose they are
    events, throughput                      what is told, and how fast

Decisions:

* Nothing is written here: a worker is a function from a stage, and what earlier runs have trained for it, to events. Only
  the driver writes, so another executor has nothing to know about folders.
* Evaluation, judge and ablation are plans in one loop (`stream`): a plan is claimed when the engine has room to read its
  requests, answers are put in their places, and a finished plan is handed out at once.
* Of an engine that died with several cells in flight it is not known which it died of. They are asked one by one, and the
  cell that is alone with the next death fails (`backlog`).
"""
