"""Derivatives as functions of functions.

f takes tensors, arrays, numbers, or lists, tuples and dicts of them, and gives a tensor. What comes back is a
constant unless something it depends on (an argument, or a tensor that f closes over) requires a gradient: then it
is recorded, so that transforms nest and mix with `backward`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from .autograd import (
    Tensor,
    TensorOp,
    Value,
    as_tuple,
    find_topo_sort,
    reverse_pass,
    seed_for,
)
from .backend_selection import default_device
from .modes import enable_grad, is_grad_enabled, mode, no_grad
from .ops import stack

__all__ = ["checkpoint", "custom_gradient", "grad", "hessian", "hvp", "jacobian", "jvp", "value_and_grad", "vjp"]


class Alias(TensorOp):
    """The same values under a new node: where an inner derivative stops and an outer one goes on."""

    def compute(self, a):
        return a

    def gradient(self, out_grad, node):
        return out_grad


# --- arguments -------------------------------------------------------------------------------------------------


def flatten(tree: Any) -> list[Any]:
    """The leaves of nested lists, tuples and dicts, in order."""
    if isinstance(tree, dict):
        return [leaf for key in tree for leaf in flatten(tree[key])]
    if isinstance(tree, (list, tuple)):
        return [leaf for part in tree for leaf in flatten(part)]
    return [tree]


def unflatten(tree: Any, leaves: Any) -> Any:
    """`tree` with its leaves replaced by those of the iterator, in order."""
    if isinstance(tree, dict):
        return {key: unflatten(tree[key], leaves) for key in tree}
    if isinstance(tree, (list, tuple)):
        parts = [unflatten(part, leaves) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return next(leaves)


def _variable(x: Any) -> Tensor:
    """A fresh place to differentiate at, tied to x where x itself is being differentiated."""
    if isinstance(x, Tensor) and x.requires_grad and is_grad_enabled():
        return Alias()(x)
    return Tensor(x) if not isinstance(x, Tensor) else Tensor.make_const(x, requires_grad=True)


def _zeros_or(grad: Any, x: Tensor) -> Tensor:
    return x.filled(0) if grad is None else grad


def _pull(output: Tensor, seed: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """dL/d(inputs) for dL/d(output) = seed; recorded only where somebody outside can ask for more."""
    stop = set(inputs)
    outside = is_grad_enabled() and (seed.requires_grad or _reaches_outside(output, stop))
    with enable_grad() if outside else no_grad():
        if mode.observer is not None:
            mode.observer.before_backward(output)
        found = {node: grad for node, grad in reverse_pass([output], [seed], stop) if node in stop}
    if mode.observer is not None:
        mode.observer.after_backward(output, seed, list(found.items()))
    return [_zeros_or(found.get(x), x) for x in inputs]


def _reaches_outside(output: Tensor, inputs: set[Tensor]) -> bool:
    """Whether something other than the fresh inputs can be differentiated below `output`."""
    nodes = find_topo_sort([output], inputs)
    return any(isinstance(x.op, Alias) if x in inputs else (x.requires_grad and x.op is None) for x in nodes)


def _call(f: Callable, args: Sequence[Any], name: str) -> tuple[Any, list[Tensor]]:
    """f at fresh variables in place of the leaves of `args`, recorded."""
    inputs = [_variable(leaf) for leaf in flatten(args)]
    with enable_grad():
        output = f(*unflatten(tuple(args), iter(inputs)))
    return output, inputs


def _checked(output: Any, name: str) -> Tensor:
    if not isinstance(output, Tensor):
        raise TypeError(f"{name}: the function must return a Tensor, got {type(output).__name__}")
    return output


# --- transforms ------------------------------------------------------------------------------------------------


def vjp(f: Callable, *primals: Any) -> tuple[Tensor, Callable[[Any], tuple]]:
    """(f(*primals), pull): pull(v) gives vᵀ·∂f/∂x for each x in primals, for v of f's shape."""
    output, inputs = _call(f, primals, "vjp")
    output = _checked(output, "vjp")

    def pull(v: Any) -> tuple:
        return unflatten(tuple(primals), iter(_pull(output, seed_for(output, v), inputs)))

    return _out(output, inputs), pull


def _out(output: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    """f's value for the caller: a constant unless something outside can be differentiated."""
    outside = is_grad_enabled() and _reaches_outside(output, set(inputs))
    return output if outside else output.detach()


def value_and_grad(f: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable:
    """A function that gives (f(...), its gradient) with respect to argument `argnums` (several: a tuple).

    f must return a one-element Tensor; with has_aux a pair (that, anything), and the value is that pair.
    Gradients have the structure, shapes and dtypes of the arguments.
    """
    wanted = as_tuple(argnums)

    @wraps(f)
    def with_gradient(*args: Any, **kwargs: Any) -> tuple:
        aux: list[Any] = []

        def of_wanted(*some: Any) -> Any:
            full = list(args)
            for position, value in zip(wanted, some, strict=True):
                full[position] = value
            result = f(*full, **kwargs)
            if has_aux:
                result, extra = result
                aux.append(extra)
            return result

        chosen = [args[i] for i in wanted]
        output, inputs = _call(of_wanted, chosen, "grad")
        output = _checked(output, "grad")
        if output.size != 1:
            raise ValueError(f"grad: the function must return one number, got {output.shape}; use jacobian or vjp")
        grads = unflatten(tuple(chosen), iter(_pull(output, seed_for(output, None), inputs)))
        value = _out(output, inputs)
        return (value, aux[0]) if has_aux else value, grads if isinstance(argnums, (tuple, list)) else grads[0]

    return with_gradient


def grad(f: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable:
    """A function that gives the gradient of f (see `value_and_grad`); with has_aux the pair (gradient, aux)."""
    both = value_and_grad(f, argnums, has_aux)

    @wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, grads = both(*args, **kwargs)
        return (grads, value[1]) if has_aux else grads

    return gradient


def jvp(f: Callable, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """(f(*primals), ∂f/∂x · tangents): the derivative in one direction.

    Forward mode from two reverse ones: v -> vᵀJ is linear in v, and its own transpose is J·t.
    """
    output, inputs = _call(f, primals, "jvp")
    output = _checked(output, "jvp")
    directions = [_direction(t, x) for t, x in zip(flatten(list(tangents)), inputs, strict=True)]
    v = Tensor.make_const(output.filled(0), requires_grad=True)
    with enable_grad():
        rows = {node: g for node, g in reverse_pass([output], [v], set(inputs)) if node in set(inputs)}
    outside = is_grad_enabled() and (_reaches_outside(output, set(inputs)) or any(t.requires_grad for t in directions))
    pairs = [(rows[x], t) for x, t in zip(inputs, directions, strict=True) if x in rows]
    with enable_grad() if outside else no_grad():
        passed = reverse_pass([row for row, _ in pairs], [t for _, t in pairs], {v})
        found = {node: g for node, g in passed if node is v}
    return _out(output, inputs), _zeros_or(found.get(v), output)


def _direction(tangent: Any, x: Tensor) -> Tensor:
    if not isinstance(tangent, Tensor):
        tangent = Tensor(tangent, dtype=x.dtype, requires_grad=False)
    if tangent.shape != x.shape:
        raise ValueError(f"jvp: a tangent has shape {tangent.shape}, wanted {x.shape} as its primal")
    return tangent


def jacobian(f: Callable, argnums: int = 0) -> Callable:
    """A function that gives ∂f/∂x for the tensor argument `argnums`: shape f's shape + x's shape."""

    @wraps(f)
    def rows(*args: Any) -> Tensor:
        def of_one(x: Any) -> Any:
            return f(*args[:argnums], x, *args[argnums + 1 :])

        output, (x,) = _call(of_one, [args[argnums]], "jacobian")
        output = _checked(output, "jacobian")
        pulled = [_pull(output, seed, [x])[0] for seed in _unit_seeds(output)]
        if not pulled:
            return Tensor(default_device().zeros(*output.shape, *x.shape, dtype=x.dtype), requires_grad=False)
        return stack(pulled, axis=0).reshape((*output.shape, *x.shape))

    return rows


def _unit_seeds(output: Tensor) -> list[Tensor]:
    seeds = []
    for i in range(output.size):
        seed = output.device.zeros(output.size, dtype=output.dtype)
        seed[i] = 1
        seeds.append(Tensor.make_const(seed.reshape(output.shape)))
    return seeds


def hessian(f: Callable, argnums: int = 0) -> Callable:
    """A function that gives the second derivatives of a one-number f: shape x's shape twice."""
    return jacobian(grad(f, argnums), argnums)


def hvp(f: Callable, x: Any, v: Any) -> Tensor:
    """Hessian of f at x times v, without the Hessian: two reverse passes (Pearlmutter, 1994)."""
    _, pull = vjp(grad(f), x)
    return pull(v)[0]


# --- rules of the user -----------------------------------------------------------------------------------------


class CustomGradient(TensorOp):
    """A user's forward with a user's rule."""

    def __init__(self, function: Callable):
        self.function = function
        self.rule: Callable | None = None

    def compute(self, *arrays):
        with no_grad():
            output, self.rule = self._run([Tensor.make_const(a) for a in arrays])
        return output.cached_data

    def _run(self, tensors):
        result = self.function(*tensors)
        if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
            raise TypeError("the function must return (output, rule), where rule(out_grad) gives the gradients")
        return result

    def gradient(self, out_grad, node):
        rule = self.rule
        if is_grad_enabled():  # so that the rule's own dependence on the inputs is recorded
            _, rule = self._run(node.inputs)
        assert rule is not None
        return rule(out_grad)


def custom_gradient(function: Callable) -> Callable[..., Tensor]:
    """Decorator: `function(*tensors)` returns (output, rule), and rule(out_grad) the gradient of each tensor.

    The ops inside are not differentiated; for second derivatives the rule must be made of ops.
    """

    @wraps(function)
    def apply(*tensors: Any) -> Tensor:
        inputs = [x if isinstance(x, Tensor) else Tensor(x, requires_grad=False) for x in tensors]
        return CustomGradient(function)(*inputs)

    return apply


class Checkpoint(TensorOp):
    """f without its inner graph: run again in the backward pass (arXiv:1604.06174). Random draws are repeated."""

    def __init__(self, f: Callable, count: int):
        self.f, self.count = f, count
        self.before: Any = None
        self.result: Any = None

    def compute(self, *arrays):
        result, self.result = self.result, None
        return result

    def gradient(self, out_grad, node):
        device = out_grad.device
        now = device.random_state()
        device.set_random_state(self.before)
        recording = is_grad_enabled()
        with enable_grad():
            args = node.inputs if recording else [Tensor.make_const(x, x.requires_grad) for x in node.inputs]
            own = [Alias()(x) if x.requires_grad else x for x in args[: self.count]]
            output = self.f(*own)
        device.set_random_state(now)
        wanted = own + list(node.inputs[self.count :])
        found = dict(reverse_pass([output], [out_grad], set(wanted)))
        return tuple(found.get(x) for x in wanted)


def checkpoint(f: Callable, *args: Tensor) -> Tensor:
    """f(*args), keeping only the arguments: what happens inside is computed again when gradients are wanted.

    Trades time for memory. Tensors that f closes over get their gradients too. f must do the same when called again.
    """
    inputs = [x if isinstance(x, Tensor) else Tensor(x, requires_grad=False) for x in args]
    if not is_grad_enabled():
        return f(*inputs)
    op = Checkpoint(f, len(inputs))
    op.before = default_device().random_state()
    own = [Tensor.make_const(x, x.requires_grad) for x in inputs]
    output = _checked(f(*own), "checkpoint")
    op.result = output.cached_data
    return op(*inputs, *_closed_over(output, own))


def _closed_over(output: Tensor, own: Sequence[Tensor]) -> list[Value]:
    """The tensors from outside that the graph of `output` depends on: what is older than its own arguments."""
    born = min((x.stamp for x in own), default=output.stamp)
    outside = find_topo_sort([output], _Older(born))
    return [x for x in outside if x.stamp < born and x.requires_grad]


class _Older:
    """The set of all nodes made before a moment."""

    def __init__(self, stamp: int):
        self.stamp = stamp

    def __contains__(self, node: Value) -> bool:
        return node.stamp < self.stamp
