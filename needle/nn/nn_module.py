"""Parameter and Module: tensors that are learnt, and the tree of things that hold them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..autograd import Tensor
from ..backend_selection import device_of
from ..ops.ops_devices import checked_device, to_device

__all__ = ["Module", "Parameter"]


class Parameter(Tensor):
    """A tensor that is learnt: `Module.parameters()` finds it, plain tensors it does not."""


class Module:
    """Base of all layers: attributes hold parameters, buffers and other modules; `forward` says what it computes.

    Modules and parameters are found in attributes and in dicts, lists and tuples there, in the order in which they
    were assigned. A name is the path to a thing: `blocks.0.weight`. A tensor that is found twice counts once.
    """

    training = True  # also where a subclass forgets super().__init__()
    buffer_names: tuple[str, ...] = ()  # attributes that hold state that is saved but not learnt, as plain tensors
    unnamed = ""  # the attribute that a container leaves out of its members' names

    def __init__(self) -> None:
        self.training = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward(...)")

    # --- what it holds ---

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """("", self), then every module below it with its name."""
        return ((name, x) for name, x in _walk("", self, set()) if isinstance(x, Module))

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules that it holds itself, with their names."""
        return ((name, x) for name, x in _members(self) if isinstance(x, Module))

    def children(self) -> list[Module]:
        return [module for _, module in self.named_children()]

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        return ((name, x) for name, x in _walk("", self, set()) if isinstance(x, Parameter))

    def parameters(self) -> list[Tensor]:
        return [parameter for _, parameter in self.named_parameters()]

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """The tensors that `buffer_names` of each module name; None where there is none is left out."""
        for path, module in self.named_modules():
            for name in module.buffer_names:
                if getattr(module, name) is not None:
                    yield _join(path, name), getattr(module, name)

    # --- what changes all of it ---

    def train(self, mode: bool = True) -> Module:
        """Behave as in training, here and in all modules below; see `eval`."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Behave as in use: no dropout, running statistics."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Whether `backward` leaves a gradient in its parameters: False freezes them."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def to(self, device: Any) -> Module:
        """Move its parameters, with their gradients, and its buffers to `device`; the tensors stay the same objects.

        An optimizer's own state does not move: make the optimizer afterwards. TypeError for what is no device.
        """
        checked_device(device, f"{type(self).__name__}.to")
        tensors = [x for _, x in [*self.named_parameters(), *self.named_buffers()]]
        there = [to_device(x.detach(), device) for x in tensors]  # first all, so that none moves if one cannot
        grads = [None if x.grad is None else to_device(x.grad.detach(), device) for x in tensors]
        for x, data, grad in zip(tensors, there, grads, strict=True):
            if data.cached_data is not x.cached_data:
                x.data, x.grad = data, grad
        return self

    def apply(self, function: Callable[[Module], Any]) -> Module:
        """Call `function` on every module below, then on this one."""
        for _, module in reversed(list(self.named_modules())):
            function(module)
        return self

    # --- saving and loading ---

    def _state(self) -> dict[str, Tensor]:
        """Parameters and buffers themselves, by name."""
        state: dict[str, Tensor] = {}
        for name, tensor in [*self.named_parameters(), *self.named_buffers()]:
            if name in state:
                raise ValueError(f"{type(self).__name__}: two tensors have the name {name!r}; rename one attribute")
            state[name] = tensor
        return state

    def state_dict(self) -> dict[str, Tensor]:
        """A copy of every parameter and buffer, by name."""
        return {name: _copy(tensor.cached_data, tensor) for name, tensor in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> tuple[list[str], list[str]]:
        """Take over the values of `state` (tensors or arrays by name), copied. Gives (missing, unexpected) names.

        Raises ValueError, and loads nothing, where a shape or dtype differs; with strict also where names do.
        """
        own, given = self._state(), {}
        missing = [name for name in own if name not in state]
        unexpected = [name for name in state if name not in own]
        problems = [f"missing: {name}, {_form(own[name])}" for name in missing] if strict else []
        problems += [f"unexpected: {name}" for name in unexpected] if strict else []
        for name in own.keys() & state.keys():
            given[name] = _copy(state[name], own[name])
        wrong = [name for name in own if name in given and _form(given[name]) != _form(own[name])]
        problems += [f"wrong: {name} is {_form(given[name])}, wanted {_form(own[name])}" for name in wrong]
        if problems:
            lines = "".join(f"\n  {problem}" for problem in problems)
            raise ValueError(f"load_state_dict: these do not fit {type(self).__name__}, so nothing was loaded:{lines}")
        for name, value in given.items():
            own[name].data = value
        return missing, unexpected

    # --- how it looks ---

    def extra_repr(self) -> str:
        """The constructor's arguments, as far as they are attributes with a short value of their own."""
        wanted = inspect.signature(type(self).__init__).parameters.values()
        shown = [(p, getattr(self, p.name)) for p in wanted if p.name in vars(self)]
        return ", ".join(f"{p.name}={value!r}" for p, value in shown if _is_plain(value) and value != p.default)

    def __repr__(self) -> str:
        children = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        inside = "".join(f"\n  {child}" for child in children)
        settings = self.extra_repr()
        return f"{type(self).__name__}({settings}{inside}" + ("\n)" if children else ")")


def _join(path: str, name: Any) -> str:
    return f"{path}.{name}" if path and name != "" else path or str(name)


def _open(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """`value`, or what is in it if it is a dict, list or tuple."""
    if not isinstance(value, (dict, list, tuple)):
        yield name, value
        return
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _open(_join(name, key), item)


def _members(module: Module) -> Iterator[tuple[str, Any]]:
    for name, value in list(vars(module).items()):
        yield from _open("" if name == module.unnamed else name, value)


def _walk(name: str, value: Any, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """`value` and all modules and tensors below it, depth first, each once."""
    if isinstance(value, (Module, Tensor)) and id(value) not in seen:
        seen.add(id(value))
        yield name, value
        for key, member in _members(value) if isinstance(value, Module) else ():
            yield from _walk(_join(name, key), member, seen)


def _copy(value: Any, like: Tensor) -> Tensor:
    """A new constant with the numbers of `value` on the device of `like`."""
    values = value.numpy() if isinstance(value, Tensor) else device_of(value).to_numpy(value)
    return Tensor.make_const(like.device.array(values, values.dtype))


def _form(tensor: Tensor) -> str:
    return f"{tensor.shape} {tensor.dtype}"


def _is_plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return len(value) < 10 and all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))
