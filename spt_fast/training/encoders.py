"""What is learnt: the vectors themselves, or a small network that makes them and is thrown away afterwards."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from spt_fast.config import SoftPromptConfig


class Plain(nn.Module):
    """The vectors, nothing in front of them."""

    def __init__(self, start_PH: Tensor) -> None:
        """Begin with these."""
        super().__init__()
        self.vectors_PH = nn.Parameter(start_PH)

    def forward(self) -> Tensor:
        """The vectors, `[P, H]`."""
        return self.vectors_PH


class MLP(nn.Module):
    """Each vector by itself through two ReLU layers: P-tuning as PEFT has it (`PromptEncoder`, type MLP; arXiv 2103.10385)."""

    def __init__(self, start_PH: Tensor, hidden: int) -> None:
        """Begin with these inputs and a random network.

        Args:
            start_PH: `[P, H]`, learnt too.
            hidden: inner width.
        """
        super().__init__()
        H = start_PH.shape[1]
        self.inputs_PH = nn.Parameter(start_PH)
        self.mlp_head = nn.Sequential(
            nn.Linear(H, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, H)
        )

    def forward(self) -> Tensor:
        """What the network makes of its inputs, `[P, H]`."""
        vectors_PH: Tensor = self.mlp_head(self.inputs_PH)
        return vectors_PH


class LSTM(nn.Module):
    """Vectors that know of their neighbours: two bidirectional LSTM layers and a ReLU layer (PEFT's type LSTM)."""

    def __init__(self, start_PH: Tensor, hidden: int) -> None:
        """Begin with these inputs and a random network.

        Args:
            start_PH: `[P, H]`, learnt too.
            hidden: width of each direction.
        """
        super().__init__()
        H = start_PH.shape[1]
        self.inputs_PH = nn.Parameter(start_PH)
        self.lstm_head = nn.LSTM(H, hidden, num_layers=2, bidirectional=True)
        self.mlp_head = nn.Sequential(nn.Linear(2 * hidden, 2 * hidden), nn.ReLU(), nn.Linear(2 * hidden, H))

    def forward(self) -> Tensor:
        """What the network makes of its inputs, `[P, H]`."""
        vectors_PH: Tensor = self.mlp_head(self.lstm_head(self.inputs_PH)[0])
        return vectors_PH


def encoder(config: SoftPromptConfig, start_PH: Tensor, seed: int) -> nn.Module:
    """What is learnt, on the device of its start, in fp32; calling it gives the vectors `[P, H]`.

    Args:
        config: `encoder` and `encoder_hidden`.
        start_PH: `[P, H]` fp32; the vectors themselves, or the inputs of the network.
        seed: of the network's weights; torch's own random state stays as it is.
    """
    if config.encoder is None:
        return Plain(start_PH)
    # The numbers of a CPU whatever the device, which may be another one tomorrow.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(hashlib.sha256(f"prompt encoder {seed}".encode()).digest()[:8], "little"))
        kind = {"mlp": MLP, "lstm": LSTM}[config.encoder]
        network: nn.Module = kind(start_PH.cpu(), config.encoder_hidden or start_PH.shape[1])
    return network.to(start_PH.device)
