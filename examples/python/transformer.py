"""A block of a transformer in which each addition is part of the RMSNorm behind it.

x goes along two ways: `branch` is what the last layer computed, and `stream` the sum of all before.
A norm adds the one to the other, normalizes the sum, and returns both.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import evenkeel_norm as ek


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = ek.nn.RMSNorm(width, eps=1e-6)
        self.norm2 = ek.nn.RMSNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def attention(self, h: Tensor) -> Tensor:
        q, k, v = self.qkv(h).unflatten(-1, (3, self.heads, -1)).transpose(1, 3).unbind(2)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(attended.transpose(1, 2).flatten(2))

    def forward(self, branch: Tensor, stream: Tensor) -> tuple[Tensor, Tensor]:
        h, stream = self.norm1(branch, residual=stream)
        h, stream = self.norm2(self.attention(h), residual=stream)
        return self.down(F.silu(self.up(h))), stream


class Network(nn.Module):
    def __init__(self, tokens: int, width: int = 64, blocks: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.blocks = nn.ModuleList(Block(width, heads=4) for _ in range(blocks))
        self.norm = ek.nn.RMSNorm(width, eps=1e-6)
        self.head = nn.Linear(width, tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        stream = self.embedding(tokens)
        branch = torch.zeros_like(stream)
        for block in self.blocks:
            branch, stream = block(branch, stream)
        h, _ = self.norm(branch, residual=stream)
        return self.head(h)


def main(steps: int = 60) -> tuple[float, float]:
    """Learns to count upward modulo 16."""
    torch.manual_seed(0)
    network = Network(tokens=16)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(steps):
        sequence = (torch.randint(16, (16, 1)) + torch.arange(17)) % 16
        optimizer.zero_grad()
        loss = F.cross_entropy(network(sequence[:, :-1]).flatten(0, 1), sequence[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}")
    return losses[0], losses[-1]


if __name__ == "__main__":
    main()
