"""Rows of soft prompts behind a model's vocabulary: what vLLM's workers are given, without an engine."""

from __future__ import annotations

import inspect
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from spt_fast.engine.vllm import engine, start
from spt_fast.engine.vllm.virtual_rows import make_room

start.import_vllm()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what PyTorch's compiler imports
    from vllm.utils.import_utils import resolve_obj_by_qualname
    from vllm.v1.outputs import LogprobsTensors
    from vllm.v1.sample.sampler import Sampler
    from vllm.v1.worker import cpu_worker, gpu_worker
    from vllm.v1.worker.gpu.sample import prompt_logprob

    from spt_fast.engine.vllm import worker

pytestmark = pytest.mark.vllm

V, H, ROOM = 11, 4, 40


class Inner(torch.nn.Module):
    """Scales what it looks up, as Gemma does."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(V, H, dtype=torch.bfloat16)

    def embed_input_ids(self, input_ids: torch.Tensor) -> Any:
        return 3 * self.table(input_ids).detach()

    def forward(self, input_ids: torch.Tensor) -> Any:
        return 1 + self.embed_input_ids(input_ids)


class Outer(torch.nn.Module):
    """Asks the module in it, as vLLM's models do."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Inner()

    def embed_input_ids(self, input_ids: torch.Tensor, **_: Any) -> Any:
        return self.model.embed_input_ids(input_ids)

    def forward(self, input_ids: torch.Tensor) -> Any:
        return self.model(input_ids)


class VocabParallelEmbedding(torch.nn.Embedding):
    """By the name of vLLM's."""


class Scaled(VocabParallelEmbedding):
    """As Transformers' Gemma has it."""

    def forward(self, input: torch.Tensor) -> Any:
        return 3 * super().forward(input)


class ParallelLMHead(VocabParallelEmbedding):
    """By the name of vLLM's: it is no place to look up ids."""


class Direct(torch.nn.Module):
    """Does not go by the method itself: Transformers' models inside vLLM, and a few of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.words = Scaled(V, H, dtype=torch.bfloat16)
        self.head = ParallelLMHead(V, H, dtype=torch.bfloat16)

    def embed_input_ids(self, input_ids: torch.Tensor) -> Any:
        return self.words(input_ids).detach()

    def forward(self, input_ids: torch.Tensor) -> Any:
        return self.words(input_ids).detach()


def rows_of(count: int = ROOM) -> torch.Tensor:
    return torch.randn(count, H, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)


def room_in(model: torch.nn.Module) -> Any:
    return make_room(model, vocab_size=V, size=2 * H * ROOM)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("kind", [Outer, Direct])
def test_virtual_tokens_are_their_rows_as_they_are_and_all_others_the_models_own(kind: type, dtype: torch.dtype) -> None:
    """By the method that runners ask, and in what the model computes; ids of 32 bits are those of the newer runner."""
    model: Any = kind()
    own = model.embed_input_ids(torch.arange(V))
    behind = 1 if kind is Outer else 0
    room, rows, held = room_in(model), rows_of(), 0
    address = {name: buffer.data_ptr() for name, buffer in model.named_buffers()}
    for count in (3, 1, 10, 26):
        room.add(V + held, rows[held : held + count])
        held += count
        asked = torch.tensor([V, 2, V + held - 1, 0, V - 1, V + held // 2], dtype=dtype)
        every = torch.cat([own, rows])
        assert torch.equal(model.embed_input_ids(input_ids=asked), every[asked.long()])
        assert torch.equal(model(asked), every[asked.long()] + behind)
    assert {name: buffer.data_ptr() for name, buffer in model.named_buffers()} == address, "where captured graphs look"
    tokens = torch.tensor([5, 5, 1])
    assert torch.equal(model.embed_input_ids(tokens), own[tokens])


@pytest.mark.parametrize("kind", [Outer, Direct])
def test_rows_that_come_after_a_model_was_compiled_are_met_in_its_graph(kind: type) -> None:
    model: Any = kind()
    room = room_in(model)
    graphs: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    with torch._dynamo.config.patch(disable=False):
        compiled: Any = torch.compile(model, backend=keep, fullgraph=True, dynamic=True)
        asked = torch.tensor([1, 2, 3])
        assert torch.equal(compiled(asked), model(asked))
        room.add(V, rows_of(3))
        for ids in ([V, 1, V + 2], [4, V + 1, 0, V, V]):
            assert torch.equal(compiled(torch.tensor(ids)), model(torch.tensor(ids)))
    assert len(graphs) == 1, "and nothing was compiled again"
    torch.compiler.reset()


def test_an_id_that_is_given_is_never_given_to_another_row_before_all_are_given_anew() -> None:
    room = room_in(model := Outer())
    with pytest.raises(ValueError, match="the next virtual token is 11, not 12"):
        room.add(V + 1, rows_of(3))
    room.add(V, rows_of(3))
    for first in (V, V + 2, V + 4):
        with pytest.raises(ValueError, match=f"the next virtual token is 14, not {first}"):
            room.add(first, rows_of(3))
    with pytest.raises(ValueError, match="there is room for 40 rows of soft prompts, not for 41"):
        room.add(V + 3, rows_of(38))
    room.clear()
    room.add(V, rows_of(3) + 1)
    assert torch.equal(model.embed_input_ids(torch.tensor([V])), rows_of(3)[:1] + 1)


def test_a_model_that_reads_ids_elsewhere_too_is_left_alone() -> None:
    model: Any = Outer()
    model.requires_raw_input_tokens = True
    with pytest.raises(ValueError, match="Outer reads token ids besides their embeddings"):
        room_in(model)
    assert dict(model.named_buffers()) == {}


def test_a_model_of_which_it_is_not_known_where_it_looks_up_embeddings_is_left_alone() -> None:
    model: Any = Direct()
    model.others = VocabParallelEmbedding(V, H)
    with pytest.raises(ValueError, match="it is not known where Direct looks up its embeddings"):
        room_in(model)


def test_of_a_model_that_sees_and_reads_the_part_that_reads_is_taken() -> None:
    model: Any = Direct()
    model.seeing, model.reading = Outer(), Outer()
    model.get_language_model = lambda: model.reading
    room_in(model).add(V, rows_of(1))
    assert torch.equal(model.reading.embed_input_ids(torch.tensor([V])), rows_of(1))
    assert [name for name, _ in model.named_buffers()] == ["reading.model.spt_fast_rows"]


def test_a_part_of_a_pipeline_without_embeddings_makes_no_room_and_takes_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_looks_up_embeddings", lambda: False)
    later = worker_of(Outer())
    later.load_model()
    later.spt_fast_hold_rows(V, b"")
    assert (later.spt_fast_embed([1, 2]), later.spt_fast_room()) == (b"", None)


def worker_of(model: torch.nn.Module) -> Any:
    """Ours around a class that has loaded a model."""
    settings = SimpleNamespace(get_vocab_size=lambda: V, dtype=torch.bfloat16)

    class Base:
        model_runner = SimpleNamespace(get_model=lambda: model)
        vllm_config = SimpleNamespace(model_config=settings, additional_config={start.ROOM: 2 * H * ROOM})

        def load_model(self) -> None:
            """Done."""

    return type("Both", (worker.Ours, Base), {})()


def test_a_worker_makes_room_when_its_model_is_loaded_and_says_later_why_it_could_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_looks_up_embeddings", lambda: True)
    first = worker_of(model := Outer())
    first.load_model()
    found = first.spt_fast_embed([2, 5])
    first.spt_fast_hold_rows(V, found)
    own = model.embed_input_ids(torch.tensor([2, 5]))
    assert torch.equal(model(torch.tensor([V, V + 1])), own + 1)
    assert first.spt_fast_room() == (ROOM, H)
    first.spt_fast_forget_rows()
    first.spt_fast_hold_rows(V, found)
    raw: Any = Outer()
    raw.requires_raw_input_tokens = True
    second = worker_of(raw)
    second.load_model()
    assert second.spt_fast_room() is None
    with pytest.raises(ValueError, match="Outer reads token ids besides their embeddings"):
        second.spt_fast_hold_rows(V, found)


@pytest.mark.parametrize("theirs", [gpu_worker.Worker, cpu_worker.CPUWorker])
def test_vllm_finds_its_own_worker_with_ours_around_it_by_its_path(theirs: type) -> None:
    name = theirs.__name__
    found = resolve_obj_by_qualname(f"{start.WORKER}.{name}")
    assert start.OWN_WORKERS[name] == theirs.__module__
    assert issubclass(found, theirs)
    assert found is resolve_obj_by_qualname(f"{start.WORKER}.{name}"), "one class, however often it is asked for"
    for method in (engine.HAS_ROOM, engine.HOLD_ROWS, engine.FORGET_ROWS, engine.EMBED, start.SAMPLE_LIGHTLY, "load_model"):
        assert getattr(found, method) is not getattr(theirs, method, None)
    with pytest.raises(AttributeError, match="has no attribute 'Other'"):
        resolve_obj_by_qualname(f"{start.WORKER}.Other")


def test_prompts_log_probabilities_are_looked_up_within_the_logits_by_both_model_runners(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The newer runner's own loop; what it calls for a chunk counts ranks in Triton, and looks up as this does."""

    def look_up(logits: torch.Tensor, count: int, ids: torch.Tensor, *, logits_mode: bool) -> LogprobsTensors:
        found = ids.unsqueeze(-1)
        return LogprobsTensors(found, logits.gather(-1, found), ids)

    monkeypatch.setattr(Sampler, "gather_logprobs", inspect.unwrap(Sampler.gather_logprobs))
    monkeypatch.setattr(prompt_logprob, "compute_topk_scores", look_up)
    worker._look_up_within_logits()
    once = Sampler.gather_logprobs
    worker._look_up_within_logits()
    assert Sampler.gather_logprobs is once
    hidden = torch.randn(5, V, generator=torch.Generator().manual_seed(1))
    ids = torch.tensor([3, V, V + 30, 0, V - 1])
    _, scores, _ = prompt_logprob.compute_prompt_logprobs_with_chunking(ids, hidden, lambda part: part, 0)
    older = Sampler.gather_logprobs(hidden, 0, ids).logprobs
    for found in (scores[:, 0], older[:, 0]):
        assert torch.equal(found[[0, 3, 4]], hidden[[0, 3, 4], [3, 0, V - 1]])
