"""Whole models: outputs, gradients and training before and after replace_normalization."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

import evenkeel_norm as ek


class UNetBlock(nn.Module):
    """A residual block as diffusion networks have it, with the time's embedding and attention."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.time = nn.Linear(16, channels)
        self.norm3 = nn.GroupNorm(8, channels)
        self.attention = nn.MultiheadAttention(channels, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        time = self.time(F.silu(torch.ones(x.shape[0], 16, dtype=x.dtype)))
        h = self.conv1(F.silu(self.norm1(x))) + time[:, :, None, None]
        x = x + self.conv2(F.silu(self.norm2(h)))
        tokens = self.norm3(x).flatten(2).transpose(1, 2)
        attended, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return x + attended.transpose(1, 2).reshape(x.shape)


class LlamaBlock(nn.Module):
    """A block as language models have it: RMSNorm, attention, RMSNorm, gated layers."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.query, self.key, self.value, self.out = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )
        self.gate, self.up = (nn.Linear(width, 2 * width, bias=False) for _ in range(2))
        self.down = nn.Linear(2 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        q, k, v = (
            layer(h).unflatten(-1, (4, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(h.transpose(1, 2).flatten(2))
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


IMAGE = (4, 3, 64, 64)
# How to make the model, the input's shape, how many layers are replaced.
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=10), IMAGE, 20),
    "mobilenet_v3_small": (
        lambda: torchvision.models.mobilenet_v3_small(num_classes=10, dropout=0.0),
        IMAGE,
        34,
    ),
    "densenet121": (lambda: torchvision.models.densenet121(num_classes=10), IMAGE, 121),
    "convnext_tiny": (
        lambda: torchvision.models.convnext_tiny(num_classes=10),
        IMAGE,
        23,
    ),
    "swin_t": (
        lambda: torchvision.models.swin_t(num_classes=10),
        IMAGE,
        29,
    ),
    "googlenet": (
        lambda: torchvision.models.googlenet(
            num_classes=10, aux_logits=False, init_weights=False, dropout=0.0
        ),
        IMAGE,
        57,
    ),
    "efficientnet_b0": (lambda: timm.create_model("efficientnet_b0", num_classes=10), IMAGE, 49),
    "vit_tiny": (
        lambda: timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=10),
        IMAGE,
        25,
    ),
    "unet_block": (UNetBlock, (2, 32, 16, 16), 3),
    "llama_block": (LlamaBlock, (2, 24, 64), 2),
}
TORCH = tuple(int(n) for n in torch.__version__.split(".")[:2])
every_model = pytest.mark.parametrize("name", MODELS)


def pair(name: str, layout: torch.memory_format) -> tuple[nn.Module, nn.Module, Tensor]:
    make, shape, count = MODELS[name]
    theirs = make().to(memory_format=layout)
    for module in theirs.modules():  # which would draw random numbers
        if isinstance(module, torchvision.ops.StochasticDepth):
            module.p = 0.0
    ours = copy.deepcopy(theirs)
    summary = ek.replace_normalization(ours)
    assert len(summary) == count
    assert not summary.left
    x = torch.randn(shape)
    return ours, theirs, x.contiguous(memory_format=layout) if x.dim() == 4 else x


def gradients(model: nn.Module, call: Any, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    y = call(x)
    torch.manual_seed(1)
    (y * torch.randn(y.shape)).sum().backward()
    return y.detach(), {n: p.grad.detach().clone() for n, p in model.named_parameters()}


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Of all gradients together, relative to their size."""
    error = sum(float((a[n].double() - b[n].double()).square().sum()) for n in b)
    return (error / sum(float(g.double().square().sum()) for g in b.values())) ** 0.5


@every_model
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_outputs_and_gradients(name: str, layout: torch.memory_format) -> None:
    if name == "llama_block" and layout == torch.channels_last:
        layout = torch.preserve_format
    if (name, layout) == ("unet_block", torch.channels_last) and TORCH < (2, 15):
        pytest.skip("the GroupNorm of PyTorch 2.10 crashes in channels_last")
    ours, theirs, x = pair(name, layout)
    exact = copy.deepcopy(theirs).double()
    y_exact, of_exact = gradients(exact, exact, x.double())
    # In double a hundred layers leave far less than this, and any wrong term far more.
    ours_in_double = copy.deepcopy(ours).double()
    y, of_ours = gradients(ours_in_double, ours_in_double, x.double())
    torch.testing.assert_close(y, y_exact, rtol=1e-9, atol=1e-9)
    assert distance(of_ours, of_exact) < 1e-9
    # In float everything else rounds as before, so the error is of the size of PyTorch's own.
    y_theirs, _ = gradients(theirs, theirs, x)
    y, of_ours = gradients(ours, ours, x)
    own = float((y_theirs - y_exact).abs().max())
    assert float((y - y_exact).abs().max()) <= 4 * own + 1e-6
    # A value that rounds to the other side of a ReLU's kink turns a gradient on or off, which
    # moves those before it by up to some hundredths.
    assert distance(of_ours, of_exact) < 0.1
    for (n, a), e in zip(
        ((n, b) for n, b in ours.named_buffers() if not n.endswith("skipped_batches")),
        theirs.buffers(),
        strict=True,
    ):
        torch.testing.assert_close(a, e, rtol=1e-3, atol=1e-4, msg=n)
    ours.eval()
    theirs.eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("unet_block", "inductor"),
        ("llama_block", "inductor"),
        # The other models' generated code takes minutes to compile, and is not what is tested.
        ("resnet18", "aot_eager"),
        ("convnext_tiny", "aot_eager"),
        ("efficientnet_b0", "aot_eager"),
    ],
)
def test_compiled(name: str, backend: str) -> None:
    torch._dynamo.reset()
    ours, _, x = pair(name, torch.contiguous_format)
    compiled = copy.deepcopy(ours)
    call = torch.compile(compiled, fullgraph=True, backend=backend)
    y, of_eager = gradients(ours, ours, x)
    y_compiled, of_compiled = gradients(compiled, call, x)
    torch.testing.assert_close(y_compiled, y, rtol=1e-3, atol=1e-3)
    assert distance(of_compiled, of_eager) < 1e-3
    for (n, a), e in zip(compiled.named_buffers(), ours.buffers(), strict=True):
        torch.testing.assert_close(a, e, rtol=1e-3, atol=1e-4, msg=n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny", "unet_block", "llama_block"])
def test_ten_steps_of_training(name: str, dtype: torch.dtype) -> None:
    ours, theirs, x = pair(name, torch.contiguous_format)
    losses: list[list[float]] = []
    for model in (ours.to(dtype), theirs.to(dtype)):
        torch.manual_seed(2)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        target = torch.randn_like(model(x.to(dtype))).detach()
        losses.append([])
        for _ in range(10):
            optimizer.zero_grad()
            loss = F.mse_loss(model(x.to(dtype)), target)
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    first, last = losses[1][0], losses[1][-1]
    assert last < first
    # Steps multiply errors, and values on the other side of a ReLU's kink add some thousandths of
    # the loss in float. In double both stay far below this.
    bound = 1e-2 if dtype == torch.float32 else 1e-7
    assert losses[0] == pytest.approx(losses[1], rel=0, abs=bound * first)
