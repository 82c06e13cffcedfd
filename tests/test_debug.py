"""record_sites, detect_anomaly and detect_promotion; and that docs/errors.md says what they say."""

from __future__ import annotations

import gc
import linecache
import re
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import debug
from needle.failures import site_of
from needle.modes import mode

ROOT = Path(__file__).resolve().parents[1]

quiet = pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value", "ignore:overflow")


def here(back: int = 0) -> str:
    """This line, as messages name it."""
    frame = sys._getframe(1)
    return f"test_debug.py:{frame.f_lineno - back}"


def site(x: ndl.Tensor) -> str:
    return site_of(x) or "nowhere"


# --- switching on and off --------------------------------------------------------------------------------------

SWITCHES = [ndl.record_sites, ndl.detect_anomaly, ndl.detect_promotion]


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_is_off_again_afterwards_also_after_an_error(switch):
    with switch():
        assert mode.observer is not None
    assert mode.observer is None
    with pytest.raises(KeyError):
        with switch():
            raise KeyError
    assert mode.observer is None


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_decorates_a_function(switch):
    @switch()
    def depth(n: int) -> int:
        """How deep."""
        assert mode.observer is not None
        return 0 if n == 0 else 1 + depth(n - 1)

    assert [depth(3), depth(2)] == [3, 2] and depth.__name__ == "depth" and depth.__doc__ == "How deep."
    assert mode.observer is None


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_counts_for_its_own_thread(switch):
    seen: list[Any] = []
    with switch():
        thread = threading.Thread(target=lambda: seen.append(mode.observer))
        thread.start()
        thread.join()
    assert seen == [None]


@quiet
@pytest.mark.parametrize("order", list(permutations(SWITCHES)))
def test_switches_go_together_in_any_order(order):
    with ExitStack() as stack:
        for switch in order:
            stack.enter_context(switch())
        x = ndl.Tensor([0.0, 1.0])
        assert here(1) in site(x)
        with pytest.raises(ndl.PromotionError, match=re.escape(f"argument 0 was made at tests/{here(2)}")):
            x * ndl.Tensor(np.ones(2, "float32"))
        with pytest.raises(ndl.AnomalyError):
            ndl.log(x).sum().backward()
        loss = (x * x).sum()
        x.cached_data[0] = 3
        with pytest.raises(RuntimeError, match="argument 0 of EWiseMul"):
            loss.backward()


class Listener(debug.Watcher):
    def __init__(self) -> None:
        self.told: list[str] = []

    def made(self, value: Any, op: Any, inputs: Any) -> None:
        self.told.append("leaf" if op is None else type(op).__name__)

    def before_backward(self, output: Any) -> None:
        self.told.append("before")

    def after_backward(self, output: Any, seed: Any, kept: Any) -> None:
        self.told.append("after")


def test_who_already_watched_goes_on_watching():
    listener = Listener()
    with debug.watched_by(listener):
        with ndl.record_sites():
            (ndl.Tensor([1.0]) * 2).backward()
    assert listener.told[:3] == ["leaf", "MulScalar", "leaf"]  # the last is the seed
    assert "before" in listener.told and listener.told[-1] == "after"


def test_derivatives_of_functions_are_watched_too():
    listener = Listener()
    with debug.watched_by(listener):
        ndl.grad(lambda x: (x * x).sum())(np.ones(2))
    assert listener.told.count("before") == listener.told.count("after") == 1


# --- lines -----------------------------------------------------------------------------------------------------


def test_everything_made_remembers_the_users_line():
    with ndl.record_sites():
        made = {
            "leaf": (ndl.Tensor([1.0, 2.0]), here()),
            "zeros": (ndl.zeros(2), here()),
            "randn": (ndl.init.kaiming_normal(2, 2), here()),
            "operator": (ndl.Tensor([1.0]) + 1, here()),
            "method": (ndl.Tensor([1.0]).sum(), here()),
            "composed": (ndl.var(ndl.Tensor([1.0, 2.0])), here()),
            "numpy": (np.exp(ndl.Tensor([1.0])), here()),
            "detached": (ndl.Tensor([1.0]).detach(), here()),
            "constant": (ndl.Tensor([1.0], requires_grad=False) * 2, here()),
            "grad": (ndl.grad(ndl.exp)(1.0), here()),
        }
    wrong = {name: site(x) for name, (x, line) in made.items() if f"{line}: " not in site(x)}
    assert not wrong


def test_nothing_is_noted_outside():
    with ndl.record_sites():
        pass
    assert site_of(ndl.Tensor([1.0]) + 1) is None


def test_a_site_shows_file_line_and_source():
    with ndl.record_sites():
        x = ndl.Tensor([1.0])
    assert site(x) == f"tests/{here(1)}: x = ndl.Tensor([1.0])"


def test_a_site_in_a_file_elsewhere_has_its_whole_path(tmp_path):
    file = tmp_path / "model.py"
    file.write_text("import needle as ndl\nx = ndl.Tensor([1.0])\n", encoding="utf-8")
    names: dict[str, Any] = {}
    with ndl.record_sites():
        exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), names)
    assert site(names["x"]) == f"{file}:2: x = ndl.Tensor([1.0])"


def test_a_site_without_a_file():
    names: dict[str, Any] = {"ndl": ndl}
    with ndl.record_sites():
        exec("x = ndl.Tensor([1.0])", names)
    assert site(names["x"]) == "<string>:1"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 does not know columns")
def test_a_site_shows_which_part_of_a_line():
    with ndl.record_sites():
        w = ndl.Tensor([[1.0]])
        y = [ndl.exp(w @ w), "é", ndl.sin(w)]
        z = ndl.exp(
            w,
        )
    assert site(y[0]).endswith('y = [ndl.exp(w @ w), "é", ndl.sin(w)]  (in it: ndl.exp(w @ w))')
    assert site(y[2]).endswith("(in it: ndl.sin(w))")
    assert site(y[0].inputs[0]).endswith("(in it: w @ w)")
    assert site(z).endswith(": z = ndl.exp(")


def test_a_line_that_spans_the_whole_statement_is_not_repeated():
    with ndl.record_sites():
        x=ndl.Tensor([1.0])  # fmt: skip
        y = (lambda: ndl.exp(x))()
    assert "in it" not in site(x)
    assert sys.version_info < (3, 11) or site(y).endswith("(in it: ndl.exp(x))")


def test_a_site_keeps_nothing_alive():
    class Big:
        pass

    def make() -> tuple[ndl.Tensor, weakref.ref]:
        big = Big()
        return ndl.Tensor([1.0]), weakref.ref(big)

    with ndl.record_sites():
        x, big = make()
    gc.collect()
    assert "ndl.Tensor([1.0]), weakref.ref(big)" in site(x) and big() is None


# --- NaN and infinity in the forward pass ----------------------------------------------------------------------


def anomaly(f: Callable, *values: Any, thorough: bool = True, dtype: str = "float64") -> str:
    """What detect_anomaly says of the gradient of f's sum."""
    with ndl.detect_anomaly(thorough):
        tensors = [ndl.Tensor(np.array(value), dtype=dtype) for value in values]
        with pytest.raises(ndl.AnomalyError) as caught:
            f(*tensors).sum().backward()
    return str(caught.value)


FORWARD = [
    ("Log", lambda x: ndl.log(x), [-1.0, 2.0], "NaN", "a negative number has no logarithm"),
    ("Log", lambda x: ndl.log(x), [0.0, 2.0], "infinite", "log of 0 is −∞"),
    ("Log1p", lambda x: ndl.log1p(x), [-1.0, 2.0], "infinite", "log1p wants numbers above −1"),
    ("Sqrt", lambda x: ndl.sqrt(x), [-1.0, 2.0], "NaN", "a negative number has no square root"),
    ("Rsqrt", lambda x: ndl.rsqrt(x), [0.0, 2.0], "infinite", "the slope of a root at 0 is infinite"),
    ("EWiseDiv", lambda x: 1 / x, [0.0, 2.0], "infinite", "division by 0: keep the divisor away"),
    ("DivScalar", lambda x: x / 0, [1.0, 2.0], "infinite", "division by 0"),
    ("Exp", lambda x: ndl.exp(x), [800.0, 2.0], "infinite", "exp overflows above 88 in float32 and 709"),
    ("Expm1", lambda x: ndl.expm1(x), [800.0, 2.0], "infinite", "exp overflows"),
    ("PowerScalar", lambda x: x**0.5, [-1.0, 2.0], "NaN", "a negative number has no fractional power"),
    ("PowerScalar", lambda x: x**-1, [0.0, 2.0], "infinite", "infinite at 0"),
    ("EWisePow", lambda x: x**x, [-0.5, 2.0], "NaN", "a negative number has no fractional power"),
    ("EWisePow", lambda x: x ** (x - 1), [0.0, 2.0], "infinite", "infinite at 0"),
    ("EWiseMul", lambda x: x * x, [1e200, 2.0], "infinite", "too big for float64: have values or weights grown"),
]


@quiet
@pytest.mark.parametrize("op, f, values, kind, cause", FORWARD, ids=[f"{row[0]} {row[3]}" for row in FORWARD])
def test_the_op_that_made_it_and_a_likely_cause(op, f, values, kind, cause):
    text = anomaly(f, values)
    assert f"the output that backward() is called on is {kind}\nFirst made in the forward pass, by {op}:" in text
    assert cause in text
    assert "at tests/test_debug.py:" in text


@quiet
def test_float32_overflows_earlier():
    assert "by Exp:" in anomaly(ndl.exp, [100.0], dtype="float32") and "exp overflows" in anomaly(ndl.exp, [800.0])
    assert "too big for float32" in anomaly(lambda x: x * x, [1e30], dtype="float32")


@quiet
def test_value_ranges_and_counts():
    text = anomaly(lambda x: ndl.log(x), [[0.5, 0.0, -1.0], [0.0, 2.0, -3.0]])
    assert "  argument 0: (2, 3) float64 from -3 to 2, 2 zero\n" in text
    assert "  result: (2, 3) float64 from -0.6931 to 0.6931, 2 NaN, 2 infinite\n" in text


@quiet
def test_the_first_of_many_is_named_not_the_last():
    text = anomaly(lambda x: ndl.tanh(ndl.sqrt(ndl.log(x) * 2 + 1)) * 3, [-1.0, 5.0])
    assert "by Log:" in text
    assert "Sqrt" not in text


@quiet
def test_an_infinity_that_became_nan_is_followed_to_its_source():
    text = anomaly(lambda x: (ndl.exp(x) + 1) - ndl.exp(x), [1000.0])
    assert "is NaN" in text and "by Exp:" in text and "which became NaN in EWiseAdd at tests/test_debug.py:" in text


@quiet
def test_an_infinity_elsewhere_is_not_blamed():
    def f(x: ndl.Tensor) -> ndl.Tensor:
        harmless = ndl.exp(-(1 / (x * 0)))  # e^-inf
        return harmless + ndl.sqrt(x - 5)

    text = anomaly(f, [1.0])
    assert "by Sqrt:" in text
    assert "EWiseDiv" not in text


@quiet
def test_a_mask_of_infinities_is_not_blamed():
    mask = ndl.Tensor(np.array([0.0, -np.inf]), requires_grad=False)
    text = anomaly(lambda x: ndl.softmax(x + mask) + ndl.log(x - 1), [1.0, 2.0])
    assert "by Log:" in text
    assert "EWiseAdd" not in text
    with ndl.detect_anomaly():
        x = ndl.Tensor([1.0, 2.0])
        (ndl.softmax(x + mask) * x).sum().backward()  # and where all is well, nothing is said
    assert np.isfinite(x.grad.numpy()).all()


@quiet
def test_an_op_that_made_nan_of_a_given_infinity():
    text = anomaly(lambda x: x * 0, [np.inf, 1.0])
    assert "by MulScalar:" in text and "an argument is infinite, and ∞ − ∞, 0·∞ and ∞/∞ are NaN" in text


def test_a_tensor_that_was_bad_from_the_start():
    with ndl.detect_anomaly():
        data = ndl.Tensor([1.0, np.nan], requires_grad=False)
        line = here(1)
        w = ndl.Tensor([1.0, 1.0])
        with pytest.raises(ndl.AnomalyError) as caught:
            (data * w).sum().backward()
    expected = rf"It came with a tensor that no recorded op made at tests/{line}: \(2,\) float64 from 1 to 1, 1 NaN"
    assert re.search(expected, str(caught.value)), str(caught.value)


def test_a_tuple_on_the_way():
    with np.errstate(all="ignore"):
        text = anomaly(lambda x, y: ndl.stack([ndl.log(x), y]), [-1.0], [1.0])
        assert "by Log:" in text
        text = anomaly(lambda x, y: ndl.logsumexp(ndl.concatenate([x, y]) * 1e300), [1e300], [1.0])
        assert "by MulScalar:" in text


@quiet
def test_a_graph_made_outside_is_replayed_too():
    loss = ndl.log(ndl.Tensor([-1.0])).sum()
    with ndl.detect_anomaly():
        with pytest.raises(ndl.AnomalyError, match="by Log:"):
            loss.backward()


# --- NaN and infinity in the backward pass ---------------------------------------------------------------------


@quiet
def test_the_rule_that_made_it():
    text = anomaly(lambda x: ndl.sqrt(x) * 2, [0.0, 4.0])
    assert "the output is finite, but a gradient is infinite\n" in text
    assert "First made in the backward pass, by the rule of Sqrt for argument 0:" in text
    assert "  out_grad: (2,) float64 from 2 to 2\n  argument 0: (2,) float64 from 0 to 4, 1 zero\n" in text
    assert "gradient of argument 0: (2,) float64 from 0.5 to 0.5, 1 infinite\n" in text
    assert "the slope of a root at 0 is infinite: take ndl.sqrt(x + 1e-12)" in text
    assert "where" not in text


class HalfBad(ndl.TensorOp):
    """a + b whose rule for b is not finite."""

    def compute(self, a, b):
        return a + b

    def gradient(self, out_grad, node):
        return out_grad, out_grad * float("nan")


@quiet
def test_the_argument_whose_rule_made_it():
    text = anomaly(lambda x, y: HalfBad()(ndl.exp(x), ndl.sin(y) * 3), [1.0], [2.0])
    assert "by the rule of HalfBad for argument 1:" in text


@quiet
def test_zero_times_infinity_without_a_where():
    text = anomaly(lambda x: ndl.sqrt(x) * np.array([0.0, 1.0]), [0.0, 4.0])
    assert "by the rule of Sqrt" in text and "out_grad is 0 in places: 0·∞ is NaN" in text


@quiet
def test_the_where_is_named_with_its_line_and_the_fix_fixes():
    def masked(x: ndl.Tensor) -> ndl.Tensor:
        roots = ndl.sqrt(x)
        return ndl.where(x > 1, roots, 0)

    text = anomaly(masked, [0.0, 4.0])
    line = masked.__code__.co_firstlineno + 2
    assert f"the `where` at tests/test_debug.py:{line} chose the other branch, and 0·∞ is NaN" in text
    with ndl.detect_anomaly():
        x = ndl.Tensor([0.0, 4.0])
        ndl.where(x > 1, ndl.sqrt(ndl.where(x > 1, x, 1)), 0).sum().backward()
    assert x.grad.numpy().tolist() == [0, 0.25]


def test_a_seed_that_is_not_finite():
    with ndl.detect_anomaly():
        with pytest.raises(ndl.AnomalyError, match=r"the seed that backward\(\) was given: \(2,\) .*1 NaN"):
            (ndl.Tensor([1.0, 2.0]) * 2).backward(ndl.Tensor([1.0, np.nan]))


def test_a_hook_that_makes_nan():
    x = ndl.Tensor([1.0])
    x.register_hook(lambda g: g * np.nan)
    with ndl.detect_anomaly():
        with pytest.raises(ndl.AnomalyError, match="their sum or a gradient hook made"):
            (x * 2).sum().backward()


@quiet
def test_parts_whose_sum_overflows():
    text = anomaly(lambda x: x * 1e308 + x * 1e308, [1e-300])
    assert "Its parts were finite; their sum or a gradient hook made (1,) float64, 1 infinite" in text


def test_a_rule_that_is_random():
    class Fickle(ndl.TensorOp):
        calls = 0

        def compute(self, a):
            return a

        def gradient(self, out_grad, node):
            self.calls += 1
            return out_grad * (np.nan if self.calls == 1 else 1.0)

    assert "but was when computed again" in anomaly(lambda x: Fickle()(x), [1.0])


@quiet
def test_derivatives_of_functions():
    with ndl.detect_anomaly():
        with pytest.raises(ndl.AnomalyError, match="by the rule of Sqrt"):
            ndl.grad(lambda x: ndl.sqrt(x).sum())(np.zeros(2))
        with pytest.raises(ndl.AnomalyError, match="by Log:"):
            ndl.grad(lambda x: ndl.log(x).sum())(np.zeros(2))


@quiet
def test_derivatives_of_derivatives():
    with ndl.detect_anomaly():
        x = ndl.Tensor([0.0])
        (x**1.5).sum().backward()
        assert x.grad.item() == 0
        with pytest.raises(ndl.AnomalyError, match="by the rule of PowerScalar"):
            x.grad.sum().backward()  # 0.75 / √0


@quiet
@pytest.mark.parametrize("options", [{}, {"accumulate": True}, {"create_graph": True}], ids=str)
def test_the_gradients_stay_as_they_were(options):
    x, w = ndl.Tensor([0.0, 4.0]), ndl.Tensor([1.0, 1.0])
    (x * w).sum().backward()
    before = x.grad, w.grad
    with ndl.detect_anomaly():
        with pytest.raises(ndl.AnomalyError):
            (ndl.sqrt(x) * w).sum().backward(**options)
        with pytest.raises(ndl.AnomalyError):
            (ndl.log(x) * w).sum().backward(**options)
    assert (x.grad, w.grad) == before


# --- while all is well -----------------------------------------------------------------------------------------


def train(steps: int = 3) -> list[float]:
    """A few steps of a small network in float32."""
    rng = np.random.default_rng(0)
    X, y = ndl.Tensor(rng.standard_normal((8, 5)), dtype="float32"), rng.integers(0, 3, 8)
    W, V = (ndl.Tensor(rng.standard_normal(shape), dtype="float32") for shape in ((5, 7), (7, 3)))
    sgd, losses = ndl.SGD([W, V], lr=0.1, momentum=0.9, weight_decay=0.01), []
    for _ in range(steps):
        loss = ndl.softmax_cross_entropy(ndl.relu(X @ W) @ V, y)
        sgd.reset_grad()
        loss.backward()
        sgd.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("switch", [*SWITCHES, lambda: ndl.detect_anomaly(thorough=False)])
def test_a_healthy_training_is_not_disturbed(switch):
    plain = train()
    with switch():
        assert train() == plain


def test_a_healthy_backward_is_not_replayed(monkeypatch):
    for name in ("find_topo_sort", "reverse_pass", "fingerprint", "note_site"):
        monkeypatch.setattr(debug, name, None)
    with ndl.detect_anomaly(thorough=False):
        train(1)


def test_without_thorough_there_are_no_lines_and_no_checks_of_arrays():
    with np.errstate(all="ignore"):
        assert "test_debug.py" not in anomaly(lambda x: ndl.log(x), [-1.0], thorough=False)
    with ndl.detect_anomaly(thorough=False):
        x = ndl.Tensor([1.0])
        y = x * x
        x.cached_data[0] = 2.0
        y.sum().backward()


# --- arrays changed behind the graph's back --------------------------------------------------------------------


def changed(change: Callable, f: Callable, *values: Any) -> str:
    """What detect_anomaly says where `change(inputs, output)` comes between forward and backward."""
    with ndl.detect_anomaly():
        inputs = [ndl.Tensor(np.array(value)) for value in values]
        output = f(*inputs)
        loss = (output * 1.0).sum()
        change(inputs, output)
        with pytest.raises(RuntimeError) as caught:
            loss.backward()
    return str(caught.value)


def test_a_changed_leaf_is_named_with_op_and_argument():
    def change(inputs, output):
        inputs[1].realize_cached_data()[1] += 1

    text = changed(change, lambda x, y: x + 2 * y, [1.0, 2.0], [3.0, 4.0])
    assert "detect_anomaly: argument 0 of MulScalar at tests/test_debug.py:" in text
    assert "it was made at tests/test_debug.py:" in text and "write to a copy, x.numpy()" in text


def test_a_changed_result_is_named_with_its_op():
    def change(inputs, output):
        output.cached_data[:] = 0

    assert "the result of Exp at tests/test_debug.py:" in changed(change, ndl.exp, [1.0, 2.0])


def test_a_shuffle_is_found():
    def change(inputs, output):
        inputs[0].cached_data[:] = inputs[0].cached_data[::-1].copy()

    assert "argument 0 of Sin" in changed(change, ndl.sin, [1.0, 2.0, 3.0])


def test_a_view_that_shares_the_memory_is_found():
    def change(inputs, output):
        output.cached_data[0, 0] = 9  # x.T looks at the memory of x

    assert "argument 0 of Transpose" in changed(change, lambda x: x.transpose(), [[1.0, 2.0], [3.0, 4.0]])


def test_a_changed_part_of_a_tuple_is_found():
    def change(inputs, output):
        inputs[1].cached_data[0] = 9

    text = changed(change, lambda x, y: ndl.concatenate([x, y]), [1.0], [2.0])
    assert "argument 1 of MakeTensorTuple" in text


def test_sizes_and_dtypes_of_every_kind_have_a_fingerprint():
    def print_of(array: Any) -> int:
        return debug.fingerprint(ndl.Tensor.make_const(array))

    a = np.arange(12.0).reshape(3, 4)
    assert print_of(a) == print_of(a.copy()) != print_of(-a)
    assert print_of(a.T) == print_of(a.T.copy()) != print_of(a)
    assert print_of(a[:, ::2]) == print_of(a[:, ::2].copy())
    assert print_of(np.broadcast_to(1.0, (2, 2))) == print_of(np.ones((2, 2)))
    for array in (np.array(1.0), np.zeros((0, 3)), np.array([True]), np.array([1], "int8"), np.ones(2, "float16")):
        assert print_of(array) == print_of(array.copy())


def test_writing_through_a_tensor_is_told_by_the_reverse_pass_itself():
    def assign(inputs, output):
        inputs[0].data = ndl.Tensor([5.0, 5.0])

    def set_item(inputs, output):
        with ndl.no_grad():
            inputs[0][0] = 5.0

    for change in (assign, set_item):
        text = changed(change, lambda x: x.reshape((2,)) * 2, [1.0, 2.0])
        assert text.startswith("backward: argument 0 of "), text


def test_what_was_changed_before_the_forward_pass_or_after_the_backward_pass_is_right():
    with ndl.detect_anomaly():
        x = ndl.Tensor([1.0, 2.0])
        x.cached_data[0] = 3.0
        loss = (x * x).sum()
        loss.backward()
        assert x.grad.numpy().tolist() == [6, 4]
        x.cached_data[0] = 1.0
        (x * x).sum().backward()
        assert x.grad.numpy().tolist() == [2, 4]
        with pytest.raises(RuntimeError, match="argument 0 of EWiseMul"):
            loss.backward()


def test_random_functions_raise_no_false_alarm():
    def noisy(x: ndl.Tensor) -> ndl.Tensor:
        return x * np.random.rand(2)

    @ndl.custom_gradient
    def custom(x: ndl.Tensor) -> Any:
        return x + np.random.rand(2), lambda g: g

    with ndl.detect_anomaly():
        x = ndl.Tensor([1.0, 2.0])
        (ndl.checkpoint(noisy, x) + custom(x)).sum().backward()
        assert x.grad.shape == (2,)


def test_a_step_between_two_backwards_of_one_graph_is_told_by_the_reverse_pass_itself():
    with ndl.detect_anomaly():
        w = ndl.Tensor([[1.0, 2.0]])
        loss = (w.transpose() @ w).sum()
        loss.backward()
        ndl.SGD([w], lr=0.1).step()
        with pytest.raises(RuntimeError, match="^backward: "):
            loss.backward()


# --- float32 meets float64 -------------------------------------------------------------------------------------


def single(*shape: int) -> ndl.Tensor:
    return ndl.Tensor(np.ones(shape), dtype="float32")


PROMOTED = [
    ("EWiseMul", lambda a: a * ndl.Tensor(np.ones(3)), "float32 (4, 3) met float64 (3,)"),
    ("EWiseAdd", lambda a: a + np.ones(3), "float32 (4, 3) met float64 (3,)"),
    ("EWiseAdd", lambda a: a + np.arange(3), "float32 (4, 3) met int64 (3,)"),
    ("MatMul", lambda a: ndl.Tensor(np.ones((2, 4))) @ a, "float64 (2, 4) met float32 (4, 3)"),
    ("Where", lambda a: ndl.where(a > 0, a, np.zeros(3)), "bool (4, 3) met float32 (4, 3) met float64 (3,)"),
    ("Stack", lambda a: ndl.stack([a, a.astype("float64")]), "float32 (4, 3) met float64 (4, 3)"),
    ("EWiseMul", lambda a: a.astype("float16") * a, "float16 (4, 3) met float32 (4, 3)"),
]


@pytest.mark.skipif(np.dtype(int).itemsize < 8, reason="where int is int32")
@pytest.mark.parametrize("op, call, met", PROMOTED, ids=[row[2] for row in PROMOTED])
def test_a_promotion_names_op_shapes_and_line(op, call, met):
    with ndl.detect_promotion():
        with pytest.raises(ndl.PromotionError) as caught:
            call(single(4, 3))
    place = rf"tests/test_debug.py:{call.__code__.co_firstlineno} -> float"
    assert re.match(rf"{op}: {re.escape(met)} at {place}", str(caught.value)), str(caught.value)


def test_a_promotion_says_where_the_operands_were_made():
    with ndl.record_sites(), ndl.detect_promotion():
        a = single(3)
        b = ndl.Tensor(np.ones(3))
        with pytest.raises(ndl.PromotionError, match=rf"argument 1 was made at tests/{here(1)}: b = ndl.Tensor"):
            a + b


def test_what_is_no_promotion():
    with ndl.detect_promotion():
        a = single(3)
        a * 2.5, a + np.float64(1.5), a / 3, 1 / a, a**2, ndl.where(a > 0, a, 0), ndl.maximum(a, 0.5)
        a.astype("float64") * 2
        ndl.Tensor(np.ones(3)) + np.ones(3)
        ndl.Tensor(np.arange(3)) * 2.5
        ndl.one_hot(a, 3, dtype="float64")
        ndl.gt(a, np.ones(3))
        train(1)


def test_a_warning_comes_once_and_at_the_users_line():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with ndl.detect_promotion("warn"):
            y = single(3) * ndl.Tensor(np.ones(3))
            line = here(1)
            single(3) * ndl.Tensor(np.ones(3))
    assert y.dtype == "float64"
    (warning,) = caught
    assert warning.category is ndl.PromotionWarning and str(warning.message).startswith("EWiseMul: float32 (3,) met")
    assert f"{Path(warning.filename).name}:{warning.lineno}" == line


def test_an_unknown_action():
    with pytest.raises(ValueError, match="detect_promotion: action must be 'error' or 'warn', got 'ignore'"):
        with ndl.detect_promotion("ignore"):
            pass


# --- docs/errors.md --------------------------------------------------------------------------------------------

EXAMPLE = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


@quiet
@pytest.mark.skipif(sys.version_info < (3, 11), reason="lines are shown with columns")
def test_the_page_on_errors_shows_what_comes():
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    examples = EXAMPLE.findall(page)
    assert len(examples) == page.count("```python") >= 8
    for code, expected in examples:
        linecache.cache["train.py"] = (len(code), None, code.splitlines(keepends=True), "train.py")
        assert run(compile(code, "train.py", "exec"), names) == expected.rstrip(), code
    del linecache.cache["train.py"]


def run(code: Any, names: dict[str, Any]) -> str:
    """Runs an example; gives its error as Python would show it."""
    try:
        exec(code, names)
    except Exception as error:
        lines = f"{type(error).__name__}: {error}".splitlines()
        return "\n".join(line.rstrip() for line in lines)
    return ""
