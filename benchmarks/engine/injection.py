"""What it costs to bring a soft prompt to vLLM's model in four ways, against token ids of the same length alone.

    python benchmarks/engine/injection.py [--smoke] [--output FILE]

    tokens   token ids, as many as the others have positions
    full     an embedding for each position and no ids, as most who use prompt embeds have it
    mixed    the same with ids beside: vLLM's documented way to have both
    short    the soft rows alone, and ids
    rows     token ids: the soft rows went to vLLM's workers before, and have ids of their own

Host cost of a request: two processes, as vLLM has them. One makes the request and sends it with vLLM's own encoder through a
ZMQ socket, the other decodes it and makes vLLM's `Request` of it, block hashes included. The time is the processor's, of both
together, so that a busy machine does not count. No model is involved.

Requests a second, end to end: one engine a model, all ways in turn, each time with an empty prefix cache. Every request writes
the same number of tokens. The ratio to tokens is the median over rounds, of wall time and of processor time.

Before anything is timed, what arrives is looked at (positions, rows, which of them are tokens, hashes that tell prompts apart),
and all ways must write the same.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

from prompt_embeds import ROOT, SAME, build, certificate

LENGTH = 10
BLOCK = 16
V = 200_000
"""Of the host's side: the id of the first soft row."""
WAYS = ("tokens", "full", "mixed", "short", "rows")
FULL: dict[str, Any] = {
    "host": {"hidden": (256, 1024, 4096, 8192), "tokens": (300, 1000), "requests": 60, "rounds": 3},
    "models": {
        "zoo/base-70": {"requests": 192},
        "random": {"requests": 96, "hidden": 512, "layers": 8, "vocab": 32_000},
    },
    "most": 200,
    "written": 16,
    "rounds": 5,
}
SMOKE: dict[str, Any] = {
    "host": {"hidden": (64,), "tokens": (40,), "requests": 8, "rounds": 1},
    "models": {"random": {"requests": 12, "hidden": 64, "layers": 2, "vocab": 300}},
    "most": 40,
    "written": 4,
    "rounds": 1,
}
TARGETS = {"requests_to_tokens": 0.97, "full_to_short": 10.0, "short_ms": 0.25}
"""Least, least, most. The host's are of H = 4096 and T = 300 with prefix caching."""

Held = tuple[str, Any]
"""A soft prompt's key, and its rows `[P, H]` in the model's dtype."""


def made(way: str, ids: tuple[int, ...], held: Held, name: str) -> Any:
    """vLLM's request, as its front end hands it to the encoder."""
    import torch
    from vllm.v1.engine import EngineCoreRequest

    from spt_fast.engine.vllm import engine_input, sampling_params
    from spt_fast.types import Generate, Sampling

    soft_prompt, rows = held
    if way == "tokens":
        ids, soft_prompt, rows = (*range(LENGTH), *ids), None, None
    request = Generate(token_ids=ids, sampling=Sampling(max_tokens=16), soft_prompt=soft_prompt)
    first_id = V + LENGTH * int(soft_prompt or "0", 16) % V if way == "rows" else None
    given: Any = engine_input(request, rows, first_id=first_id, short=way == "short")
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
    sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]
    import zmq
    from vllm.utils.hashing import get_hash_fn_by_name
    from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
    from vllm.v1.engine import EngineCoreRequest
    from vllm.v1.request import Request
    from vllm.v1.serial_utils import MsgpackDecoder

    from spt_fast.engine import short_embeds

    short_embeds.install()
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
        if way in ("mixed", "short") and seen["tokens"] != [False] * LENGTH + [True] * len(ids):
            wrong.append(f"{way}: positions are taken for what they are not")
    if wrong:
        raise SystemExit("nothing is timed: " + "; ".join(wrong))


def host(case: dict[str, Any]) -> list[dict[str, Any]]:
    """Milliseconds of processor time a request, by hidden size, tokens, prefix caching and way."""
    import torch

    from spt_fast.engine import short_embeds

    short_embeds.install()
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
                            "full_to_short": round(medians["full"] / medians["short"], 1),
                            "full_to_rows": round(medians["full"] / medians["rows"], 1),
                        }
                    )
                    print(f"H {hidden}, T {tokens}, caching {caching}: {medians}", file=sys.stderr)
        line.close()
    return results


def _numbered(way: str, ids: tuple[int, ...], held: Held, i: int) -> Any:
    """Each request has its own last token, as rows of a task differ."""
    return made(way, (*ids[:-1], i), held, str(i))


def end_to_end(case: dict[str, Any]) -> list[dict[str, Any]]:
    """Requests a second, by model, prefix caching and way."""
    from spt_fast.zoo import find

    results = []
    for name, shape in case["models"].items():
        with tempfile.TemporaryDirectory() as folder:
            if name == "random":
                build(Path(folder), shape)
            source = folder if name == "random" else str(find(name.removeprefix("zoo/")))
            for caching in (True, False):
                found = race(source, case, shape["requests"], caching=caching)
                results.append({"model": name, **shape, "prefix_caching": caching, **found})
                print(f"{name}, caching {caching}: {found['to_tokens']}", file=sys.stderr)
    return results


def race(model: str, case: dict[str, Any], count: int, *, caching: bool) -> dict[str, Any]:
    """All ways round by round, on one engine.

    Raises:
        SystemExit: one cannot be taken here, or writes something else.
    """
    import random

    import numpy as np
    from transformers import AutoModelForCausalLM

    from spt_fast.engine import open_engine
    from spt_fast.engine.base import EngineConfig
    from spt_fast.prompts.soft_prompt import SoftPrompt
    from spt_fast.types import Generate, Sampling

    embeddings = AutoModelForCausalLM.from_pretrained(model).get_input_embeddings()
    vocab, hidden = embeddings.weight.shape
    spread = float(embeddings.weight.std())
    vectors = np.random.default_rng(0).normal(scale=spread, size=(LENGTH, hidden)).astype(np.float32)
    rng = random.Random(0)
    texts = [tuple(rng.randrange(3, vocab) for _ in range(rng.randrange(8, case["most"]))) for _ in range(count)]
    instruction = tuple(rng.randrange(3, vocab) for _ in range(LENGTH))
    sampling = Sampling(max_tokens=case["written"])
    options = {
        "skip_tokenizer_init": not (Path(model) / "tokenizer.json").is_file(),
        "enable_prefix_caching": caching,
        "max_model_len": 256,
    }
    with open_engine(EngineConfig(model=model, dtype="float32", options=options)) as engine:
        inner: Any = engine
        if inner._obstacles:
            raise SystemExit(f"not all ways can be taken here: {inner._obstacles}")
        key = engine.add(SoftPrompt(vectors=vectors))
        soft = [Generate(token_ids=ids, sampling=sampling, soft_prompt=key) for ids in texts]
        plain = [Generate(token_ids=(*instruction, *ids), sampling=sampling) for ids in texts]

        def run(way: str) -> list[tuple[int, ...]]:
            with _by(inner, way, embeddings):
                return [answer.token_ids for answer in engine.generate(plain if way == "tokens" else soft)]

        said = {way: run(way) for way in WAYS}
        if any(len(answer) != case["written"] for answers in said.values() for answer in answers):
            raise SystemExit("nothing is timed: requests end early")
        for way in WAYS[1:]:
            same = statistics.mean(a[0] == b[0] for a, b in zip(said["mixed"], said[way], strict=True))
            if same < SAME or said[way] == said["tokens"]:
                raise SystemExit(f"nothing is timed: {way} and mixed begin alike in {same:.1%}")
        walls: dict[str, list[float]] = {way: [] for way in WAYS}
        processor: dict[str, list[float]] = {way: [] for way in WAYS}
        for i in range(case["rounds"]):
            for way in (*WAYS[i % len(WAYS) :], *WAYS[: i % len(WAYS)]):
                inner._engine.reset_prefix_cache()
                wall, cpu = time.perf_counter(), time.process_time()
                run(way)
                walls[way].append(time.perf_counter() - wall)
                processor[way].append(time.process_time() - cpu)
    return {
        "taken_by_auto": dict(inner.ways)["injection"],
        "requests_a_second": {way: round(count / statistics.median(took), 2) for way, took in walls.items()},
        "to_tokens": {way: _ratio(walls, way) for way in WAYS[1:]},
        "to_tokens_by_processor_time": {way: _ratio(processor, way) for way in WAYS[1:]},
        "rounds_s": walls,
        "rounds_processor_s": processor,
    }


def _ratio(took: dict[str, list[float]], way: str) -> float:
    """Requests a second against tokens: round by round, since a machine has better and worse minutes."""
    return round(statistics.median(tokens / ours for tokens, ours in zip(took["tokens"], took[way], strict=True)), 3)


@contextlib.contextmanager
def _by(engine: Any, way: str, embeddings: Any) -> Iterator[None]:
    """The engine with soft prompts going to its model in this way."""
    import torch
    from vllm.inputs.engine import embeds_input

    from spt_fast.engine import vllm

    def endless(*arguments: Any) -> Any:
        made = sampling_params(*arguments)
        made.ignore_eos = True
        return made

    def whole(request: Any, rows: Any, **_: Any) -> Any:
        with torch.inference_mode():
            made = embeds_input(torch.cat([rows, embeddings(torch.tensor(request.token_ids))]), cache_salt=None)
        made["arrival_time"] = time.time()
        return made

    sampling_params = vllm.sampling_params
    ways = {**engine._ways, "injection": way}
    with contextlib.ExitStack() as patches:
        patches.enter_context(mock.patch.object(engine, "_ways", ways))
        patches.enter_context(mock.patch.object(vllm, "sampling_params", endless))
        if way == "full":
            patches.enter_context(mock.patch.object(vllm, "engine_input", whole))
        yield


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """Both, and whether they reach what they are to reach."""
    costs, races = host(case["host"]), end_to_end(case)
    taken = [each["to_tokens"][each["taken_by_auto"]] for each in races]
    reached: dict[str, Any] = {"requests_to_tokens": min(taken)}
    for each in costs:
        if (each["hidden"], each["tokens"], each["prefix_caching"]) == (4096, 300, True):
            reached |= {"full_to_short": each["full_to_short"], "short_ms": each["ms_a_request"]["short"]}
    return {
        "case": case,
        "soft_positions": LENGTH,
        "block": BLOCK,
        "targets": TARGETS,
        "reached": reached,
        "host": costs,
        "end_to_end": races,
    }


def main() -> None:
    """Measure and say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a tiny case, in seconds")
    parser.add_argument("--output", type=Path, help="also write the JSON here")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("PYTHONHASHSEED", "0")  # what vLLM's first block hash is made of, in both processes
    result = measure(SMOKE if arguments.smoke else FULL)
    text = json.dumps({**certificate(), "result": result}, indent=2)
    print(text)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    # The file also runs from a clone that is not installed.
    sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]
    main()
