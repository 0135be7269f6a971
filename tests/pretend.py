"""A CPU that passes for a GPU, so that what a GPU would refuse is refused on every machine: tensors of two devices in one operation.

    with Pretend():
        x = torch.ones(2, device="cuda")
        x + torch.ones(2)               # RuntimeError

Everything is computed on the CPU; each tensor is told by a label where it would be. Of what a GPU does, only this is tried: where
tensors are. Its kernels and their rounding are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

CPU, GPU = torch.device("cpu"), torch.device("cuda")
ANYWHERE = {"copy_", "_has_compatible_shallow_copy_type"}  # operations on tensors of two devices
FACTORIES = {"zeros", "ones", "empty", "full", "rand", "randn", "randint", "randperm", "arange", "linspace", "eye", "tensor", "as_tensor", "tril_indices"}


class Pretend(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.where: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.seen = 0  # operations on the pretended GPU

    def of(self, tensor: Tensor) -> torch.device:
        return self.where.get(tensor, CPU)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), function.__name__
        if name == "__get__":
            return self._got(function, args)
        if name == "__set__":
            function(*args, **kwargs)
            return self._label(args[0], self.of(args[1])) if isinstance(args[1], Tensor) else None
        if name in ("to", "cpu", "cuda"):
            return self._moved(name, *args, **kwargs)
        tensors = list(_tensors((args, kwargs)))
        if name in FACTORIES and not isinstance(args[0] if args else None, Tensor):
            where = torch.device(kwargs.pop("device", None) or CPU)
        elif "device" in kwargs:
            where = torch.device(kwargs.pop("device") or (self.of(tensors[0]) if tensors else CPU))
        else:
            where = self._common(name, tensors, args)
        generator = kwargs.get("generator")
        if generator is not None and where != CPU:
            raise RuntimeError(f"{name}: a generator of the CPU for a tensor on {where}")
        if name == "numpy" and where != CPU:
            raise TypeError("numpy: a tensor on a GPU, expected one on the CPU")
        self.seen += where != CPU
        return self._label(function(*args, **kwargs), where)

    def _common(self, name: str, tensors: list[Tensor], args: tuple) -> torch.device:
        """Where these stand together; a single number of the CPU, or places in another tensor, may stand on the CPU."""
        if not tensors:
            return CPU
        first = self.of(tensors[0])
        if name in ("__getitem__", "__setitem__"):
            wrong = first == CPU and any(self.of(t) != CPU for t in tensors[1:])
            wrong |= name == "__setitem__" and isinstance(args[2], Tensor) and args[2].dim() > 0 and self.of(args[2]) != first
        elif name in ANYWHERE:
            wrong = False
        else:
            found = {self.of(t) for t in tensors if t.dim() > 0 or self.of(t) != CPU}
            wrong, first = len(found) > 1, next(iter(found), CPU)
        if wrong:
            raise RuntimeError(f"{name}: tensors on {', '.join(str(self.of(t)) for t in tensors)}")
        return first

    def _got(self, function, args) -> Any:
        tensor, what = args[0], getattr(function.__self__, "__name__", "")
        if what == "device":
            return self.of(tensor)
        if what == "is_cuda":
            return self.of(tensor) != CPU
        return self._label(function(*args), self.of(tensor))

    def _moved(self, name: str, tensor: Tensor, *how, **more) -> Tensor:
        where, kept = {"cpu": CPU, "cuda": GPU, "to": None}[name], []
        for h in (*how, more.pop("device", None)):
            if isinstance(h, str | torch.device):
                where = torch.device(h)
            elif isinstance(h, Tensor):
                where, more["dtype"] = self.of(h), h.dtype
            elif isinstance(h, torch.dtype):
                kept.append(h)
        where = torch.device((where or self.of(tensor)).type)
        out = tensor.to(*kept, **more) if kept or more.get("dtype") else tensor
        return self._label(out.clone() if out is tensor and where != self.of(tensor) else out, where)

    def _label(self, found: Any, where: torch.device) -> Any:
        for tensor in _tensors(found):
            if where == CPU:
                self.where.pop(tensor, None)
            else:
                self.where[tensor] = where
        return found


def _tensors(found: Any) -> Iterator[Tensor]:
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, dict):
        for v in found.values():
            yield from _tensors(v)
    elif isinstance(found, list | tuple):
        for v in found:
            yield from _tensors(v)
