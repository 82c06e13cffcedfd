"""ndl.gradcheck: every broken rule is caught and named, no right one is, and what cannot be told is not told."""

from __future__ import annotations

import collections
import math
import re
import time
from pathlib import Path

import numpy as np
import pytest
from mutants import MUTANTS, Mutant, broken, positive, real
from mutation_score import survivors
from op_table import ROWS

import needle as ndl
from needle import ops
from needle.numeric_check import slopes

PAGE = Path(__file__).resolve().parents[1] / "docs" / "gradcheck.md"
BY_NUMBERS = [one for one in MUTANTS if not one.at_kink]


def rule(forward, backward):
    """A function of one tensor with a rule of its own: backward(out_grad, x)."""
    return ndl.custom_gradient(lambda x: (forward(x.detach()), lambda g: backward(g, x)))


half = rule(lambda x: x * x, lambda g, x: g * x)  # the usual factor 2 forgotten


def square(x):
    return x * x


# --- broken rules ----------------------------------------------------------------------------------------------


def named(mutants):
    return [pytest.param(one, id=one.name) for one in mutants]


@pytest.mark.parametrize("mutant", named(BY_NUMBERS))
def test_a_broken_rule_is_caught_and_named(mutant):
    with broken(mutant):
        result = ndl.gradcheck(mutant.call, *mutant.inputs, order=mutant.order)
    assert result.verdict == "fail", result
    assert result.op == mutant.op.__name__, result
    assert mutant.argument in (None, result.argument), result
    assert mutant.guess is None or mutant.guess in (result.guess or ""), result


@pytest.mark.parametrize("mutant", named(BY_NUMBERS))
def test_the_same_op_unbroken_passes(mutant):
    assert ndl.gradcheck(mutant.call, *mutant.inputs, order=mutant.order)


@pytest.mark.parametrize("mutant", named(one for one in BY_NUMBERS if one.order == 2))
def test_what_is_wrong_at_order_2_alone_passes_at_order_1(mutant):
    with broken(mutant):
        assert ndl.gradcheck(mutant.call, *mutant.inputs)


@pytest.mark.parametrize("mutant", named(BY_NUMBERS))
def test_the_full_jacobian_shows_it_as_well(mutant):
    with broken(mutant):
        result = ndl.gradcheck(mutant.call, *mutant.inputs, order=mutant.order, full=True)
    assert (result.verdict, result.op) == ("fail", mutant.op.__name__), result


def test_the_library_is_large_and_no_mutant_is_there_twice():
    assert len(MUTANTS) >= 60
    assert len({one.name for one in MUTANTS}) == len(MUTANTS)


def test_our_own_table_kills_every_broken_rule():
    assert [one.name for one in survivors()] == []


def test_a_table_without_its_rows_lets_some_survive():
    some = [one for one in MUTANTS if one.op in (ops.Exp, ops.ReLU)]
    assert survivors(some, [row for row in ROWS if row.name == "add"]) == some


def test_a_promise_at_a_kink_is_what_kills_a_rule_that_is_wrong_there_alone():
    smooth_cases = [row.__class__(**{**vars(row), "kinks": ()}) for row in ROWS]
    alive = {one.name for one in survivors([one for one in MUTANTS if one.at_kink], smooth_cases)}
    assert {"ReLU: slope 1 at 0", "Maximum: ties to the left", "Minimum: ties to nobody"} <= alive


def test_broken_gives_the_op_its_own_rule_back():
    own = ops.Exp.gradient
    with broken(next(one for one in MUTANTS if one.op is ops.Exp)):
        assert ops.Exp.gradient is not own
    assert ops.Exp.gradient is own


@pytest.mark.parametrize("part", [1e-1, 1e-3, 1e-5, 1e-6, 3e-7])
@pytest.mark.parametrize("full", [False, True])
def test_a_small_mistake(part, full):
    f = rule(ndl.exp, lambda g, x: g * ndl.exp(x) * (1 + part))
    assert ndl.gradcheck(f, real(3, 4), full=full).verdict == "fail"


@pytest.mark.parametrize("full", [False, True])
def test_one_wrong_element_among_many(full):
    wrong = np.ones(60)
    wrong[41] = 1.001
    f = rule(lambda x: x * x, lambda g, x: g * 2 * x * ndl.Tensor(wrong, requires_grad=False))
    result = ndl.gradcheck(f, real(60), full=full)
    assert (result.verdict, result.index) == ("fail", (41,)), result
    assert "right except at 1 of" in result.guess


def test_one_wrong_element_of_a_large_array_is_found_by_halving():
    wrong = np.ones(20000)
    wrong[777] = 1.01
    f = rule(lambda x: x * x, lambda g, x: g * 2 * x * ndl.Tensor(wrong, requires_grad=False))
    assert ndl.gradcheck(f, real(20000)).index == (777,)


def test_no_seed_is_unlucky():
    """Errors of one size in two inputs, or in two outputs, cancel along a direction for hardly any seed."""
    for seed in range(200):
        assert ndl.gradcheck(lambda x: (x * x.detach()).sum(), np.ones(2), seed=seed).verdict == "fail"
        assert ndl.gradcheck(lambda x: [x + x.detach(), x - x.detach()], 1.0, seed=seed).verdict == "fail"


@pytest.mark.parametrize("full", [False, True])
def test_a_small_output_is_not_drowned_by_a_large_one(full):
    result = ndl.gradcheck(lambda x: [half(x) * 1e-6, x * x * 1e3], real(3), full=full)
    assert result.verdict == "fail" and result.op.startswith("CustomGradient"), result


def test_errors_that_cancel_in_a_sum_do_not_hide():
    f = rule(lambda x: x * x, lambda g, x: g * 2 * x + (ndl.flip(g) - g))
    assert ndl.gradcheck(f, real(4)).verdict == "fail"


class Doubles(ndl.TensorOp):
    """x ↦ 2x, whose rule is given by each test."""

    def __init__(self, answer):
        self.answer = answer

    def compute(self, a):
        return 2 * a

    def gradient(self, out_grad, node):
        return self.answer(out_grad)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda g: g[0] * 2, "returns (3,) float64 for argument 0, which is (2, 3) float64"),
        (lambda g: (g * 2).astype("float32"), "returns (2, 3) float32 for argument 0, which is (2, 3) float64"),
        (lambda g: g.numpy() * 2, "returns a ndarray for argument 0, wanted a Tensor"),
        (lambda g: (g, g), "returns 2 gradients for 1 arguments"),
        (lambda g: g.nonsense, "has a rule that raises AttributeError"),
    ],
)
def test_a_rule_whose_answer_has_the_wrong_form(answer, words):
    result = ndl.gradcheck(Doubles(answer), real(2, 3))
    assert (result.verdict, result.op) == ("fail", "Doubles") and words in result.reason, result


def test_a_rule_that_gives_the_wrong_dtype_in_float32_alone():
    result = ndl.gradcheck(Doubles(lambda g: (g * 2).astype("float64")), real(2, 3))
    assert result.verdict == "fail" and "float32" in result.reason and "dtype" in result.guess, result


def test_no_gradient_where_there_should_be_one():
    result = ndl.gradcheck(Doubles(lambda g: None), real(2, 3))
    assert (result.verdict, result.op) == ("fail", "Doubles") and "zero" in result.guess


def test_a_rule_that_gives_nan():
    result = ndl.gradcheck(rule(square, lambda g, x: ndl.where(x > 0, g * 2 * x, math.nan)), np.array([1.0, -2.0, 3.0]))
    assert result.verdict == "fail" and result.guess == "it gives NaN or infinity at 1 of 3 elements", result


class ProductAndSine(ndl.TensorTupleOp):
    """An op with two outputs."""

    sign = 1.0

    def compute(self, a, b):
        return a * b, np.sin(a)

    def gradient(self, out_grad, node):
        a, b = node.inputs
        return out_grad[0] * b + out_grad[1] * ndl.cos(a) * self.sign, out_grad[0] * a


def test_an_op_with_several_outputs(monkeypatch):
    def f(a, b):
        product, sine = ProductAndSine()(a, b).tuple()
        return ndl.exp(sine) + product * product

    assert ndl.gradcheck(f, real(3), positive(3), order=2)
    monkeypatch.setattr(ProductAndSine, "sign", -1.0)
    result = ndl.gradcheck(f, real(3), positive(3))
    assert (result.verdict, result.op, result.argument) == ("fail", "ProductAndSine", 0)


def test_forward_mode_follows_out_grad():
    """This rule is right at order 1, but what it does to out_grad cannot be differentiated again."""
    f = rule(lambda x: x * x, lambda g, x: g.detach() * 2 * x)
    remark = ndl.gradcheck(f, real(3))
    assert remark and "note: forward mode (jvp) gives 0" in str(remark)
    result = ndl.gradcheck(f, real(3), order=2)
    assert result.verdict == "fail" and "detached" in result.guess, result


# --- a graph that is bypassed ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "f",
    [
        lambda x: (x * x.detach()).sum(),
        lambda x: (x * x.data).sum(),
        lambda x: (x * ndl.Tensor(x.numpy())).sum(),
        lambda x: ndl.Tensor(x.numpy() ** 2).sum(),
        lambda x: x * ndl.no_grad()(lambda: x * 2)(),
        lambda x: x * x + 1e-3 * x.detach(),
        lambda x: x * float(x.numpy().sum()),
    ],
)
def test_what_bypasses_the_graph_is_told_from_a_wrong_rule(f):
    result = ndl.gradcheck(f, positive(4))
    assert (result.verdict, result.op) == ("fail", None), result
    assert "each op's own rule is right" in result.reason and "detach" in result.guess


def test_a_detached_tensor_is_found_though_the_input_is_at_a_kink():
    result = ndl.gradcheck(lambda x: ndl.relu(x) * x.detach(), [0.0, 1.0, -1.0] * np.ones(3))
    assert result.verdict == "fail" and "seen at inputs moved by 1 %" in str(result), result


def test_the_op_that_makes_nan_on_the_way_back():
    result = ndl.gradcheck(lambda x: ndl.where(x > 0, ndl.sqrt(x * x * (x > 0)), x), np.array([-1.0, 4.0]))
    assert result.verdict == "fail" and "Sqrt was first to give it" in result.reason, result
    assert "choose the argument first" in result.guess


# --- cannot tell -----------------------------------------------------------------------------------------------


def doubtful(f, *inputs, **options) -> str:
    """The reason; and no seed changes the verdict."""
    for seed in range(3):
        result = ndl.gradcheck(f, *inputs, seed=seed, **options)
        assert result.verdict == "cannot tell" and not result, result
    return result.reason


KINKED = [
    pytest.param(ndl.relu, [0.0, 1.0, -1.0], "ReLU has a kink", id="relu at 0"),
    pytest.param(ndl.abs, [0.0, 1.0, -1.0], "Abs has a kink", id="abs at 0"),
    pytest.param(ndl.max, [2.0, 2.0, 1.0], "Max has a kink", id="max of equals"),
    pytest.param(ndl.norm, [0.0, 0.0], "Norm has a kink", id="norm at 0"),
    pytest.param(lambda x: ndl.clip(x, -1, 1), [1.0, 0.5], "Clip has a kink", id="clip on a limit"),
    pytest.param(lambda x: ndl.maximum(x, 1.0), [1.0, 0.5], "Maximum has a kink", id="maximum of equals"),
    pytest.param(ndl.sqrt, [0.0, 1.0], "Sqrt has no slope that settles", id="sqrt at 0"),
    pytest.param(lambda x: ndl.where(x > 1, x + 1, x), [1.0, 2.0], "no slope that settles", id="a jump"),
]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("f", "at", "words"), KINKED)
def test_a_kink_excuses_op_and_all(f, at, words, full):
    assert words in doubtful(f, np.array(at), full=full)


@pytest.mark.parametrize("f", [ndl.relu, ndl.abs])
@pytest.mark.parametrize("distance", [1e-2, 1e-4, 1e-6, -1e-8])
def test_a_kink_nearby_is_stepped_around(f, distance):
    for full in (False, True):
        assert ndl.gradcheck(f, np.array([distance, 1.0, -1.0]), full=full)


def test_a_kink_too_near_to_step_around_is_no_failure():
    assert not ndl.gradcheck(ndl.relu, np.array([1e-13, 1.0, -1.0])).verdict == "fail"


@pytest.mark.parametrize("distance", [1e-2, -1e-2, 1e-6])
def test_a_kink_nearby_hides_no_wrong_rule(distance):
    f = rule(ndl.relu, lambda g, x: 2 * g * (x > 0))
    assert ndl.gradcheck(f, np.array([distance, 1.0, -1.0])).verdict == "fail"


def test_where_a_kink_is_in_the_way_the_report_says_how_it_is_beside_it():
    assert "at inputs moved by 1 % it passes" in str(ndl.gradcheck(ndl.relu, np.zeros(3)))


def test_slopes_that_meet_are_no_kink():
    assert ndl.gradcheck(lambda x: (x * ndl.abs(x)).sum(), np.array([0.0, 1.0, -1.0]))
    assert ndl.gradcheck(lambda x: (ndl.relu(x) ** 3).sum(), np.array([0.0, 1.0, -1.0]), order=2)
    assert ndl.gradcheck(lambda x: x**3, np.zeros(3))
    assert "ReLU has a kink" in doubtful(lambda x: (ndl.relu(x) ** 2).sum(), np.array([0.0, 1.0, -1.0]), order=2)


def test_a_function_that_is_not_deterministic():
    rng = np.random.default_rng(0)
    assert "gives another result when it runs again" in doubtful(lambda x: x.sum() + rng.uniform(), real(3))
    kept = []

    def counts(x):
        kept.append(1)
        return x * len(kept)

    assert "gives another result when it runs again" in doubtful(counts, real(3))


class Noise(ndl.TensorOp):
    """An op that is another each time."""

    rng = np.random.default_rng(0)

    def compute(self, a):
        return a * self.rng.uniform(size=a.shape)

    def gradient(self, out_grad, node):
        return out_grad


def test_an_op_that_is_not_deterministic_is_not_blamed():
    assert "gives another result when it runs again" in doubtful(Noise(), real(3))
    result = ndl.gradcheck(lambda x: half(Noise()(x)), real(3))
    assert result.verdict == "fail" and result.op.startswith("CustomGradient"), result


@pytest.mark.parametrize("full", [False, True])
def test_a_function_with_noise(full):
    """The same each time, but rougher than rounding: no difference is good to 1e-4."""
    reason = doubtful(lambda x: (ndl.exp(3 * x) + 1e-3 * np.sin(1e13 * x.numpy())).sum(), real(3), full=full)
    assert "no slope that settles" in reason


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_inputs_that_are_too_coarse(dtype):
    x = real(3, 4).astype(dtype)
    assert f"inputs are {dtype}, too coarse" in doubtful(square, x)
    assert "give float64, by .astype('float64')" in doubtful(square, ndl.Tensor(x))
    assert ndl.gradcheck(half, x).verdict == "fail"


def test_a_function_that_computes_in_float32_fails_only_where_it_is_wrong():
    def f(x):
        return x.astype("float32") ** 2

    assert ndl.gradcheck(f, real(4)).verdict != "fail"
    assert ndl.gradcheck(lambda x: half(x.astype("float32")), real(4)).verdict == "fail"


def test_float32_that_no_node_shows_is_no_failure():
    hidden = rule(lambda x: (x.astype("float32") ** 2).astype("float64"), lambda g, x: g * 2 * x)
    for seed in range(5):
        result = ndl.gradcheck(lambda x: hidden(x), real(4), full=True, seed=seed)
        assert result.verdict == "cannot tell" or "dtype" in result.guess, result


@pytest.mark.parametrize("inputs", [(np.arange(3),), (3,), ("x",), (ndl.Tensor([1, 2]),), (), (np.array([True]),)])
def test_inputs_of_which_none_is_a_float(inputs):
    assert "no input is a float" in doubtful(lambda *xs: ndl.Tensor([1.0]), *inputs)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_inputs_that_cannot_move(bad):
    assert "input 1 holds NaN or infinity" in doubtful(lambda x, y: x * y, real(2), np.array([1.0, bad]))


def test_outputs_that_are_not_finite():
    reason = doubtful(lambda x: ndl.exp(ndl.log(x)) * 2, np.array([-1.0, 1.0]))
    assert reason == "the result of f holds NaN; Log was first to give it"
    assert "holds infinity; Exp was first" in doubtful(ndl.exp, np.array([1000.0]))


def test_a_difference_that_is_flat():
    for full in (False, True):
        assert "too small a part of a large number" in doubtful(lambda x: square(x).sum() + 1e20, real(3), full=full)


def test_a_wrong_rule_is_named_though_f_cannot_be_judged():
    result = ndl.gradcheck(lambda x: half(x).sum() + 1e20, real(3))
    assert result.verdict == "fail" and result.op.startswith("CustomGradient"), result
    result = ndl.gradcheck(lambda x: ndl.log(half(x) - 2), np.array([1.0, 2.0]))
    assert result.verdict == "fail" and result.op.startswith("CustomGradient"), result


def test_a_function_that_writes_into_its_input():
    def f(x):
        x.cached_data *= 2
        return x * 1

    assert "f writes into its input 0" in doubtful(f, real(3))


@pytest.mark.parametrize("value", [3.0, None, np.ones(2), {"loss": 1.0}, "loss"])
def test_a_function_that_gives_no_tensor(value):
    given = next(iter(value.values())) if isinstance(value, dict) else value
    assert doubtful(lambda x: value, real(2)) == f"f must return a Tensor, it returned a {type(given).__name__}"


def test_a_function_whose_output_changes_its_shape():
    for full in (False, True):
        doubtful(lambda x: x[: int(3 + (x.numpy()[0] > 1))], np.array([1.0, 2.0, 3.0, 4.0]), full=full)


def test_an_error_of_f_itself_is_its_own():
    with pytest.raises(ZeroDivisionError):
        ndl.gradcheck(lambda x: 1 / 0, real(2))


# --- right functions pass --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-150, 1e-8, 1e-3, 1.0, 1e3, 1e8, 1e150])
@pytest.mark.parametrize("full", [False, True])
def test_the_step_follows_the_size_of_the_input(scale, full):
    assert ndl.gradcheck(square, real(5) * scale, full=full)
    assert ndl.gradcheck(half, real(5) * scale, full=full).verdict == "fail"


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_the_step_follows_the_size_of_the_input_for_other_functions(scale):
    for f in (ndl.log, ndl.sqrt, lambda x: 1 / x, lambda x: x**3, lambda x: ndl.sin(x / scale)):
        assert ndl.gradcheck(f, positive(5) * scale, order=2)


def test_sizes_may_differ_within_one_array():
    x = np.array([1e-8, 1.0, 1e8])
    assert ndl.gradcheck(square, x)
    wrong = ndl.Tensor([1.0, 2.0, 1.0], requires_grad=False)
    assert ndl.gradcheck(rule(square, lambda g, x: g * 2 * x * wrong), x, full=True).verdict == "fail"


@pytest.mark.parametrize(
    "f",
    [
        lambda x: ndl.exp(50 * x),
        lambda x: ndl.sin(1000 * x),
        lambda x: ndl.sin(1e6 * x),
        lambda x: x * x + 1e8,
        lambda x: ndl.tanh(x * 30),
        lambda x: x * 0,
        lambda x: ndl.where(x > 0, x, x * x),
        lambda x: x.astype("int64").astype("float64") * x,
        lambda x: ndl.grad(lambda y: ndl.sin(y).sum())(x),
        lambda x: ndl.checkpoint(lambda y: ndl.tanh(y) * y, x),
        lambda x: x,
        lambda x: ndl.Tensor([3.0]),
    ],
)
def test_a_right_function_passes(f):
    for seed in range(5):
        assert ndl.gradcheck(f, real(5), seed=seed)


def test_edges_of_shape():
    assert ndl.gradcheck(lambda x: x.sum(), np.zeros((0, 3)), order=2, full=True)
    assert ndl.gradcheck(lambda x: ndl.exp(x), 0.3, order=2, full=True)
    assert ndl.gradcheck(lambda x: ndl.exp(x), np.float64(0.3))


def test_a_whole_model_to_second_order():
    labels = np.array([0, 1, 2, 3])

    def loss(x, w1, w2):
        return ndl.softmax_cross_entropy(ndl.tanh(x @ w1) @ w2, labels)

    assert ndl.gradcheck(loss, real(4, 5), real(5, 6), real(6, 4), order=2)


Layer = collections.namedtuple("Layer", "weight bias")


def test_inputs_and_outputs_may_be_nested():
    def f(layers, batch, name):
        (first, second), x = layers, batch["x"]
        hidden = ndl.tanh(x @ first.weight + first.bias)
        return {"out": [hidden @ second["w"]], "size": (hidden * hidden).sum()}

    layers = [Layer(real(3, 4), real(4)), {"w": ndl.Tensor(real(4, 2))}]
    assert ndl.gradcheck(f, layers, {"x": real(5, 3), "labels": np.array([1, 2])}, "name", order=2)
    result = ndl.gradcheck(lambda both, c: {"a": both[0] * 2, "b": [c, both[1].detach() * c]}, [real(2), real(2)], 3.0)
    assert (result.verdict, result.argument) == ("fail", 1), result


def test_an_input_without_influence_and_one_that_is_no_float():
    assert ndl.gradcheck(lambda x, unused, index, mask: x[index], real(5), real(2), np.array([1, 1, 0]), None)


# --- the result ------------------------------------------------------------------------------------------------


def test_a_result_is_true_only_for_a_pass():
    passed, failed, doubt = ndl.gradcheck(square, real(3)), ndl.gradcheck(half, real(3)), ndl.gradcheck(square, 3)
    assert [bool(r) for r in (passed, failed, doubt)] == [True, False, False]
    assert [r.verdict for r in (passed, failed, doubt)] == ["pass", "fail", "cannot tell"]
    assert all(isinstance(r, ndl.GradcheckResult) for r in (passed, failed, doubt))
    passed.assert_ok()
    for result in (failed, doubt):
        with pytest.raises(AssertionError, match=re.escape(str(result))):
            result.assert_ok()


def test_the_worst_index_and_both_numbers():
    def backward(g, x):
        return g * 2 * x * ndl.Tensor([[1.0, 1.1, 1.0], [1.0, 1.0, 3.0]], requires_grad=False)

    x = real(2, 3)
    for full in (False, True):
        result = ndl.gradcheck(lambda x: rule(square, backward)(x).sum(), x, full=full)
        assert (result.index, result.argument) == ((1, 2), 0), result
        assert result.analytic / result.numeric == pytest.approx(3)
        assert result.error < 1e-8 * abs(result.numeric)
        assert f"at index (1, 2): the rule says {result.analytic:.10g}" in str(result)


def test_of_an_entry_of_the_jacobian_the_output_is_named():
    def f(x):
        return x * x + x.detach() * np.array([0.0, 0.0, 1.0])

    result = ndl.gradcheck(f, np.array([1.0, 2.0, 3.0]), full=True)
    assert (result.verdict, result.index) == ("fail", (2,)) and "(output element 2)" in result.reason
    assert (result.analytic, result.numeric) == (pytest.approx(6), pytest.approx(7))


def test_an_entry_that_is_wrong_by_little_is_found():
    result = ndl.gradcheck(lambda x: ndl.exp(x) + x.detach() * np.array([0.0, 0.0, 6e-6]), np.ones(3) * 3, full=True)
    assert (result.verdict, result.index) == ("fail", (2,)) and "(output element 2)" in result.reason, result


def test_the_line_of_the_guilty_node_is_named_where_sites_are_recorded():
    with ndl.record_sites():
        result = ndl.gradcheck(lambda x: Doubles(lambda g: g)(x) + 1, real(3))  # this line
    assert "this line" in result.site and result.site in str(result)
    assert ndl.gradcheck(lambda x: Doubles(lambda g: g)(x) + 1, real(3)).site is None


def test_a_rule_hidden_in_a_checkpoint_is_named():
    f = lambda x: ndl.checkpoint(lambda y: Doubles(lambda g: g)(y), x)  # noqa: E731
    assert ndl.gradcheck(f, real(3)).op == "Doubles"


# --- options ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"order": 3}, "order must be 1 or 2, got 3"),
        ({"order": 0}, "order must be 1 or 2, got 0"),
        ({"order": "2"}, "order must be 1 or 2, got '2'"),
        ({"rtol": -1e-3}, "rtol must be a number that is not negative, got -0.001"),
        ({"rtol": math.nan}, "rtol must be"),
        ({"atol": math.inf}, "atol must be"),
        ({"atol": "small"}, "atol must be a number that is not negative, got 'small'"),
        ({"seed": -1}, "seed must be a whole number that is not negative, got -1"),
        ({"seed": 0.5}, "seed must be"),
        ({"seed": None}, "seed must be"),
        ({"full": 3}, "full must be True or False, got 3"),
    ],
)
def test_options_that_make_no_sense(options, words):
    with pytest.raises(ValueError, match=re.escape(f"gradcheck: {words}")):
        ndl.gradcheck(square, real(3), **options)


def test_f_must_be_a_function():
    with pytest.raises(TypeError, match="gradcheck: f must be a function, got a Tensor; call it as gradcheck"):
        ndl.gradcheck(ndl.Tensor([1.0]), real(3))


def test_tolerances_widen_what_passes():
    f = rule(ndl.exp, lambda g, x: g * ndl.exp(x) * 1.001)
    for full in (False, True):
        assert ndl.gradcheck(f, real(4), full=full).verdict == "fail"
        assert ndl.gradcheck(f, real(4), rtol=1e-2, full=full)
        assert ndl.gradcheck(f, real(4), atol=0.1, full=full)
        assert ndl.gradcheck(f, real(4), atol=1e-5, full=full).verdict == "fail"


@pytest.mark.parametrize("f", [square, half, ndl.relu])
def test_one_seed_gives_one_report(f):
    def report(seed):
        return str(ndl.gradcheck(f, np.array([0.0, 1.0, 2.0]), seed=seed, order=2))

    assert report(5) == report(5)
    np.random.seed(1)
    assert report(5) == report(5)


def test_another_seed_looks_along_other_directions():
    seen = {ndl.gradcheck(lambda x: x.detach() * x, real(4), seed=seed).analytic for seed in range(5)}
    assert len(seen) > 1


def test_the_global_generator_is_left_alone():
    before = np.random.get_state()[1].copy()
    ndl.gradcheck(half, real(4), order=2, full=True)
    assert np.array_equal(before, np.random.get_state()[1])


def test_inputs_are_never_changed():
    array, tensor, nested = real(3), ndl.Tensor(real(3)), {"w": real(2)}
    kept = array.copy(), tensor.numpy().copy(), nested["w"].copy()

    def f(x, y, p):
        x.cached_data[...] = 5.0  # a function that misbehaves
        return half(x) * y + p["w"].sum()

    ndl.gradcheck(f, array, tensor, nested)
    ndl.gradcheck(lambda x, y, p: half(x) * y + p["w"].sum(), array, tensor, nested, full=True, order=2)
    assert np.array_equal(array, kept[0]) and np.array_equal(tensor.numpy(), kept[1])
    assert np.array_equal(nested["w"], kept[2])
    assert tensor.grad is None and tensor.requires_grad


def test_it_works_within_no_grad():
    with ndl.no_grad():
        assert ndl.gradcheck(square, real(3), order=2)
        assert ndl.gradcheck(half, real(3)).verdict == "fail"


# --- the referee -----------------------------------------------------------------------------------------------


@pytest.fixture(params=["with numdifftools", "without"])
def referee(request, monkeypatch):
    if request.param == "without":
        monkeypatch.setattr(slopes, "have", lambda name: False)
    else:
        pytest.importorskip("numdifftools")


def test_the_verdicts_with_and_without_a_referee(referee):
    assert ndl.gradcheck(ndl.exp, real(3, 4), order=2)
    assert ndl.gradcheck(half, real(3, 4)).verdict == "fail"
    assert ndl.gradcheck(half, real(3, 4), full=True).verdict == "fail"
    assert ndl.gradcheck(ndl.relu, np.array([0.0, 1.0])).verdict == "cannot tell"
    assert ndl.gradcheck(lambda x: x * x.detach(), positive(3)).verdict == "fail"


def test_the_referee_gives_the_derivative_and_its_error():
    pytest.importorskip("numdifftools")
    value, error = slopes.referee(lambda t: math.exp(3 * t), 2.0**-6)
    assert value == pytest.approx(3, rel=1e-10) and error < 1e-8


def test_a_referee_who_sees_badly_overrules_nobody(monkeypatch):
    found = slopes.Finding("differ", 1.001, 1.0, 1e-9, 2.0**-10)
    for opinion, overruled in [((1.001, 1e-9), True), ((1.001, 1e-2), False), ((1.0, 1e-9), False), (None, False)]:
        monkeypatch.setattr(slopes, "referee", lambda line, step, opinion=opinion: opinion)
        assert slopes.overruled(None, found, slopes.Tolerance()) is overruled


# --- speed -----------------------------------------------------------------------------------------------------


def test_large_arrays_stay_quick():
    """Along directions: the number of runs does not grow with the size of the arrays."""
    runs = []

    def f(a, b):
        runs.append(1)
        return ndl.tanh(a @ b)

    start = time.perf_counter()
    assert ndl.gradcheck(f, real(300, 300), real(300, 300) / 30)
    assert len(runs) < 60
    with broken(wrong_product()):
        result = ndl.gradcheck(f, real(300, 300), real(300, 300) / 30)
    assert (result.verdict, result.op) == ("fail", "MatMul") and "transposed" in result.guess, result
    assert time.perf_counter() - start < 60  # some seconds; a Jacobian entry by entry would take days


def wrong_product() -> Mutant:
    return next(one for one in MUTANTS if one.name == "MatMul: wrong order")


# --- docs/gradcheck.md -----------------------------------------------------------------------------------------

EXAMPLE = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


def test_the_page_on_gradcheck_shows_what_comes(capsys):
    page = PAGE.read_text(encoding="utf-8")
    names: dict = {}
    examples = EXAMPLE.findall(page)
    assert len(examples) == page.count("```python") >= 6
    for code, expected in examples:
        exec(compile(code, "example", "exec"), names)
        assert blurred(capsys.readouterr().out) == blurred(expected), code


def blurred(text: str) -> str:
    """Without the last digits, errors and counts, which are others with another NumPy."""
    without = re.sub(r" \(± \S+\)|(?<=differences) to \S+|\d+(?= runs)", "", text.rstrip())
    return re.sub(r"-?\d+\.\d{3,}(e[-+]\d+)?", lambda number: f"{float(number[0]):.4g}", without)


def test_the_page_tells_the_score_of_the_test_table():
    assert f"all {len(MUTANTS)} broken rules" in PAGE.read_text(encoding="utf-8")
