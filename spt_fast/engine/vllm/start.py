"""How vLLM is started: its settings from the grid's, its environment, its memory, and the nodes of an engine on several.

What the settings allow of the faster ways (`WAYS`) is set up before vLLM starts; whether they are taken, `equivalence` sees.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from spt_fast.config.strict import did_you_mean
from spt_fast.engine.base import READY_S, EngineConfig, Part, room_for
from spt_fast.engine.oom_backoff import gpu_share
from spt_fast.engine.vllm import shared_graphs
from spt_fast.engine.vllm.requests import Forcing
from spt_fast.errors import EngineError, ShareNotFreeError, boundary
from spt_fast.models import memory

if TYPE_CHECKING:
    import torch
    from vllm.config import VllmConfig
    from vllm.v1.engine.llm_engine import LLMEngine

WAYS = {"scoring": ("forced", "prompt_logprobs"), "injection": ("rows", "mixed")}
"""The ways of each matter, the fastest first; the last is the plain one, which needs no proof."""
PLAIN = {matter: ways[-1] for matter, ways in WAYS.items()}
FAST = {matter: ways[0] for matter, ways in WAYS.items()}

EMBEDS = "enable_prompt_embeds"
"""The setting of vLLM by which requests may bring vectors."""
PROCESSOR = "spt_fast.engine.vllm.forced:ForcedTokens"
"""What vLLM finds the logits processor by that makes requests write given tokens."""
OWN_WORKERS = {"Worker": "vllm.v1.worker.gpu_worker", "CPUWorker": "vllm.v1.worker.cpu_worker"}
"""vLLM's classes of workers that ours are made of -> where they are."""
WORKER = "spt_fast.engine.vllm.worker"
"""The module of the workers that vLLM is started with: its own class for the machine, with ours around it."""
ROOM = "spt_fast_rows"
"""The key of vLLM's `additional_config` that says how many bytes of room for soft prompts its workers make. vLLM hashes that
setting, so graphs that were compiled with room and without are kept apart."""
ROOM_BYTES = 2**27
"""1,600 soft prompts `[10, 4096]` in bfloat16. Where the room is full, what runs is awaited, the prefix cache is emptied, and
the room is filled anew."""
SAMPLE_LIGHTLY = "spt_fast_sample_lightly"
"""The name by which they are asked to sample with buffers that are kept."""

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as `max_lora_rank`."""
MOST_RANK = RANKS[-1]
MOST_ADAPTERS = 8
"""LoRA adapters that are in one batch together; further ones wait, and take each other's places."""

CPU_BLOCK = 32
"""Tokens of a block of the CPU's KV cache, the fewest that its attention takes. Only whole blocks are shared between requests:
with vLLM's 128, options behind a prompt of 80 tokens take 2.4 times as long."""
CPU_SEQUENCES = 64
"""Sequences that the CPU engine runs at once, unless the grid says otherwise."""
CPU_CACHE_TOKENS = 1024
"""Positions of each of them that the KV cache of the CPU engine has room for; longer ones wait for each other."""
CPU_CACHE_BYTES = 4 * 2**30
"""Most memory of that cache, unless the model's longest sequence needs more; and never more than an eighth of the
machine's. vLLM itself would take nine tenths."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """What an engine was started with."""

    forcing: Forcing
    lora: str | None
    """Why it takes none of the LoRA adapters that were asked for; None: it does."""
    obstacles: Mapping[str, str]
    """Ways that cannot be tried -> why."""
    takes_embeds: bool
    """Whether requests may bring prompt embeds."""
    most_positions: int
    """That the model has."""


def start(config: EngineConfig, known: Mapping[str, str], *, on_cpu: bool) -> tuple[LLMEngine, Started]:
    """Start vLLM, ready for the faster ways that the settings allow and that have no known obstacle."""
    port = _free_port(config.nodes[0]) if config.nodes else 0
    if config.nodes and config.followers is not None:
        alone = replace(config, followers=None)
        ranks = range(1, len(config.nodes))
        config.followers.begin([Part(config=alone, rank=rank, port=port, obstacles=dict(known)) for rank in ranks])
    settings, started = _settings(config, known, on_cpu=on_cpu, port=port)
    import torch
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.llm_engine import LLMEngine

    set_num_threads = torch.set_num_threads
    try:
        with _room(config, float(settings.cache_config.gpu_memory_utilization)), _one_tokenizer():
            engine = LLMEngine.from_vllm_config(
                settings,
                usage_context=UsageContext.LLM_CLASS,
                disable_log_stats=bool(config.options.get("disable_log_stats", True)),
            )
    finally:
        torch.set_num_threads = set_num_threads  # the CPU worker puts a function there that only complains
    if on_cpu and config.pipeline_parallel > 1:
        # All stages but the first get their buffers in a run of made-up input, which vLLM leaves out on a CPU in eager mode.
        engine.collective_rpc("execute_dummy_batch")
    if on_cpu and settings.parallel_config.worker_cls.startswith(WORKER):
        engine.collective_rpc(SAMPLE_LIGHTLY)
    return engine, started


def follow(part: Part) -> None:
    """Run a part of an engine whose first node is another one, until this process or one of those it starts is ended.

    Raises:
        EngineError: vLLM cannot be started here.
    """
    config = part.config
    on_cpu = prepare_environment(config, rank=part.rank)
    with warnings.catch_warnings(), boundary(EngineError, f"starting part {part.rank} of vLLM for {config.model}"):
        warnings.simplefilter("ignore")
        settings, _ = _settings(config, part.obstacles, on_cpu=on_cpu, rank=part.rank, port=part.port)
        from vllm.v1.executor.multiproc_executor import MultiprocExecutor

        # As `vllm serve --headless` does it.
        with _room(config, float(settings.cache_config.gpu_memory_utilization)):
            executor = MultiprocExecutor(settings, monitor_workers=False)
        executor.start_worker_monitor(inline=True)


def _free_port(address: str) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as free:
        free.bind((address, 0))
        return int(free.getsockname()[1])


def _settings(
    config: EngineConfig, known: Mapping[str, str], *, on_cpu: bool, rank: int = 0, port: int = 0
) -> tuple[VllmConfig, Started]:
    """What vLLM is started with on the node of a rank: the same on all, but for the rank."""
    try:
        from vllm import EngineArgs
        from vllm.usage.usage_lib import UsageContext
    except ImportError as e:
        raise EngineError(
            f"vLLM cannot be imported ({e}); `make install`, or `engine: {{kind: transformers}}` in the grid"
        ) from e
    import torch

    no_rows = _no_rows(config, known)
    options = engine_options(config, on_cpu=on_cpu, rank=rank, port=port, prompt_embeds=no_rows is not None)
    names = setting_names()
    no_embeds = {} if EMBEDS in names or not options.pop(EMBEDS) else {"mixed": "this version of vLLM takes no prompt embeds"}
    if unknown := sorted(set(options) - names):
        raise EngineError(f"engine: vLLM has no setting {unknown[0]!r}{did_you_mean(unknown[0], names)}")
    about = _describe(config.model, options)
    lora = _prepare_adapters(config, options, about.architectures)
    if options["dtype"] == "auto" and about.dtype == torch.float32:
        # vLLM's `auto` would make bfloat16 of it, and the vectors were learnt in float32.
        options["dtype"] = "float32"
    if on_cpu:
        _register_in_process(about.architectures)
        if options["enforce_eager"]:
            # vLLM compiles small functions of its sampler even so: 6 s of a C++ compiler at a start, which must then be on the
            # machine. For the whole process, in which nothing else of ours compiles.
            torch._dynamo.config.disable = True
    most = _positions(config, options)
    os.environ[shared_graphs.SWITCH] = str(int(shared_graphs.install() is None))  # other processes inherit it
    # The defaults for work that nobody waits for: larger batches than a server's.
    settings = EngineArgs(**options).create_engine_config(UsageContext.LLM_CLASS, headless=rank > 0)
    obstacles = {**no_embeds, **_prepare_forcing(config, settings, known), **_prepare_rows(settings, no_rows)}
    cache = settings.cache_config
    if on_cpu and cache.kv_cache_memory_bytes is None and "gpu_memory_utilization" not in config.options:
        cache.kv_cache_memory_bytes = _cpu_cache_bytes(settings)
    forcing: Forcing = "trace" if settings.use_v2_model_runner else "processor"
    return settings, Started(
        forcing=forcing,
        lora=lora,
        obstacles=obstacles,
        takes_embeds=bool(options.get(EMBEDS)),
        most_positions=most or int(settings.model_config.max_model_len),
    )


def _positions(config: EngineConfig, options: dict[str, Any]) -> int | None:
    """Have vLLM started for as many positions as are asked for; how many the model has. None: it is left as it is.

    vLLM chooses the frequencies of some rotary embeddings ("longrope") by the positions that it is started for, and with them
    what the model answers. There it is started for all.
    """
    if config.positions is None or "max_model_len" in config.options:
        return None
    from vllm import EngineArgs

    model = EngineArgs(**options).create_model_config()
    rotary = getattr(model.hf_text_config, "rope_parameters", None) or getattr(model.hf_text_config, "rope_scaling", None) or {}
    if rotary.get("rope_type", rotary.get("type")) in ("longrope", "su"):
        return None
    most = int(model.max_model_len)
    options["max_model_len"] = room_for(config.positions, most)
    return most


def own_batches(config: EngineConfig) -> tuple[int, int]:
    """`max_num_seqs` and `max_num_batched_tokens` of vLLM where it is told neither: on an H100 more than on smaller GPUs."""
    on_cpu = prepare_environment(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from vllm import EngineArgs
        from vllm.usage.usage_lib import UsageContext

        tokens, sequences = EngineArgs.get_batch_defaults(config.tensor_parallel * config.pipeline_parallel)
    most = CPU_SEQUENCES if on_cpu else sequences[UsageContext.LLM_CLASS]
    return most, tokens[UsageContext.LLM_CLASS]


def _prepare_adapters(config: EngineConfig, options: dict[str, Any], architectures: Sequence[str]) -> str | None:
    """Have vLLM started for the LoRA adapters it will be given; why it is not."""
    if config.adapters is None:
        return None
    if config.nodes:
        return "LoRA adapters are files of one node, and this engine is on several; leave lora out for this model"
    from vllm import ModelRegistry
    from vllm.model_executor.models import supports_lora

    wanted = config.adapters
    for name in architectures:
        known = ModelRegistry.models.get(name)
        if known is not None and not supports_lora(known.load_model_cls()):
            return f"vLLM has no LoRA for {name}; engine: {{kind: transformers}} for this model, or leave lora out"
    if wanted.rank > MOST_RANK:
        return f"vLLM takes LoRA adapters of rank {MOST_RANK} at most, and this has {wanted.rank}; lower lora.rank"
    at_once = min(wanted.count, MOST_ADAPTERS)
    ours = {
        "enable_lora": True,
        "max_lora_rank": min(rank for rank in RANKS if rank >= wanted.rank),
        "max_loras": at_once,
        # The embeddings must be left alone: vLLM looks up the ids between soft rows through them, and its LoRA embedding
        # counts on all ids of a batch (vllm#51122). The layers that are changed, and no others, are therefore named.
        "lora_target_modules": sorted(wanted.targets),
    }
    for key, value in ours.items():
        options.setdefault(key, value)
    return None


def _prepare_forcing(config: EngineConfig, settings: VllmConfig, known: Mapping[str, str]) -> dict[str, str]:
    """Set vLLM up to have options forced, where that may be tried; what stands in the way of it."""
    model = settings.model_config
    if config.scoring not in ("auto", "forced") or "forced" in known:
        return {}
    if model.logprobs_mode != "raw_logprobs":
        return {"forced": f"logprobs_mode is {model.logprobs_mode}"}
    if settings.speculative_config is not None:
        return {"forced": "speculative decoding takes no logits processor"}
    if settings.use_v2_model_runner:
        model.enable_trace_replay = True
    else:
        # Ours last: what a grid's own processors make of the logits must not change what is written.
        model.logits_processors = [*(model.logits_processors or ()), PROCESSOR]
    return {}


def _no_rows(config: EngineConfig, known: Mapping[str, str]) -> str | None:
    """Why soft rows are not to be met by token ids of their own, known before vLLM's settings are made; empty: nobody wants
    them to be; None: they may be."""
    if "rows" in known:
        return known["rows"]
    if config.injection == "mixed":
        return ""
    if config.options.get("speculative_config"):
        return "a model that drafts has none of them"
    if (theirs := config.options.get("worker_cls", "auto")) != "auto":
        return f"worker_cls is {theirs}"
    return None


def _prepare_rows(settings: VllmConfig, no_rows: str | None) -> dict[str, str]:
    """Have vLLM's workers make room for soft rows; what stands in the way of it."""
    parallel = settings.parallel_config
    module, _, name = parallel.worker_cls.rpartition(".")
    if OWN_WORKERS.get(name) == module:
        parallel.worker_cls = f"{WORKER}.{name}"
    else:
        no_rows = f"vLLM's worker is {parallel.worker_cls} here" if no_rows is None else no_rows
    if no_rows is not None:
        return {"rows": no_rows} if no_rows else {}
    settings.additional_config = {**(settings.additional_config or {}), ROOM: ROOM_BYTES}
    return {}


def engine_options(
    config: EngineConfig, *, on_cpu: bool, rank: int = 0, port: int = 0, prompt_embeds: bool = False
) -> dict[str, Any]:
    """What vLLM's `EngineArgs` are made of: the grid's settings over ours.

    Args:
        config: of the engine.
        on_cpu: it runs on a CPU.
        rank: the node's place in `config.nodes`, where it is spread over several.
        port: where those meet, on the first.
        prompt_embeds: have vLLM take them. Each step then looks up embeddings outside the compiled graph.
    """
    spread = config.tensor_parallel * config.pipeline_parallel > 1
    return {
        "model": config.model,
        "revision": config.revision,
        "dtype": config.dtype,
        "trust_remote_code": config.trust_remote_code,
        "tensor_parallel_size": config.tensor_parallel,
        "pipeline_parallel_size": config.pipeline_parallel,
        # Processes of this node: in an actor vLLM would choose Ray, whose placement groups inside others' wait for ever. Over
        # several nodes too: vLLM's own way needs no Ray, runs on a CPU, and leaves our actors in charge of the processes.
        **({"distributed_executor_backend": "mp"} if spread else {}),
        **(
            {"nnodes": len(config.nodes), "node_rank": rank, "master_addr": config.nodes[0], "master_port": port}
            if config.nodes
            else {}
        ),
        EMBEDS: prompt_embeds,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        # Compiling pays for hours of work on a CPU, not for minutes.
        **({"enforce_eager": True, "max_num_seqs": CPU_SEQUENCES, "block_size": CPU_BLOCK} if on_cpu else {}),
        **({"gpu_memory_utilization": gpu_share(config)} if config.gpus < 1 and not on_cpu else {}),
        **config.options,
    }


@contextlib.contextmanager
def _one_tokenizer() -> Iterator[None]:
    """Keep vLLM from copying the tokenizer for threads that encode beside each other: ours sends token ids, from one thread.

    Python's `deepcopy` of Gemma's 262,144 tokens and their merges, twice, was a third of the start of its engine.
    """
    from vllm.renderers import hf

    own = getattr(hf, "maybe_make_thread_pool", None)
    if own is None:  # another version, which may copy as it likes
        yield
        return
    hf.maybe_make_thread_pool = lambda tokenizer, *_, **__: tokenizer
    try:
        yield
    finally:
        hf.maybe_make_thread_pool = own


@contextlib.contextmanager
def _room(config: EngineConfig, share: float) -> Iterator[None]:
    """Wait for the share of the GPU that the engine asks for, and keep the GPU's turn while it starts. On a CPU: nothing.

    Raises:
        ShareNotFreeError: others still hold part of it; vLLM would find that half a minute later.
    """
    with memory.room(lambda total: share * total, gpus=config.gpus, devices=config.devices) as seen:
        if seen is not None and seen[0] < share * seen[1]:
            free, total = seen
            raise ShareNotFreeError(
                f"{memory.gib(free)} of {memory.gib(total)} GiB of GPU memory are free after {memory.FREED_S:.0f} s, and "
                f"gpu_memory_utilization {share:g} asks for {memory.gib(share * total)}; end what holds the rest, or set "
                "engine: {gpu_memory_utilization: ...} in the grid"
            )
        yield


@dataclass(frozen=True)
class _About:
    """What the checkpoint says of itself."""

    dtype: torch.dtype
    architectures: tuple[str, ...]


def _describe(model: str, options: dict[str, Any]) -> _About:
    from vllm.transformers_utils.config import get_config
    from vllm.transformers_utils.model_arch_config_convertor import ModelArchConfigConvertorBase

    hf_config = get_config(model, bool(options["trust_remote_code"]), revision=options["revision"])
    dtype = ModelArchConfigConvertorBase.get_torch_dtype(hf_config, model, options["revision"], "auto")
    return _About(dtype, tuple(getattr(hf_config, "architectures", None) or ()))


def _register_in_process(architectures: Iterable[str]) -> None:
    """Import a model's class here before vLLM asks what it can do.

    To leave CUDA alone, vLLM would ask in another process, which imports all of vLLM again: 10 s, the first time that a machine
    meets an architecture. On a CPU there is nothing to leave alone.
    """
    from vllm import ModelRegistry

    for name in architectures:
        known = ModelRegistry.models.get(name)
        if known is not None:
            with contextlib.suppress(Exception):  # vLLM's own way remains, and says what is wrong
                ModelRegistry.register_model(name, known.load_model_cls())


def _cpu_cache_bytes(settings: VllmConfig) -> int:
    """Memory for the KV cache: what the sequences that run at once need, within bounds; the longest one always fits."""
    model, parallel = settings.model_config, settings.parallel_config
    heads = model.get_num_layers(parallel) * model.get_num_kv_heads(parallel)
    per_token: int = 2 * heads * model.get_head_size() * model.dtype.itemsize
    block: int = settings.cache_config.block_size
    # A sequence fills its last block in part; vLLM keeps one block for itself.
    each = (min(model.max_model_len, CPU_CACHE_TOKENS) // block + 1) * block
    longest: int = (model.max_model_len // block + 2) * block
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    wanted: int = per_token * each * settings.scheduler_config.max_num_seqs
    return max(per_token * longest, min(wanted, CPU_CACHE_BYTES, machine // 8))


def import_vllm() -> None:
    """Import what an engine is started with, ahead of its start. Touches no device.

    Raises:
        ImportError: vLLM is not installed.
    """
    prepare_environment()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_module("vllm.v1.engine.llm_engine")


def setting_names() -> frozenset[str]:
    """The settings that this vLLM has: what `engine:` of a grid may hold.

    Raises:
        ImportError: vLLM is not installed.
    """
    prepare_environment()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from vllm import EngineArgs

    return frozenset(field.name for field in fields(EngineArgs))


def prepare_environment(config: EngineConfig | None = None, *, rank: int = 0) -> bool:
    """Set what vLLM reads from the environment, where the user has not; whether it will run on a CPU.

    Must run before vLLM is imported for the first time.

    Args:
        config: of the engine, where there is to be one.
        rank: the node's place in `config.nodes`.
    """
    on_cpu = not memory.on_gpu()
    defaults = {
        "VLLM_LOGGING_LEVEL": os.environ.get("SPT_FAST_LOG", "ERROR").upper(),
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # results go to stdout
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_ENGINE_READY_TIMEOUT_S": f"{READY_S:.0f}",  # read when vLLM is imported; its own are 600
    }
    if on_cpu:
        # In this process: it starts in 3 s instead of 13, and requests are not sent to another process and back.
        defaults["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        if config is not None and config.tensor_parallel * config.pipeline_parallel > 1:
            # vLLM would bind each of its processes to the cores of a NUMA node of its own, and refuse where there are fewer.
            defaults["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    if config is not None and config.nodes:
        defaults["VLLM_HOST_IP"] = config.nodes[rank]  # else it takes the address that has a way to the internet
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    for name in [name for name in os.environ if name.startswith("VLLM_DP_")]:
        del os.environ[name]  # of a surrounding data-parallel run: an engine that sees them waits for the others
    # What vLLM's modules say while they are imported, before it has set up its loggers.
    logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"])
    return on_cpu
