"""The definition, in plain PyTorch. Never bent to match a kernel."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def splice_embeds(table_VH: Tensor, vectors_PH: Tensor, ids: Tensor) -> Tensor:
    """Arguments and result as in `spt_kernels.splice_embeds`, unchecked."""
    ids_M = ids.flatten()
    (soft_S,) = (ids_M < 0).nonzero(as_tuple=True)
    # Looked up before they are cast, so that their gradient is summed behind the cast, in the vectors' own dtype.
    vectors_SH = vectors_PH[~ids_M[soft_S]].to(table_VH.dtype)
    spliced_MH = F.embedding(ids_M.clamp(min=0), table_VH).index_copy(0, soft_S, vectors_SH)
    return spliced_MH.view(*ids.shape, table_VH.shape[1])
