"""Embeddings of tokens with the vectors of soft prompts among them, in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from spt_kernels.dispatch import Impl, resolve
from spt_kernels.splice_embeds import reference


def splice_embeds(table_VH: Tensor, vectors_PH: Tensor, ids: Tensor, *, impl: Impl = "auto") -> Tensor:
    """Rows of an embedding table, and of the vectors where `ids` says so: what enters a model as `inputs_embeds`.

    An id is a token's, or `-1 - p` (in Python `~p`) for row p of the vectors, which is cast to the table's dtype by rounding to
    nearest even. So one call serves any layout: a padded batch `[B, P + T]` or a packed one, vectors in front or behind the
    first token, and several soft prompts whose vectors stand one below the other in `vectors_PH`.

    The table is frozen: only the vectors get a gradient, the sum over all places where they stand, in float32 (float64 for
    float64 vectors) and in a fixed order.

    Args:
        table_VH: `[V, H]` floating point; must not require a gradient. A model that does more to its embeddings than look them
            up (Gemma scales them) is not for this function.
        vectors_PH: `[P, H]` floating point, same device, any float dtype; P may be 0.
        ids: int64 of any shape `[...]`, each in [-P, V), same device.

    Returns:
        `[..., H]` in the table's dtype.

    Raises:
        ValueError: shapes, dtypes or devices do not fit together, the table wants a gradient, or there is no such
            implementation for them.
    """
    if table_VH.ndim != 2 or vectors_PH.ndim != 2 or table_VH.shape[1] != vectors_PH.shape[1]:
        raise ValueError(f"expected table [V, H] and vectors [P, H]; got {list(table_VH.shape)} and {list(vectors_PH.shape)}")
    if not table_VH.is_floating_point() or not vectors_PH.is_floating_point():
        raise ValueError(f"table and vectors must be of float dtypes: {table_VH.dtype}, {vectors_PH.dtype}")
    if ids.dtype != torch.int64:
        raise ValueError(f"ids must be int64, not {ids.dtype}")
    if not table_VH.device == vectors_PH.device == ids.device:
        raise ValueError(f"devices differ: {table_VH.device}, {vectors_PH.device} and {ids.device}")
    if table_VH.requires_grad:
        raise ValueError("the embeddings are frozen here: table must not require a gradient")
    way = resolve(impl, table_VH)
    # Vectors in float64 are for checks of gradients; a grid of no programs cannot be launched.
    if way == "reference" or vectors_PH.dtype == torch.float64 or not ids.numel() or not len(vectors_PH):
        return reference.splice_embeds(table_VH, vectors_PH, ids)
    from spt_kernels.splice_embeds import triton

    return triton.splice_embeds(table_VH, vectors_PH, ids)
