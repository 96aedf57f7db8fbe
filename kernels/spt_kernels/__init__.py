"""Operations of spt-fast, each with a definition in plain PyTorch (`reference.py`) and a faster way: kernels for NVIDIA GPUs
(`triton.py`), or another library's products (`onednn.py`). They know nothing of the application."""

from spt_kernels.frozen_linear import frozen_linear
from spt_kernels.linear_cross_entropy import linear_cross_entropy, linear_logprob
from spt_kernels.splice_embeds import splice_embeds

__all__ = ["frozen_linear", "linear_cross_entropy", "linear_logprob", "splice_embeds"]
