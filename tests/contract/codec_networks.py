"""Networks that must come back as they were."""

from typing import Any

import onnx
import torch


class Network(torch.nn.Module):
    def __init__(self, width: int, *, depth: int = 1) -> None:
        super().__init__()
        self.width = width
        self.depth = depth
        self.layers = torch.nn.Sequential(*[torch.nn.Linear(width, width) for _ in range(depth)])
        self.norm = torch.nn.BatchNorm1d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.layers(x))  # type: ignore[no-any-return]  # torch gives no types here


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return Network(3, depth=2).eval()


def sequential() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 2, bias=False), torch.nn.ReLU()).eval()


def tensor() -> torch.Tensor:
    return torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)


def onnx_model() -> Any:
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "relu", [value("x", 1, [3])], [value("y", 1, [3])])
    return onnx.helper.make_model(graph)
