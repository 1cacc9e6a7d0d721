"""Modules of PyTorch in ONNX Runtime: the same tensors back, and the module itself where anything is unusual."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from penstock.serving.program.stand_ins.binding import stand_in
from penstock.serving.program.stand_ins.model import switch_of
from penstock.serving.program.stand_ins.proof import proven_for
from penstock.store import codecs
from penstock.store.blobs import Blobs
from stand_in_models import Made, made, normal_rows, watched

ROWS = normal_rows(200, 6).astype(np.float32)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def _module() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3)).eval()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A module, kept and read back as in a release, with its equivalent."""
    blobs = Blobs(tmp_path_factory.mktemp("networks") / "blobs")
    model: Any = codecs.load(codecs.save(_module(), blobs), blobs)
    return made(model, ROWS.astype(np.float64), blobs)


@pytest.mark.parametrize("count", [1, 2, 1000])
def test_a_module_gives_the_same_tensor(count: int, found: Made) -> None:
    """Within the digits of 32 bits; type, dtype and shape as before."""
    rows = torch.from_numpy(np.tile(ROWS, (5, 1))[:count])
    expected, answered = found.model(rows), found.stand_in(rows)
    assert (found.proven.kind, found.proven.forms, found.proven.relative) == ("onnx-module", ("tensor",), 1e-5)
    assert (type(answered), answered.dtype, answered.shape) == (torch.Tensor, expected.dtype, expected.shape)
    torch.testing.assert_close(answered, expected.detach(), rtol=1e-5, atol=1e-6)


def test_what_is_unusual_goes_to_the_module(found: Made) -> None:
    """One dimension, three, doubles, gradients wanted: the module answers, or refuses in its own words."""
    one = torch.from_numpy(ROWS[0])
    assert torch.equal(found.stand_in(one), found.model(one))
    three = torch.from_numpy(ROWS[:4]).reshape(2, 2, 6)
    assert torch.equal(found.stand_in(three), found.model(three))
    learning = torch.from_numpy(ROWS[:2]).requires_grad_()
    found.stand_in(learning).sum().backward()
    assert learning.grad is not None
    with pytest.raises(RuntimeError, match="dtype"):
        found.stand_in(torch.from_numpy(ROWS[:2].astype(np.float64)))


def test_a_module_is_bound_in_place_and_told_to_learn_answers_itself(tmp_path: Path) -> None:
    """`eval` keeps the equivalent; `train` ends it."""
    blobs = Blobs(tmp_path / "blobs")
    model = _module()
    bound = stand_in(model, proven_for(watched(model, ROWS.astype(np.float64), blobs), blobs), blobs)
    assert isinstance(bound, torch.nn.Sequential)
    assert bound.eval() is bound or bound is model
    bound.train()
    assert model.training
    assert bound is model or switch_of(bound).most == 0


def test_a_module_in_training_is_left_alone(tmp_path: Path) -> None:
    """Its dropout is dice; the release says what to do."""
    blobs = Blobs(tmp_path / "blobs")
    proven = proven_for(watched(_module().train(), ROWS.astype(np.float64), blobs), blobs)
    assert proven.kind == "original"
    assert "call eval()" in proven.refused["onnx-module"]
