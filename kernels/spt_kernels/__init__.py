"""Operations of spt-fast, each with a definition in plain PyTorch (`reference.py`). They know nothing
of the application."""

from spt_kernels.linear_cross_entropy import linear_cross_entropy

__all__ = ["linear_cross_entropy"]
