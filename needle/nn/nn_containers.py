"""Modules made of modules. Their members' names leave out the attribute that holds them: `0.weight`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..autograd import Tensor
from ..failures import mismatch
from .nn_module import Module

__all__ = ["ModuleDict", "ModuleList", "Residual", "Sequential"]


def as_module(value: Any, container: str, place: Any) -> Module:
    if isinstance(value, Module):
        return value
    advice = "; unpack it: *layers" if isinstance(value, (list, tuple)) else ""
    if isinstance(value, type) and issubclass(value, Module):
        advice = f"; make one: {value.__name__}(...)"
    raise TypeError(f"{container}: {place!r} is a {type(value).__name__}, wanted a Module{advice}")


class Sequential(Module):
    """Each module applied to what the one before it gave. `.modules` is a tuple."""

    unnamed = "modules"

    def __init__(self, *modules: Module):
        super().__init__()
        self.modules = tuple(as_module(module, "Sequential", i) for i, module in enumerate(modules))

    def forward(self, x: Tensor) -> Tensor:
        for module in self.modules:
            x = module(x)
        return x

    def __getitem__(self, index: Any) -> Any:
        return Sequential(*self.modules[index]) if isinstance(index, slice) else self.modules[index]

    def __len__(self) -> int:
        return len(self.modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.modules)


class Residual(Module):
    """fn(x) + x (arXiv:1512.03385). Raises ValueError where fn changes the shape."""

    def __init__(self, fn: Module):
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        y = self.fn(x)
        if y.shape != x.shape:
            raise mismatch("Residual", f"fn made {y.shape} of {x.shape}, wanted the same shape, to add both", (y, x))
        return y + x


class ModuleList(Module):
    """A list of modules. It has no forward: call its members."""

    unnamed = "modules"

    def __init__(self, modules: Iterable[Module] = ()):
        super().__init__()
        self.modules: list[Module] = []
        self.extend(modules)

    def append(self, module: Module) -> ModuleList:
        self.modules.append(as_module(module, "ModuleList", len(self)))
        return self

    def extend(self, modules: Iterable[Module]) -> ModuleList:
        for module in modules:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> None:
        self.modules.insert(index, as_module(module, "ModuleList", index))

    def __getitem__(self, index: Any) -> Any:
        return ModuleList(self.modules[index]) if isinstance(index, slice) else self.modules[index]

    def __setitem__(self, index: int, module: Module) -> None:
        self.modules[index] = as_module(module, "ModuleList", index)

    def __delitem__(self, index: Any) -> None:
        del self.modules[index]

    def __len__(self) -> int:
        return len(self.modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.modules)


class ModuleDict(Module):
    """Modules by name. It has no forward: call its members."""

    unnamed = "modules"

    def __init__(self, modules: Mapping[str, Module] | None = None):
        super().__init__()
        self.modules: dict[str, Module] = {}
        self.update(modules or {})

    def update(self, modules: Mapping[str, Module]) -> None:
        for name, module in modules.items():
            self[name] = module

    def keys(self) -> Iterable[str]:
        return self.modules.keys()

    def values(self) -> Iterable[Module]:
        return self.modules.values()

    def items(self) -> Iterable[tuple[str, Module]]:
        return self.modules.items()

    def __getitem__(self, name: str) -> Module:
        return self.modules[name]

    def __setitem__(self, name: str, module: Module) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise ValueError(f"ModuleDict: a name must be text without a dot, got {name!r}")
        self.modules[name] = as_module(module, "ModuleDict", name)

    def __delitem__(self, name: str) -> None:
        del self.modules[name]

    def __contains__(self, name: object) -> bool:
        return name in self.modules

    def __len__(self) -> int:
        return len(self.modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self.modules)
