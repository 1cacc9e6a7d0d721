"""PyTorch modules and tensors (safetensors), and ONNX models (their own bytes).

Belongs here: networks. A module is kept as its class, what its constructor was given, and its state.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.core.errors import UnsupportedError
from penstock.core.records import Artifact
from penstock.store.blobs import Blobs
from penstock.store.codecs.codec import (
    File,
    Listing,
    class_reference,
    libraries,
    library,
    load_listing,
    resolve_class,
    save_listing,
    type_name,
    unsupported,
)
from penstock.store.codecs.plain import Encoder, decode

_CONFIG = "keep every constructor argument under its own name, or all in a dict called `config`; or give it save/load"
_CONTAINERS = {"Sequential", "ModuleList"}


@dataclass(frozen=True, slots=True)
class TorchCodec:
    """Keeps PyTorch modules and tensors."""

    name: str = "torch"
    is_listing: bool = True

    def matches(self, value: object) -> bool:
        """Whether `value` is a module or a tensor of PyTorch."""
        return "torch" in libraries(type(value)) and (hasattr(value, "state_dict") or hasattr(value, "untyped_storage"))

    def save(self, value: Any, blobs: Blobs) -> Artifact:
        """Write the state as safetensors, and how to build the module again."""
        import torch  # noqa: PLC0415 -- optional dependency, needed only for values that came from it

        if isinstance(value, torch.Tensor):
            return self._save_tensors(value, {"": value}, {"tensor": value.requires_grad}, blobs)
        if not isinstance(value, torch.nn.Module):
            raise unsupported(value, "it is neither a module nor a tensor", hint="return its state_dict()")
        design = _design(value)
        state = value.state_dict()
        strange = [name for name, item in state.items() if not isinstance(item, torch.Tensor)]
        if strange:
            raise unsupported(value, f"its state {strange[0]!r} is no tensor", hint="keep it as a buffer")
        with torch.device("meta"):
            again = _built(design)
        if {k: v.shape for k, v in again.state_dict().items()} != {k: v.shape for k, v in state.items()}:
            raise unsupported(value, "its constructor arguments build a module of other shapes", hint=_CONFIG)
        frozen = sorted(name for name, item in value.named_parameters() if not item.requires_grad)
        plan = {"design": design, "training": value.training, "frozen": frozen}
        return self._save_tensors(value, state, plan, blobs)

    def _save_tensors(self, value: Any, tensors: Mapping[str, Any], plan: object, blobs: Blobs) -> Artifact:
        from safetensors.torch import save  # noqa: PLC0415 -- optional dependency

        # Copies, because safetensors refuses tensors that share memory.
        data = save({name: item.detach().cpu().contiguous().clone() for name, item in tensors.items()})
        file = File(name="state.safetensors", digest=blobs.put(data), size_bytes=len(data))
        meta = {"parameters": sum(int(item.numel()) for item in tensors.values())}
        return save_listing(self.name, value, Listing(value=plan, files=(file,)), blobs, meta=meta)

    def load(self, artifact: Artifact, blobs: Blobs, form: str) -> object:
        """Build the module and give it its state; the random generator is left as it was."""
        del form
        import torch  # noqa: PLC0415 -- optional dependency
        from safetensors.torch import load  # noqa: PLC0415 -- optional dependency

        listing = load_listing(artifact, blobs)
        tensors = load(blobs.read(listing.files[0].digest))
        plan = listing.value
        if "tensor" in plan:
            return tensors[""].requires_grad_(plan["tensor"])
        with torch.random.fork_rng(devices=[]):
            module = _built(plan["design"])
        module.load_state_dict(tensors, assign=True)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name not in plan["frozen"])
        return module.train(plan["training"])


def _design(module: Any) -> dict[str, Any]:
    """Return the class and the constructor arguments of `module`, as plain JSON."""
    reference = class_reference(type(module))
    if library(type(module)) == "torch" and type(module).__name__ in _CONTAINERS:
        return {"class": reference, "children": [[name, _design(child)] for name, child in module.named_children()]}
    return {"class": reference, "arguments": Encoder(_refuse_part).encode(_arguments(module))}


def _refuse_part(part: object) -> Artifact:
    raise unsupported(part, "a constructor argument must be plain", hint=_CONFIG)


def _arguments(module: Any) -> dict[str, object]:
    config = getattr(module, "config", None)
    if isinstance(config, dict):
        return dict(config)
    found: dict[str, object] = {}
    for name, parameter in list(inspect.signature(type(module)).parameters.items()):
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD} or name in {"device", "dtype"}:
            continue
        if isinstance(parameter.default, bool) and name in getattr(module, "_parameters", {}):
            found[name] = getattr(module, name) is not None  # as in Linear(bias=True)
        elif hasattr(module, name) and not _is_torch(getattr(module, name)):
            found[name] = getattr(module, name)
        elif parameter.default is parameter.empty:
            raise unsupported(module, f"its constructor argument {name!r} is not kept on it", hint=_CONFIG)
    return found


def _is_torch(value: object) -> bool:
    return "torch" in libraries(type(value))


def _built(design: dict[str, Any]) -> Any:
    kind: Any = resolve_class(design["class"])
    if "torch" not in libraries(kind):
        raise UnsupportedError(f"{design['class']!r} is no PyTorch module any more.", hint="run the pipeline again")
    if "children" not in design:
        return kind(**decode(design["arguments"], _no_part))
    module = kind()
    for name, child in design["children"]:
        module.add_module(name, _built(child))
    return module


def _no_part(number: int) -> object:
    raise UnsupportedError(f"The module refers to part {number}, but modules have none.", hint="run the pipeline again")


@dataclass(frozen=True, slots=True)
class OnnxCodec:
    """Keeps ONNX models as their own bytes."""

    name: str = "onnx"
    is_listing: bool = False

    def matches(self, value: object) -> bool:
        """Whether `value` is an ONNX ModelProto."""
        return type(value).__name__ == "ModelProto" and "onnx" in type(value).__module__

    def save(self, value: Any, blobs: Blobs) -> Artifact:
        """Write the protocol buffer, map entries in order."""
        data = value.SerializeToString(deterministic=True)
        meta = {"graph": value.graph.name, "opset": [item.version for item in value.opset_import]}
        return Artifact(
            digest=blobs.put(data), codec=self.name, type=type_name(type(value)), size_bytes=len(data), meta=meta
        )

    def load(self, artifact: Artifact, blobs: Blobs, form: str) -> object:
        """Read the protocol buffer back."""
        del form
        import onnx  # noqa: PLC0415 -- optional dependency, needed only for values that came from it

        return onnx.load_model_from_string(blobs.read(artifact.digest))
