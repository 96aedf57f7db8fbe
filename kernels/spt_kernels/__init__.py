"""Operations of spt-fast, each with a definition in plain PyTorch (`reference.py`) and kernels for NVIDIA GPUs (`triton.py`).
They know nothing of the application."""

from spt_kernels.linear_cross_entropy import linear_cross_entropy, linear_logprob
from spt_kernels.splice_embeds import splice_embeds

__all__ = ["linear_cross_entropy", "linear_logprob", "splice_embeds"]
