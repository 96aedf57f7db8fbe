"""What vLLM adds to its worker class (`worker_extension_cls`), imported by its path in each process that has a worker."""

from __future__ import annotations

from spt_fast.engine.vllm.light_sampler import take_its_place
from spt_fast.engine.vllm.virtual_rows import VirtualRows


class WorkerExtension(VirtualRows):
    """Methods that are called by name through `collective_rpc`."""

    def spt_fast_sample_lightly(self) -> bool:
        """Sample with buffers that are kept (`light_sampler`); whether that can be done here."""
        return take_its_place(self.model_runner)
