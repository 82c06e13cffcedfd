"""What all optimizers share: parameter groups, state, and the update p ← p − lr·direction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from sys import getrefcount
from typing import Any, ClassVar

from ..autograd import Tensor, mark_written
from ..backend_selection import device_of
from ..modes import mode
from .clipping import clip_grad_norm
from .options import Option, with_betas


class Optimizer:
    """Holds the parameters; `step` updates those that have a gradient, `reset_grad` forgets the gradients.

    params: leaf tensors, or dicts {"params": tensors, "lr": 0.1, …}, each a group with options of its own; what a
    group leaves out is as the constructor says. `param_groups` holds them, and may be changed between steps.

    A new optimizer declares its Options, names its state in `slots` and says in `direction` where to go. Both are
    tensors in, tensors out: a compiler that records ops sees them. State lives in tensors that stay the same.
    """

    options: ClassVar[dict[str, Option]] = {}
    slot_names: ClassVar[tuple[str, ...]] = ()  # all that `slots` may give

    def __init__(self, params: Iterable[Any], **options: Any):
        self.state: dict[Tensor, dict[str, Tensor]] = {}
        self.param_groups: list[dict[str, Any]] = []
        self._seen: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}  # groups and their checked options
        self.defaults = self._checked(options)
        if isinstance(params, (Tensor, Mapping)) or not isinstance(params, Iterable):
            met = type(params).__name__
            raise TypeError(f"{self._name}: wanted the parameters in a list or another iterable, got {met}")
        given = list(params)
        for group in given if given and all(isinstance(g, Mapping) for g in given) else [{"params": given}]:
            self.add_param_group(group)
        if not self.params:
            raise ValueError(f"{self._name}: got no parameters; was the generator of parameters used up before?")
        if not any(p.requires_grad for p in self.params):
            raise ValueError(
                f"{self._name}: none of the parameters requires a gradient, so that nothing would be learnt; "
                "make them with requires_grad=True, which is not the default of ndl.zeros and its kin"
            )

    @property
    def _name(self) -> str:
        return type(self).__name__

    @property
    def params(self) -> list[Tensor]:
        """The parameters of all groups."""
        return [p for group in self.param_groups for p in group["params"]]

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add {"params": tensors, option: value, …}. TypeError, ValueError where something in it is wrong."""
        if "params" not in group:
            raise ValueError(f"{self._name}: parameter group {len(self.param_groups)} has no 'params'")
        given = group["params"]
        params = [given] if isinstance(given, Tensor) else list(given)
        own = {name: value for name, value in group.items() if name not in ("params", "name")}
        options = self._checked({**self.defaults, **with_betas(own)})
        self._check_parameters(params)
        label = {"name": group["name"]} if "name" in group else {}
        self.param_groups.append({"params": params, **label, **options})

    def _check_parameters(self, params: list[Any]) -> None:
        places = {p: i for i, p in enumerate(self.params)}
        for i, p in enumerate(params, start=len(places)):
            if not isinstance(p, Tensor) or not p.is_leaf():
                met = "the result of an op" if isinstance(p, Tensor) else f"a {type(p).__name__}"
                raise TypeError(f"{self._name}: parameter {i} is {met}, wanted a leaf Tensor")
            if p.dtype.kind != "f":
                raise TypeError(f"{self._name}: parameter {i} is of dtype {p.dtype}, wanted floating-point numbers")
            if p in places:
                raise ValueError(f"{self._name}: parameter {i} is parameter {places[p]} again; give each one once")
            places[p] = i

    def _checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        unknown = [name for name in options if name not in self.options]
        if unknown:
            known = ", ".join(self.options)
            raise TypeError(f"{self._name}: has no option {', '.join(map(repr, unknown))}; it has {known}")
        cleaned = {name: self.options[name].clean(self._name, value) for name, value in options.items()}
        self.check_together(cleaned)
        return cleaned

    def check_together(self, options: dict[str, Any]) -> None:
        """Hook: ValueError where options that are fine alone do not go together."""

    # --- the update ---

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        self._check_devices()
        before, mode.recording = mode.recording, False
        try:
            for i, group in enumerate(self.param_groups):
                options = self.options_of(i, group)
                if mode.recorder is not None:
                    options = mode.recorder.options(self, i, group, options)
                for p in group["params"]:
                    if p.grad is not None:
                        self.update(p, self._gradient(p), self._state_of(p, options), options)
        finally:
            mode.recording = before

    def _check_devices(self) -> None:
        """ValueError, before anything is changed, where a parameter and what is remembered of it lie on two devices."""
        for p, state in self.state.items():
            device = device_of(p.cached_data)
            for name, slot in state.items():
                place = device_of(slot.cached_data)
                if place is not device and place != device and p.grad is not None:
                    raise ValueError(
                        f"{self._called(p)} and {name}, which is remembered of it, are on different devices, {device} "
                        f"and {place}; move the model before the first step, or make a new optimizer and load "
                        "the state_dict() of this one"
                    )

    def options_of(self, i: int, group: dict[str, Any]) -> dict[str, Any]:
        """The options of group i; checked again when they are not as in the last step."""
        if i not in self._seen or self._seen[i][0] != group:
            self._seen[i] = dict(group), self._checked({name: group[name] for name in self.options})
        return self._seen[i][1]

    def update(self, p: Tensor, g: Tensor, state: dict[str, Tensor], options: dict[str, Any]) -> None:
        descend(p, self.direction(p, g, state, options), options["lr"])
        if not p.shape:  # arithmetic on 0-d arrays gives NumPy's scalars, which nobody can write to
            for slot in state.values():
                slot.cached_data = p.device.share(slot.cached_data)

    def slots(self, options: dict[str, Any]) -> dict[str, float]:
        """What is remembered of each parameter: names and first values. "step" is a counter; all others are
        tensors like the parameter."""
        return {}

    def direction(self, p: Tensor, g: Tensor, state: dict[str, Tensor], options: dict[str, Any]) -> Tensor:
        """Where p goes against, from its gradient g, which must not be written to. Brings `state` up to date."""
        raise NotImplementedError(f"{self._name} has no direction(p, g, state, options)")

    def reset_grad(self) -> None:
        for p in self.params:
            p.grad = None

    zero_grad = reset_grad

    def clip_grad_norm(self, max_norm: float = 0.25) -> float:
        """Scale all gradients so that their common norm is at most `max_norm`; the norm that they had."""
        return clip_grad_norm(self.params, max_norm)

    def _gradient(self, p: Tensor) -> Tensor:
        """The gradient as a constant of p's dtype."""
        assert p.grad is not None
        g, x = p.grad.cached_data, p.cached_data
        if g.shape != x.shape:
            raise ValueError(f"{self._called(p)} has shape {x.shape}, but its gradient has {g.shape}")
        return Tensor.make_const(g if g.dtype == x.dtype else p.device.cast(g, x.dtype))

    def _state_of(self, p: Tensor, options: dict[str, Any]) -> dict[str, Tensor]:
        """What is remembered of p; made where it is missing."""
        state = self.state.get(p)
        if state is None:
            state = self.state[p] = {}
        for name, start in self.slots(options).items():
            slot = state.get(name)
            if slot is None:
                state[name] = new_slot(p, name, start)
            elif name != "step" and slot.cached_data.shape != p.cached_data.shape:
                raise ValueError(
                    f"{self._called(p)} has shape {p.shape}, but {name}, which is remembered of it, "
                    f"{slot.shape}: it was given data of another shape; make a new optimizer"
                )
        return state

    def _called(self, p: Tensor) -> str:
        return f"{self._name}: parameter {next(i for i, q in enumerate(self.params) if q is p)}"

    # --- saving and loading ---

    def state_dict(self) -> dict[str, Any]:
        """{"groups": options and places of the parameters, "state": one dict for each parameter}: numbers, texts and
        copied NumPy arrays in plain lists and dicts."""
        groups: list[dict[str, Any]] = []
        states: list[dict[str, Any]] = []
        for group in self.param_groups:
            options = self._checked({name: group[name] for name in self.options})
            label = {"name": group["name"]} if "name" in group else {}
            places = range(len(states), len(states) + len(group["params"]))
            groups.append({"params": list(places), **label, **options})
            for p in group["params"]:
                state = self._state_of(p, options) if p in self.state else {}
                states.append({name: _plain(name, tensor) for name, tensor in state.items()})
        return {"groups": groups, "state": states}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on where `saved`, a `state_dict`, was taken. ValueError, with nothing loaded, where it does not fit."""
        groups, states = _parts(self._name, saved)
        problems = [*self._misfits_of_groups(groups), *self._misfits_of_state(groups, states)]
        if problems:
            listed = "; ".join(problems)
            raise ValueError(f"{self._name}.load_state_dict: nothing was loaded, since it does not fit: {listed}")
        loaded = [
            {name: loaded_slot(p, name, value) for name, value in state.items()}
            for p, state in zip(self.params, states, strict=True)
        ]
        for group, given in zip(self.param_groups, groups, strict=True):
            own = {name: value for name, value in given.items() if name not in ("params", "name")}
            group.update(self._checked(own))
        self.state = {p: slots for p, slots in zip(self.params, loaded, strict=True) if slots}

    def _misfits_of_groups(self, groups: list[Any]) -> list[str]:
        if len(groups) != len(self.param_groups):
            return [f"{len(groups)} parameter group(s), wanted {len(self.param_groups)}"]
        problems = []
        for i, (group, given) in enumerate(zip(self.param_groups, groups, strict=True)):
            met, wanted = len(given["params"]), len(group["params"])
            if met != wanted:
                problems.append(f"group {i} has {met} parameter(s), wanted {wanted}")
            problems += [f"group {i} lacks the option {name}" for name in self.options if name not in given]
            try:
                self._checked({name: value for name, value in given.items() if name not in ("params", "name")})
            except (TypeError, ValueError) as error:
                problems.append(f"group {i}: {error}")
        return problems

    def _misfits_of_state(self, groups: list[Any], states: list[Any]) -> list[str]:
        if len(states) != len(self.params):
            return [f"state of {len(states)} parameter(s), wanted {len(self.params)}"]
        problems = []
        owners = [group for group in self.param_groups for _ in group["params"]]
        given = [group for group in groups for _ in group["params"]]
        owners = given if len(given) == len(owners) else owners
        for i, (p, state, options) in enumerate(zip(self.params, states, owners, strict=True)):
            wanted = self.slots({**self.defaults, **options})
            problems += [f"parameter {i} lacks {name}" for name in wanted if state and name not in state]
            for name, value in state.items():
                problems += [f"parameter {i}: {text}" for text in self._misfit(p, name, value)]
        return problems

    def _misfit(self, p: Tensor, name: str, value: Any) -> list[str]:
        if name not in self.slot_names:
            return [f"{name} is unknown"]
        if name == "step":
            right = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
            return [] if right else [f"step must be a whole number >= 0 that fits into int64, got {value!r}"]
        if not hasattr(value, "shape") or not hasattr(value, "dtype"):
            return [f"{name} must be an array, got {type(value).__name__}"]
        if tuple(value.shape) == p.shape and value.dtype == p.dtype:
            return []
        return [f"{name} is {tuple(value.shape)} {value.dtype}, wanted {p.shape} {p.dtype}"]


def _parts(who: str, saved: Any) -> tuple[list[Any], list[Any]]:
    """Groups and states, if `saved` has the outer form of a state_dict."""
    groups: Any = saved.get("groups") if isinstance(saved, Mapping) else None
    states: Any = saved.get("state") if isinstance(saved, Mapping) else None
    right = _is_list(groups, Mapping) and _is_list(states, Mapping) and all(_is_list(g.get("params")) for g in groups)
    if not right:
        raise ValueError(f"{who}.load_state_dict: nothing was loaded, since this is no state_dict of an optimizer")
    return list(groups), list(states)


def _is_list(value: Any, of: type = object) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(x, of) for x in value)


def _plain(name: str, tensor: Tensor) -> Any:
    return int(tensor.cached_data) if name == "step" else tensor.device.to_numpy(tensor.cached_data)


def new_slot(p: Tensor, name: str, start: float) -> Tensor:
    if name == "step":
        return Tensor.make_const(p.device.array(int(start), "int64"))
    return Tensor.make_const(p.device.full(p.shape, start, dtype=p.dtype))


def loaded_slot(p: Tensor, name: str, value: Any) -> Tensor:
    if name == "step":
        return new_slot(p, name, value)
    return Tensor.make_const(p.device.array(value.numpy() if isinstance(value, Tensor) else value, p.dtype))


def count(step: Tensor) -> int:
    """Add one to a counter; its new value."""
    if mode.recorder is not None:
        return mode.recorder.count(step)
    t = int(step.cached_data) + 1
    step.cached_data = step.device.array(t, "int64")
    mark_written(step)
    return t


def descend(p: Tensor, direction: Tensor, lr: float) -> None:
    """p ← p − lr·direction: in place where nobody else holds p's array, else in a copy, so that a snapshot
    (`p.data`, `p.detach()`) keeps its values."""
    d = direction.cached_data
    # In the gradient's memory order, once: with two orders every step would jump through memory.
    x = p.cached_data = p.device.laid_out_as(own_array(p), d)
    if not p.device.add_scaled(x, d, -lr):
        p.cached_data = p.device.share(x + d * -lr)
    mark_written(p)


def own_array(tensor: Tensor) -> Any:
    """The tensor's array, to be written to: replaced by a copy first where somebody else may see it change."""
    if held_by(tensor) > ALONE or not tensor.device.owns(tensor.cached_data):
        tensor.cached_data = tensor.device.array(tensor.cached_data, tensor.dtype)
    return tensor.cached_data


def held_by(tensor: Tensor) -> int:
    return getrefcount(tensor.cached_data)


ALONE = held_by(Tensor([0.0]))
