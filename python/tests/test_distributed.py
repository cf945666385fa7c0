"""DistributedDataParallel over Gloo, two processes."""

from __future__ import annotations

import os
import socket
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

import evenkeel_norm as ek


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.GroupNorm(2, 8),
        nn.Flatten(),
        nn.LayerNorm(288),
        nn.Linear(288, 4),
    )


def train(rank: int, port: int, use_ours: bool, results: Any) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    torch.set_num_threads(1)
    model = network()
    if use_ours:
        ek.replace_normalization(model)
    parallel = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(rank)
    for _ in range(3):
        optimizer.zero_grad()
        x = torch.randn(4, 3, 8, 8, generator=generator)
        parallel(x).square().mean().backward()
        optimizer.step()
    results[rank] = {n: t.numpy() for n, t in model.state_dict().items()}
    dist.destroy_process_group()


def run(use_ours: bool) -> list[dict[str, torch.Tensor]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(train, (port, use_ours, results), nprocs=2)
        return [{n: torch.from_numpy(t) for n, t in results[rank].items()} for rank in range(2)]


def test_two_processes_train_as_with_torch() -> None:
    ours, theirs = run(True), run(False)
    for rank in range(2):
        assert list(ours[rank]) == list(theirs[rank])
        for name, value in theirs[rank].items():
            torch.testing.assert_close(ours[rank][name], value, rtol=1e-4, atol=1e-5, msg=name)
    parameters = [n for n, _ in network().named_parameters()]
    assert all(torch.equal(ours[0][n], ours[1][n]) for n in parameters)
