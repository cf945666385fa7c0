"""Trains a small convolutional network on scikit-learn's digits and prints its accuracy."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

import evenkeel_norm as ek


def load() -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    return x.contiguous(memory_format=torch.channels_last), torch.tensor(labels)


def make_network() -> nn.Sequential:
    """Each normalization computes the ReLU behind it in the same pass."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False),
        ek.nn.BatchNorm2d(32, activation="relu"),
        nn.Conv2d(32, 64, 3, padding=1, bias=False),
        ek.nn.BatchNorm2d(64, activation="relu"),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 16, 10),
    ).to(memory_format=torch.channels_last)


def main(steps: int = 150) -> float:
    torch.manual_seed(0)
    x, labels = load()
    held_out = 300
    network = make_network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(steps):
        batch = torch.randint(len(x) - held_out, (64,))
        optimizer.zero_grad()
        F.cross_entropy(network(x[batch]), labels[batch]).backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        correct = network(x[-held_out:]).argmax(1) == labels[-held_out:]
    accuracy = correct.float().mean().item()
    print(f"accuracy on {held_out} held-out digits: {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    main()
