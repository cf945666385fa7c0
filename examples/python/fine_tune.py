"""Fine-tunes a network for two classes while its BatchNorm statistics stay as they are.

The few images that one fine-tunes with give worse statistics than those that the network was
trained with, and train() would overwrite them.
"""

import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import evenkeel_norm as ek


def make_network() -> nn.Module:
    # Your own weights here; random ones need no download.
    network = torchvision.models.resnet18()
    print(ek.replace_normalization(network))
    network.fc = nn.Linear(network.fc.in_features, 2)
    return network


def freeze_statistics(network: nn.Module) -> list[nn.Module]:
    """weight and bias go on learning; train() and eval() do not change this."""
    layers = [m for m in network.modules() if isinstance(m, ek.nn.BatchNorm2d)]
    for layer in layers:
        layer.freeze()
    return layers


def main(steps: int = 5) -> None:
    torch.manual_seed(0)
    network = make_network()
    layers = freeze_statistics(network)
    before = [layer.running_mean.clone() for layer in layers]
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    x, labels = torch.randn(8, 3, 64, 64), torch.arange(8) % 2
    for step in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(x), labels)
        loss.backward()
        optimizer.step()
        print(f"step {step}: loss {loss.item():.3f}")
    same = all(torch.equal(b, m.running_mean) for b, m in zip(before, layers, strict=True))
    print("statistics as before:", same)


if __name__ == "__main__":
    main()
