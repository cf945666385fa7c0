"""The node tests of ONNX, each through the functions here."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.reference
import pytest
import torch
from torch import Tensor

import evenkeel_norm.functional as ours

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from onnx.backend.test.case.node import collect_testcases

    CASES = collect_testcases(None)


def batch_normalization(
    version: int, x: Tensor, scale: Tensor, b: Tensor, mean: Tensor, var: Tensor, **attributes: Any
) -> list[Tensor]:
    momentum = attributes.get("momentum", 0.9)
    eps = attributes.get("epsilon", 1e-5)
    if not attributes.get("training_mode", 0):
        return [ours.batch_norm(x, mean, var, scale, b, eps=eps)]
    moved = mean.clone(), var.clone()
    y = ours.batch_norm(x, *moved, scale, b, training=True, momentum=1 - momentum, eps=eps)
    # ONNX moves the running variance by the biased one of the batch, PyTorch by the unbiased one.
    count = x.numel() / x.shape[1]
    biased = momentum * var + (moved[1] - momentum * var) * (count - 1) / count
    return [y, moved[0], biased]


def rows(x: Tensor, axis: int) -> tuple[int, ...]:
    return tuple(x.shape[axis:])


def layer_normalization(
    version: int, x: Tensor, scale: Tensor, b: Tensor | None = None, **attributes: Any
) -> list[Tensor]:
    shape = rows(x, attributes.get("axis", -1))
    axes = len(shape)
    operator = torch.ops.evenkeel_norm.layer_norm.default
    y, mean, rstd = operator(x, axes, scale, b, attributes.get("epsilon", 1e-5))
    reduced = (*x.shape[: x.dim() - axes], *[1] * axes)
    return [y, mean.reshape(reduced), rstd.reshape(reduced)]


def rms_normalization(version: int, x: Tensor, scale: Tensor, **attributes: Any) -> list[Tensor]:
    shape = rows(x, attributes.get("axis", -1))
    return [ours.rms_norm(x, shape, scale, attributes.get("epsilon", 1e-5))]


def group_normalization(
    version: int, x: Tensor, scale: Tensor, b: Tensor, **attributes: Any
) -> list[Tensor]:
    groups = attributes["num_groups"]
    if version < 21:  # the parameters are of each group
        scale, b = (p.repeat_interleave(x.shape[1] // groups) for p in (scale, b))
    return [ours.group_norm(x, groups, scale, b, attributes.get("epsilon", 1e-5))]


def instance_normalization(
    version: int, x: Tensor, scale: Tensor, b: Tensor, **attributes: Any
) -> list[Tensor]:
    return [ours.instance_norm(x, weight=scale, bias=b, eps=attributes.get("epsilon", 1e-5))]


def lrn(version: int, x: Tensor, **attributes: Any) -> list[Tensor]:
    alpha, beta = attributes.get("alpha", 1e-4), attributes.get("beta", 0.75)
    k, size = attributes.get("bias", 1.0), attributes["size"]
    return [ours.local_response_norm(x, size, alpha, beta, k, convention="onnx")]


def mean_variance_normalization(version: int, x: Tensor, **attributes: Any) -> list[Tensor]:
    assert attributes.get("axes", [0, 2, 3]) == [0, 2, 3]
    # ONNX adds 1e-9 to the standard deviation instead.
    return [ours.batch_norm(x, None, None, training=True, eps=1e-12)]


RUNNERS: dict[str, Callable[..., list[Tensor]]] = {
    "BatchNormalization": batch_normalization,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
    "LRN": lrn,
    "LayerNormalization": layer_normalization,
    "MeanVarianceNormalization": mean_variance_normalization,
    "RMSNormalization": rms_normalization,
}


def is_ours(case: Any) -> bool:
    nodes = case.model.graph.node
    return len(nodes) == 1 and nodes[0].op_type in RUNNERS


NODES = [case for case in CASES if is_ours(case)]


def run(model: Any, inputs: list[np.ndarray], expected: list[np.ndarray]) -> None:
    node = model.graph.node[0]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    version = next(o.version for o in model.opset_import if o.domain == "")
    results = RUNNERS[node.op_type](
        version, *(torch.from_numpy(np.array(i)) for i in inputs), **attributes
    )
    assert len(results) >= len(expected)
    for actual, value in zip(results, expected, strict=False):
        reference = torch.from_numpy(np.array(value))
        # Both are of float: some 16 roundings each of values that are at most ten times the result.
        eps = 32 * torch.finfo(torch.float32).eps
        torch.testing.assert_close(
            actual.to(reference.dtype), reference, rtol=10 * eps, atol=10 * eps
        )


def test_every_operator_has_node_tests() -> None:
    assert {case.model.graph.node[0].op_type for case in NODES} == set(RUNNERS)
    assert len(NODES) >= 49


@pytest.mark.parametrize("case", NODES, ids=lambda case: case.name)
def test_node(case: Any) -> None:
    for inputs, outputs in case.data_sets:
        run(case.model, inputs, outputs)


# What ONNX's own tests leave out.
MORE: list[tuple[str, int, dict[str, Any], list[tuple[int, ...]]]] = [
    ("GroupNormalization", 18, {"num_groups": 2}, [(3, 4, 2, 2), (2,), (2,)]),
    ("GroupNormalization", 18, {"num_groups": 3, "epsilon": 0.1}, [(2, 6, 5), (3,), (3,)]),
    ("GroupNormalization", 21, {"num_groups": 3}, [(2, 6, 5, 7), (6,), (6,)]),
    # As many samples as channels: the evaluator computes only so many channels.
    ("LRN", 13, {"size": 4, "alpha": 0.5}, [(7, 7, 3, 5)]),
    ("LRN", 13, {"size": 5, "alpha": 0.5}, [(3, 3, 3, 5)]),
    ("InstanceNormalization", 22, {}, [(2, 3, 7), (3,), (3,)]),
]


@pytest.mark.parametrize(("name", "version", "attributes", "shapes"), MORE)
def test_beside_the_reference_evaluator(
    name: str, version: int, attributes: dict[str, Any], shapes: list[tuple[int, ...]]
) -> None:
    random = np.random.default_rng(0)
    names = [f"input{i}" for i in range(len(shapes))]
    kind = onnx.TensorProto.FLOAT
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node(name, names, ["y"], **attributes)],
            "one_node",
            [
                onnx.helper.make_tensor_value_info(n, kind, s)
                for n, s in zip(names, shapes, strict=True)
            ],
            [onnx.helper.make_tensor_value_info("y", kind, shapes[0])],
        ),
        opset_imports=[onnx.helper.make_opsetid("", version)],
    )
    inputs = [random.standard_normal(shape).astype(np.float32) for shape in shapes]
    evaluator = onnx.reference.ReferenceEvaluator(model)
    run(model, inputs, evaluator.run(None, dict(zip(names, inputs, strict=True))))
