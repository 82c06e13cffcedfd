"""Layers, losses, modules: values, derivatives, PyTorch's opinion, the course's contract, errors."""

from __future__ import annotations

import copy
import gc
import importlib.util
import math
import pickle
import re

import numpy as np
import pytest
from nn_examples import EXAMPLES, Example, as_function, build, distinct

import needle as ndl
from needle import nn

F64 = {"dtype": "float64"}
TORCH = importlib.util.find_spec("torch")
both_modes = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
every_example = pytest.mark.parametrize("one", [pytest.param(one, id=name) for name, one in EXAMPLES.items()])


def tensors(arrays, dtype=None):
    """Floats as tensors that want a gradient, labels as they are."""
    return [ndl.Tensor(x, dtype=dtype) if np.asarray(x).dtype.kind == "f" else np.asarray(x) for x in arrays]


# --- every layer and loss --------------------------------------------------------------------------------------


def test_every_layer_and_loss_has_an_example():
    made = {type(m).__name__ for one in EXAMPLES.values() for _, m in one.make().named_modules()}
    exported = {name for name in nn.__all__ if isinstance(getattr(nn, name), type)}
    assert exported - made == {"Module", "ModuleDict", "ModuleList", "Parameter", "Summary"}


@both_modes
@every_example
def test_values(one: Example, training):
    module = build(one, training)
    wanted = one.wanted(copy.deepcopy(module), *one.inputs)
    np.random.seed(0)
    y = module(*tensors(one.inputs))
    assert y.shape == np.shape(wanted) and y.dtype == "float64"
    np.testing.assert_allclose(y.numpy(), wanted, rtol=1e-12, atol=1e-13)


@both_modes
@every_example
def test_derivatives_by_inputs_and_parameters(one: Example, training):
    call, parameters = as_function(build(one, training))
    result = ndl.gradcheck(call, parameters, *one.inputs, order=2)
    assert result, result


@every_example
def test_float32_stays_float32(one: Example):
    module = build(one)
    for _, tensor in [*module.named_parameters(), *module.named_buffers()]:
        tensor.cached_data = tensor.cached_data.astype("float32")
    inputs = tensors(one.inputs, "float32")
    y = module(*inputs)
    assert y.dtype == "float32"
    moving = [x for x in [*inputs, *module.parameters()] if isinstance(x, ndl.Tensor)]
    y.sum().backward()
    assert {x.grad.dtype.name for x in moving} <= {"float32"}
    assert {b.dtype.name for _, b in module.named_buffers()} <= {"float32"}


def turned(module, name, array):
    """One of our arrays as PyTorch lays it out: a Linear has weight (out, in) and bias (out,)."""
    owner = dict(module.named_modules())[name.rpartition(".")[0]]
    return (
        (array.T if array.shape[0] > 1 or name.endswith("weight") else array[0]) if type(owner) is nn.Linear else array
    )


@pytest.mark.oracle
@pytest.mark.skipif(not TORCH, reason="PyTorch is not installed")
@pytest.mark.filterwarnings("ignore:reduction")  # PyTorch thinks of another meaning for KLDivLoss's "mean"
@both_modes
@pytest.mark.parametrize("one", [pytest.param(one, id=name) for name, one in EXAMPLES.items() if one.twin])
def test_the_same_as_pytorch(one: Example, training):
    import torch

    ours = build(one, training)
    theirs = one.twin(torch).double().train(training)
    state = {name: torch.tensor(turned(ours, name, x.numpy()).copy()) for name, x in ours.state_dict().items()}
    theirs.load_state_dict({**theirs.state_dict(), **state})
    mine, yours = (
        tensors(one.inputs),
        [torch.tensor(x, requires_grad=np.asarray(x).dtype.kind == "f") for x in one.inputs],
    )
    y, t = ours(*mine), theirs(*yours)
    np.testing.assert_allclose(y.numpy(), t.detach().numpy(), rtol=1e-10, atol=1e-10)
    seed = distinct(*y.shape)
    y.backward(ndl.Tensor(seed))
    t.backward(torch.tensor(seed))
    for x, its in zip(mine, yours, strict=True):
        if isinstance(x, ndl.Tensor):
            np.testing.assert_allclose(x.grad.numpy(), its.grad.numpy(), rtol=1e-10, atol=1e-10)
    their_parameters = dict(theirs.named_parameters())
    assert their_parameters.keys() == {name for name, _ in ours.named_parameters()}
    for name, p in ours.named_parameters():
        grad = turned(ours, name, p.grad.numpy())
        np.testing.assert_allclose(grad, their_parameters[name].grad.numpy(), rtol=1e-10, atol=1e-10)


# --- what the course's homeworks rely on -----------------------------------------------------------------------


def test_linear_draws_its_weight_first_and_its_bias_as_a_row():
    np.random.seed(7)
    layer = nn.Linear(5, 3)
    np.random.seed(7)
    weight = (np.random.rand(5, 3) * 2 - 1) * np.sqrt(6 / 5)
    bias = (np.random.rand(3, 1) * 2 - 1) * np.sqrt(6 / 3)
    np.testing.assert_allclose(layer.weight.numpy(), weight, rtol=1e-6)
    np.testing.assert_allclose(layer.bias.numpy(), bias.reshape(1, 3), rtol=1e-6)
    assert layer.weight.dtype == layer.bias.dtype == "float32"


def test_embedding_draws_once_and_takes_tokens_as_floats():
    np.random.seed(7)
    layer = nn.Embedding(6, 2)
    np.random.seed(7)
    np.testing.assert_allclose(layer.weight.numpy(), np.random.randn(6, 2), rtol=1e-6)
    tokens = np.array([[0, 5, 2], [2, 2, 1]])
    y = layer(ndl.Tensor(tokens, dtype="float32"))
    assert y.shape == (2, 3, 2) and y.dtype == "float32"
    np.testing.assert_array_equal(y.numpy(), layer.weight.numpy()[tokens])
    y.sum().backward()
    np.testing.assert_array_equal(layer.weight.grad.numpy()[:, 0], [1, 1, 3, 0, 0, 1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.BatchNorm1d(3), lambda: nn.LayerNorm1d(3), lambda: nn.LayerNorm(3), lambda: nn.RMSNorm(3),
        nn.ReLU, nn.Dropout, lambda: nn.Dropout(generator=ndl.Generator(0)),
    ],
)  # fmt: skip
def test_these_draw_nothing_when_made(make):
    before = np.random.get_state()[2]
    make()
    assert np.random.get_state()[2] == before


def test_dropout_keeps_where_the_draw_is_at_most_the_share_kept():
    layer, x = nn.Dropout(0.25), ndl.ones(40, 30)
    np.random.seed(3)
    y = layer(x)
    after = np.random.rand()
    np.random.seed(3)
    draws = np.random.rand(40, 30)
    np.testing.assert_array_equal(y.numpy(), np.where(draws <= 0.75, np.float32(1 / 0.75), 0))
    assert after == np.random.rand()  # one draw an element, no more


@pytest.mark.parametrize("p", [0, 0.5, 1])
def test_dropout_draws_in_training_alone(p):
    layer, x = nn.Dropout(p), ndl.ones(5)
    before = np.random.get_state()[2]
    assert layer.eval()(x) is x and np.random.get_state()[2] == before
    layer.train()(x)
    assert np.random.get_state()[2] != before


def test_dropout_from_a_generator_leaves_the_global_stream_alone():
    x, before = ndl.ones(40, 30), np.random.get_state()[2]
    y = nn.Dropout(0.25, generator=ndl.Generator(5))(x)
    assert np.random.get_state()[2] == before
    draws = ndl.Generator(5).rand(40, 30).numpy()
    np.testing.assert_array_equal(y.numpy(), np.where(draws <= 0.75, np.float32(1 / 0.75), 0))


def test_batch_norm_keeps_running_statistics_with_the_biased_variance():
    layer, x = nn.BatchNorm1d(3, momentum=0.2), distinct(5, 3).astype("float32")
    mean_tensor, var_tensor = layer.running_mean, layer.running_var
    layer(ndl.Tensor(x))
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.2 * x.mean(0), rtol=1e-6)
    np.testing.assert_allclose(layer.running_var.numpy(), 0.8 + 0.2 * x.var(0), rtol=1e-6)
    assert layer.running_mean is mean_tensor and layer.running_var is var_tensor
    assert layer.running_mean.shape == layer.running_var.shape == (3,)
    assert not layer.running_mean.requires_grad and layer.running_mean.is_leaf()


def test_batch_norm_in_eval_mode_remembers_nothing():
    layer = nn.BatchNorm1d(3).eval()
    layer(ndl.Tensor(distinct(5, 3)))
    layer(ndl.ones(1, 3))
    assert layer.running_mean.numpy().tolist() == [0, 0, 0] and layer.running_var.numpy().tolist() == [1, 1, 1]


def test_statistics_keep_their_dtype_where_a_batch_has_another():
    layer = nn.BatchNorm1d(3)
    layer(ndl.Tensor(distinct(5, 3)))
    assert layer.running_mean.dtype == "float32"


def test_layer_norm_takes_the_variance_in_two_passes():
    x = np.array([[1e4, 1e4 + 1, 1e4 + 2, 1e4 + 3]], "float32")  # E[x²] − μ² has no digit left here
    wanted = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    for layer in (nn.LayerNorm1d(4), nn.LayerNorm(4)):
        np.testing.assert_allclose(layer(ndl.Tensor(x)).numpy(), wanted, rtol=1e-5)
    layer = nn.BatchNorm1d(1)
    np.testing.assert_allclose(layer(ndl.Tensor(x.T)).numpy(), wanted.T, rtol=1e-5)


@pytest.mark.parametrize("op", [ndl.ops.BatchNormalize(), ndl.ops.LayerNormalize()], ids=lambda op: type(op).__name__)
def test_a_normalising_op_that_is_called_again_keeps_its_gradients_apart(op):
    arrays = distinct(3, 3), distinct(2, 3, 3)[0], distinct(2, 3, 3)[1]
    scale, shift = ndl.Tensor([1.0, 2.0, 0.5]), ndl.Tensor([0.0, 1.0, 0.0])

    def gradients(called_again):
        x = ndl.Tensor(arrays[0])
        y = op(x, scale, shift)
        if called_again:
            op(ndl.Tensor(arrays[1]), scale, shift)
        y = y if isinstance(y, ndl.Tensor) else ndl.tuple_get_item(y, 0)
        y.backward(ndl.Tensor(arrays[2]))
        return [t.grad.numpy() for t in (x, scale, shift)]

    for alone, after_another in zip(gradients(False), gradients(True), strict=True):
        np.testing.assert_allclose(after_another, alone, rtol=1e-12)


@pytest.mark.parametrize("make", [nn.BatchNorm1d, nn.LayerNorm1d, nn.LayerNorm, nn.RMSNorm])
def test_gradients_have_the_dtype_of_their_own_tensors(make):
    layer, x = make(3), ndl.Tensor(distinct(5, 3))
    layer(x).sum().backward()
    assert x.grad.dtype == "float64" and {p.grad.dtype.name for p in layer.parameters()} == {"float32"}


def test_numbers_of_numpy_do_not_promote():
    half = np.float64(0.5)
    layers = [
        nn.Dropout(half), nn.BatchNorm1d(np.int64(3), eps=half, momentum=half), nn.LayerNorm1d(3, eps=half),
        nn.LayerNorm(np.int64(3), eps=half), nn.RMSNorm(3, eps=half), nn.LeakyReLU(half), nn.Linear(3, np.int64(3)),
    ]  # fmt: skip
    for layer in layers:
        assert layer(ndl.ones(4, 3)).dtype == "float32", layer
    assert nn.HuberLoss(delta=half)(ndl.ones(3), np.ones(3)).dtype == "float32"
    assert (
        nn.CrossEntropyLoss(label_smoothing=half, weight=np.ones(3))(ndl.ones(4, 3), np.zeros(4, int)).dtype
        == "float32"
    )


def test_softmax_loss_takes_labels_of_any_numeric_dtype():
    logits = distinct(4, 3).astype("float32")
    wanted = np.log(np.exp(logits).sum(1)).mean() - logits[np.arange(4), [2, 0, 0, 1]].mean()
    for dtype in ("uint8", "int64", "float32", "float64"):
        labels = np.array([2, 0, 0, 1], dtype)
        for y in (labels, ndl.Tensor(labels)):
            loss = nn.SoftmaxLoss()(ndl.Tensor(logits), y)
            assert loss.shape == () and loss.dtype == "float32"
            np.testing.assert_allclose(loss.numpy(), wanted, rtol=1e-6)


def test_a_parameter_replaced_by_a_plain_tensor_is_read_when_called():
    layer = nn.Linear(3, 2)
    layer.weight, layer.bias = ndl.Tensor(np.ones((3, 2), "float32")), ndl.Tensor(np.array([1, 2], "float32"))
    for shape in ((4, 3), (2, 4, 3)):
        np.testing.assert_array_equal(layer(ndl.ones(*shape)).numpy(), np.full((*shape[:-1], 2), [4, 5]))
    assert layer.parameters() == []
    norm = nn.BatchNorm1d(2)
    norm.bias = ndl.Tensor(np.array([5.0, 6.0], "float32"))
    assert norm(ndl.Tensor(np.array([[1, 1], [1, 1]], "float32"))).numpy().tolist() == [[5, 6], [5, 6]]


def test_losses_give_the_dtype_of_the_input_whatever_the_target():
    for target in (np.zeros(3), np.zeros(3, int), ndl.Tensor(np.zeros(3))):
        assert nn.MSELoss()(ndl.ones(3), target).dtype == "float32"


# --- modules ---------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """Modules and parameters in every kind of place."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 3)
        self.own = nn.Parameter(ndl.ones(2))
        self.plain = ndl.ones(9)
        self.layers = [nn.Linear(3, 3, bias=False), {"deep": (nn.BatchNorm1d(3), nn.ReLU())}]
        self.again = self.first
        self.blocks = nn.ModuleList([nn.Linear(3, 1, bias=False)])
        self.heads = nn.ModuleDict({"a": nn.Linear(3, 1, bias=False)})

    def forward(self, x):
        for layer in (self.first, self.layers[0], *self.layers[1]["deep"]):
            x = layer(x)
        return self.blocks[0](x) + self.heads["a"](x)


NAMES = [
    "first.weight", "first.bias", "own", "layers.0.weight", "layers.1.deep.0.weight", "layers.1.deep.0.bias",
    "blocks.0.weight", "heads.a.weight",
]  # fmt: skip
BUFFERS = ["layers.1.deep.0.running_mean", "layers.1.deep.0.running_var"]


def test_parameters_are_found_in_the_order_of_the_attributes_each_once():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert type(net.parameters()) is list
    assert net.parameters()[:3] == [net.first.weight, net.first.bias, net.own]
    assert all(type(p) is nn.Parameter for p in net.parameters())


def test_tied_weights_are_one_parameter():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    assert net.load_state_dict(net.state_dict()) == ([], [])
    assert net[1].weight is net[0].weight


def test_modules_children_and_buffers_have_names():
    net = Net()
    assert [name for name, _ in net.named_modules()] == [
        "", "first", "layers.0", "layers.1.deep.0", "layers.1.deep.1", "blocks", "blocks.0", "heads", "heads.a",
    ]  # fmt: skip
    assert [name for name, _ in net.named_children()] == [
        "first", "layers.0", "layers.1.deep.0", "layers.1.deep.1", "again", "blocks", "heads",
    ]  # fmt: skip
    assert net.children()[0] is net.first
    assert [name for name, _ in net.named_buffers()] == BUFFERS


def test_eval_and_train_reach_modules_in_lists_and_dicts():
    net = Net()
    assert net.eval() is net
    assert [m.training for _, m in net.named_modules()] == [False] * 9
    net.train()
    assert [m.training for _, m in net.named_modules()] == [True] * 9


def test_modules_that_refer_to_each_other_end():
    a, b = nn.Sequential(nn.Linear(1, 1)), nn.Identity()
    a.friend, b.friend = b, a
    assert len(a.parameters()) == 2 and len(list(b.named_modules())) == 3


def test_a_module_without_init_of_its_base_works():
    class Careless(nn.Module):
        def __init__(self):
            self.inner = nn.Dropout()

    module = Careless()
    assert module.training and not module.eval().inner.training


def test_a_typo_is_an_attribute_error():
    layer = nn.Linear(2, 2)
    with pytest.raises(AttributeError, match="wieght"):
        layer.wieght  # noqa: B018
    with pytest.raises(NotImplementedError, match=r"Module has no forward\(\.\.\.\)"):
        nn.Module()(1)


def test_apply_visits_the_inner_modules_first():
    seen, net = [], nn.Sequential(nn.Linear(1, 1), nn.Residual(nn.ReLU()))
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert seen == ["ReLU", "Residual", "Linear", "Sequential"]


def test_requires_grad_freezes_the_parameters():
    net = Net()
    net.first.requires_grad_(False)
    net(ndl.ones(4, 2)).sum().backward()
    assert net.first.weight.grad is None and net.layers[0].weight.grad is not None
    net.requires_grad_()
    assert all(p.requires_grad for p in net.parameters())


def test_repr_is_a_tree_with_the_settings():
    assert repr(nn.Linear(2, 3)) == "Linear(in_features=2, out_features=3)"
    assert repr(nn.Linear(2, 3, bias=False)) == "Linear(in_features=2, out_features=3, bias=None)"
    assert repr(nn.BatchNorm1d(3, momentum=0.2)) == "BatchNorm1d(dim=3, momentum=0.2)"
    assert repr(nn.CrossEntropyLoss(weight=[1.0, 2.0], reduction="sum")) == "CrossEntropyLoss(reduction='sum')"
    net = nn.Sequential(nn.Residual(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1))), nn.ReLU())
    assert repr(net) == (
        "Sequential(\n"
        "  (0): Residual(\n"
        "    (fn): Sequential(\n"
        "      (0): Linear(in_features=2, out_features=2)\n"
        "      (1): Dropout(p=0.1)\n"
        "    )\n"
        "  )\n"
        "  (1): ReLU()\n"
        ")"
    )


def test_sequential_is_indexed_and_counted():
    net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    assert type(net.modules) is tuple and net.modules[1] is net[1] and len(net) == 3
    assert list(net) == list(net.modules) and isinstance(net[1:], nn.Sequential) and net[1:][1] is net[2]


def test_module_list_is_a_list():
    a, b, c = nn.ReLU(), nn.Tanh(), nn.Identity()
    layers = nn.ModuleList([a]).append(c)
    layers.insert(1, b)
    assert list(layers) == [a, b, c] and len(layers) == 3 and list(layers[1:]) == [b, c]
    layers[0] = c
    del layers[1]
    assert list(layers) == [c, c]


def test_module_dict_is_a_dict():
    a, b = nn.ReLU(), nn.Tanh()
    heads = nn.ModuleDict({"a": a})
    heads["b"] = b
    assert list(heads) == list(heads.keys()) == ["a", "b"] and list(heads.values()) == [a, b]
    assert "a" in heads and len(heads) == 2 and dict(heads.items()) == {"a": a, "b": b}
    del heads["a"]
    assert list(heads) == ["b"]


# --- state -----------------------------------------------------------------------------------------------------


def test_state_goes_round_and_is_copied_both_ways():
    one, other = Net(), Net()
    one(ndl.Tensor(distinct(5, 2).astype("float32")))
    state = one.state_dict()
    assert list(state) == NAMES + BUFFERS
    assert not any(tensor.requires_grad for tensor in state.values())
    assert other.load_state_dict(state) == ([], [])
    x = ndl.Tensor(distinct(4, 2).astype("float32"))
    np.testing.assert_array_equal(one.eval()(x).numpy(), other.eval()(x).numpy())
    before = state["own"].numpy()
    for tensor in (one.own, other.own):
        tensor.cached_data[:] = 7
        np.testing.assert_array_equal(state["own"].numpy(), before)


def test_loading_keeps_the_tensors_themselves():
    net = Net()
    own = [*net.parameters(), net.layers[1]["deep"][0].running_mean]
    net.load_state_dict({name: tensor.numpy() + 1 for name, tensor in net.state_dict().items()})
    now = [*net.parameters(), net.layers[1]["deep"][0].running_mean]
    assert all(a is b for a, b in zip(now, own, strict=True))
    assert net.own.numpy().tolist() == [2, 2] and net.own.requires_grad


def test_all_that_does_not_fit_is_told_at_once_and_nothing_is_loaded():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    before, state = net.state_dict(), net.state_dict()
    del state["0.bias"], state["1.running_var"]
    state |= {"1.weight": np.ones(4, "float32"), "1.bias": np.ones(3), "2.weight": np.ones(1), "extra": np.ones(1)}
    state["0.weight"] = state["0.weight"] + 1
    with pytest.raises(ValueError) as caught:
        net.load_state_dict(state)
    assert str(caught.value) == (
        "load_state_dict: these do not fit Sequential, so nothing was loaded:\n"
        "  missing: 0.bias, (1, 3) float32\n"
        "  missing: 1.running_var, (3,) float32\n"
        "  unexpected: 2.weight\n"
        "  unexpected: extra\n"
        "  wrong: 1.weight is (4,) float32, wanted (3,) float32\n"
        "  wrong: 1.bias is (3,) float64, wanted (3,) float32"
    )
    for name, tensor in net.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), before[name].numpy())


def test_not_strict_forgives_names_but_not_shapes():
    net = nn.Linear(2, 3)
    given = {"bias": np.ones((1, 3), "float32"), "more": np.ones(1)}
    assert net.load_state_dict(given, strict=False) == (["weight"], ["more"])
    assert net.bias.numpy().tolist() == [[1, 1, 1]]
    with pytest.raises(ValueError, match=r"wrong: bias is \(3,\) float32, wanted \(1, 3\) float32"):
        net.load_state_dict({"bias": np.ones(3, "float32")}, strict=False)


def test_buffers_are_told_by_their_names_alone():
    class Scaled(nn.Module):
        buffer_names = ("scale", "none")

        def __init__(self):
            super().__init__()
            self.scale, self.none, self.scratch = ndl.ones(2), None, ndl.ones(3)

    assert list(Scaled().state_dict()) == ["scale"] and Scaled().parameters() == []


def test_two_tensors_of_one_name_are_an_error():
    net = nn.Sequential()
    net.table = {1: nn.Parameter(ndl.ones(1)), "1": nn.Parameter(ndl.ones(1))}
    with pytest.raises(ValueError, match=r"two tensors have the name 'table.1'; rename one attribute"):
        net.state_dict()


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"])
def test_modules_are_copied_and_pickled(again):
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.5, ndl.Generator(1)))
    twin, x = again(net), ndl.ones(4, 2)
    assert [name for name, _ in twin.named_parameters()] == [name for name, _ in net.named_parameters()]
    np.testing.assert_array_equal(twin(x).numpy(), net(x).numpy())
    assert twin[0].weight is not net[0].weight and type(twin[0].weight) is nn.Parameter


# --- summary ---------------------------------------------------------------------------------------------------


def test_summary_is_a_table_of_shapes_and_counts():
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 1200), nn.BatchNorm1d(1200), nn.Residual(nn.Dropout()))
    net[1].bias.requires_grad_(False)
    before, statistics = np.random.get_state()[2], net[2].running_mean.numpy()
    found = nn.summary(net, (4, 2, 3))
    assert str(found) == (
        "layer               output     parameters\n"
        "-----------------------------------------\n"
        "Sequential          (4, 1200)           -\n"
        "  (0): Flatten      (4, 6)              -\n"
        "  (1): Linear       (4, 1200)       8,400\n"
        "  (2): BatchNorm1d  (4, 1200)       2,400\n"
        "  (3): Residual     (4, 1200)           -\n"
        "    (fn): Dropout   (4, 1200)           -\n"
        "-----------------------------------------\n"
        "10,800 parameters, 9,600 of them trainable; 2,400 in buffers"
    )
    assert found.parameters == sum(row.parameters for row in found.rows) == 10800
    assert np.random.get_state()[2] == before and (net[2].running_mean.numpy() == statistics).all()
    assert all(m.training and "forward" not in vars(m) for _, m in net.named_modules())


def test_summary_tells_of_shared_and_of_unused_layers():
    shared = nn.Linear(3, 3)
    net = nn.Sequential(shared, nn.Tanh(), shared)
    net.unused = nn.Linear(2, 2)
    text = str(nn.summary(net, (1, 3)))
    assert re.search(r"\(0\): Linear +\(1, 3\) in 2 calls +12", text) and re.search(
        r"\(unused\): Linear +not run", text
    ), text
    assert "18 parameters" in text


def test_summary_takes_a_tensor_and_restores_what_it_changed():
    net = nn.Sequential(nn.Embedding(4, 2), nn.Dropout()).train()
    net[1].eval()
    assert nn.summary(net, ndl.Tensor([[3, 1, 2]])).rows[1].output == (1, 3, 2)
    with pytest.raises(IndexError):
        nn.summary(net, ndl.Tensor([9]))
    assert [m.training for _, m in net.named_modules()] == [True, True, False]
    assert not any("forward" in vars(m) for _, m in net.named_modules())


def test_summary_records_nothing():
    class Probe(nn.Module):
        def forward(self, x):
            self.recording = ndl.is_grad_enabled()
            return x

    probe = Probe()
    nn.summary(probe, (1, 2))
    assert not probe.recording


# --- bad input -------------------------------------------------------------------------------------------------

X = ndl.ones(4, 3)
LINEAR = "Linear(in_features=3, out_features=2)"
BAD = [
    (lambda: nn.Linear(3, 2)(ndl.ones(4, 5)), ValueError, f"{LINEAR}: wanted an input of shape (..., 3), got (4, 5)"),
    (lambda: nn.Linear(3, 2)(ndl.Tensor(1.0)), ValueError, f"{LINEAR}: wanted an input of shape (..., 3), got ()"),
    (lambda: nn.Linear(6, 2)(ndl.ones(4, 3, 2)), ValueError, "got (4, 3, 2); nn.Flatten() before it would fit"),
    (lambda: nn.Linear(0, 2), ValueError, "Linear: in_features must be at least 1, got 0"),
    (lambda: nn.Linear(3, 2.0), TypeError, "Linear: out_features must be a whole number, got 2.0"),
    (lambda: nn.Flatten()(ndl.Tensor(1.0)), ValueError, "Flatten: wanted a batch of something, got a 0-d Tensor"),
    (lambda: nn.Dropout(1.5), ValueError, "Dropout: p must be between 0 and 1, got 1.5"),
    (lambda: nn.Dropout(-0.1), ValueError, "Dropout: p must be between 0 and 1, got -0.1"),
    (lambda: nn.Dropout(math.nan), ValueError, "Dropout: p must be between 0 and 1, got nan"),
    (lambda: nn.Dropout("half"), TypeError, "Dropout: p must be a number between 0 and 1, got 'half'"),
    (lambda: nn.BatchNorm1d(3)(ndl.ones(1, 3)), ValueError,
     "BatchNorm1d(dim=3): a batch of 1 has no variance to train with; use larger batches, drop the last one, or call"),
    (lambda: nn.BatchNorm1d(3)(ndl.ones(4, 2)), ValueError,
     "BatchNorm1d(dim=3): wanted an input of shape (batch, 3), got (4, 2)"),
    (lambda: nn.BatchNorm1d(3)(ndl.ones(2, 4, 3)), ValueError, "wanted an input of shape (batch, 3), got (2, 4, 3)"),
    (lambda: nn.BatchNorm1d(3, momentum=2), ValueError, "BatchNorm1d: momentum must be between 0 and 1, got 2"),
    (lambda: nn.BatchNorm1d(3, eps=-1), ValueError, "BatchNorm1d: eps must be at least 0, got -1"),
    (lambda: nn.LayerNorm1d(3)(ndl.ones(4, 2)), ValueError, "LayerNorm1d(dim=3): wanted an input of shape (batch, 3)"),
    (lambda: nn.LayerNorm((2, 3))(ndl.ones(4, 3, 2)), ValueError,
     "LayerNorm(normalized_shape=(2, 3)): wanted an input of shape (..., 2, 3), got (4, 3, 2)"),
    (lambda: nn.LayerNorm(()), ValueError, "LayerNorm: normalized_shape must name at least one axis, got ()"),
    (lambda: nn.RMSNorm(3)(ndl.ones(3, 1)), ValueError,
     "RMSNorm(normalized_shape=(3,)): wanted an input of shape (..., 3), got (3, 1)"),
    (lambda: nn.Embedding(5, 2)(ndl.Tensor([[1, 7], [5, -1]])), IndexError,
     "Embedding(num_embeddings=5, embedding_dim=2): token 7 is out of range, wanted 0 to 4"),
    (lambda: nn.Embedding(5, 2)(ndl.Tensor([5, -4])), IndexError, "token -4 is out of range, wanted 0 to 4"),
    (lambda: nn.Embedding(5, 2)(ndl.Tensor([0, -1])), IndexError, "token -1 is out of range, wanted 0 to 4"),
    (lambda: nn.Embedding(5, 2)(ndl.Tensor([0, 5])), IndexError, "token 5 is out of range, wanted 0 to 4"),
    (lambda: nn.Embedding(5, 2)(ndl.Tensor([0.5])), TypeError, "tokens must be whole numbers, got [0.5]"),
    (lambda: nn.Embedding(5, 2)(ndl.Tensor([True])), TypeError, "tokens must be whole numbers, got [ True]"),
    (lambda: nn.GELU("fast"), ValueError, "GELU: approximate must be one of 'none', 'tanh', got 'fast'"),
    (lambda: nn.Residual(nn.Linear(3, 1))(X), ValueError, "Residual: fn made (4, 1) of (4, 3), wanted the same shape"),
    (lambda: nn.Sequential([nn.ReLU()]), TypeError,
     "Sequential: 0 is a list, wanted a Module; unpack it: *layers"),
    (lambda: nn.Sequential(nn.ReLU(), nn.Tanh), TypeError, "1 is a type, wanted a Module; make one: Tanh(...)"),
    (lambda: nn.ModuleList([abs]), TypeError, "ModuleList: 0 is a builtin_function_or_method, wanted a Module"),
    (lambda: nn.ModuleDict({"a.b": nn.ReLU()}), ValueError, "ModuleDict: a name must be text without a dot, got 'a.b'"),
    (lambda: nn.ModuleList()(1), NotImplementedError, "ModuleList has no forward"),
    (lambda: nn.summary(3, (1, 2)), TypeError, "summary: wanted a Module, got int"),
    (lambda: nn.MSELoss("average"), ValueError,
     "MSELoss: reduction must be one of 'mean', 'sum', 'none', got 'average'"),
    (lambda: nn.KLDivLoss("batch"), ValueError, "one of 'mean', 'sum', 'none', 'batchmean', got 'batch'"),
    (lambda: nn.CrossEntropyLoss(reduction=None), ValueError, "CrossEntropyLoss: reduction must be one of"),
    (lambda: nn.CrossEntropyLoss(label_smoothing=2), ValueError,
     "CrossEntropyLoss: label_smoothing must be between 0 and 1, got 2"),
    (lambda: nn.HuberLoss(delta=0), ValueError, "HuberLoss: delta must be above 0, got 0"),
    (lambda: nn.MSELoss()(ndl.ones(4, 1), np.ones(4)), ValueError,
     "MSELoss: input is (4, 1), target (4,), wanted one shape; reshape one to (4,)"),
    (lambda: nn.L1Loss()(ndl.Tensor([1]), np.ones(1)), TypeError,
     "L1Loss: wanted an input of floats, got int64; use .astype('float32')"),
    (lambda: nn.L1Loss()(ndl.ones(2), [1, 2]), TypeError, "L1Loss: wanted a Tensor, an array or a number"),
    (lambda: nn.SoftmaxLoss()(X, np.array([0, 1, 3, 0])), IndexError,
     "label 3 is out of range for 3 classes (0 to 2)"),
    (lambda: nn.CrossEntropyLoss()(X, np.array([0, -1, 1, 0])), IndexError, "label -1 is out of range for 3 classes"),
    (lambda: nn.CrossEntropyLoss(label_smoothing=0.1)(X, np.array([0, 5, 1, 0])), IndexError,
     "label 5 is out of range for 3 classes"),
    (lambda: nn.NLLLoss()(X, np.array([0, 1, 3, 0])), IndexError, "label 3 is out of range for 3 classes (0 to 2)"),
    (lambda: nn.CrossEntropyLoss()(X, np.array([0, 1])), ValueError,
     "CrossEntropyLoss: labels of shape (2,) do not go with (4, 3), wanted (4,)"),
    (lambda: nn.NLLLoss(weight=np.ones(2))(X, np.zeros(4, int)), ValueError,
     "NLLLoss: weight has shape (2,), wanted (3,)"),
    (lambda: nn.KLDivLoss("batchmean")(ndl.Tensor(1.0), np.array(1.0)), ValueError, "wants a batch axis"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "words"), BAD, ids=[words[:60] for _, _, words in BAD])
def test_bad_input_is_told(call, kind, words):
    with pytest.raises(kind) as caught:
        call()
    assert words in str(caught.value)


def test_bad_input_names_the_line_that_made_it():
    with ndl.record_sites():
        x = ndl.ones(4, 5)
        with pytest.raises(
            ValueError, match=r"got \(4, 5\)\n  argument 0 was made at .*test_nn.py:\d+: x = ndl.ones\(4, 5\)"
        ):
            nn.Linear(3, 2)(x)


# --- numbers that are hard -------------------------------------------------------------------------------------


def test_losses_are_stable_for_logits_of_any_size():
    x = ndl.Tensor(np.array([[1000.0, -1000.0], [-1000.0, 1000.0]], "float32"))
    with np.errstate(over="raise", invalid="raise"):
        assert nn.BCEWithLogitsLoss(reduction="none")(x, np.eye(2)).numpy().tolist() == [[0, 0], [0, 0]]
        assert nn.BCEWithLogitsLoss(reduction="sum")(x, 1 - np.eye(2)).item() == 4000
        assert nn.CrossEntropyLoss(reduction="none")(x, np.array([0, 0])).numpy().tolist() == [0, 2000]
        assert nn.CrossEntropyLoss(reduction="sum", label_smoothing=0.5)(x, np.array([0, 0])).item() == 2000
    x.grad = None
    nn.BCEWithLogitsLoss(reduction="sum")(x, 1 - np.eye(2)).backward()
    assert x.grad.numpy().tolist() == [[1, -1], [-1, 1]]


def test_a_masked_class_costs_nothing_elsewhere():
    """−∞ as a logit, as in masking: no NaN, neither in the loss nor in the gradient."""
    x = ndl.Tensor(np.array([[0.0, 0.0, -np.inf]]))
    for loss in (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(weight=np.ones(3)), nn.SoftmaxLoss()):
        y = loss(x, np.array([1]))
        y.backward()
        np.testing.assert_allclose(y.item(), np.log(2))
        np.testing.assert_allclose(x.grad.numpy(), [[0.5, -0.5, 0]])
    y = nn.NLLLoss()(x - 1, np.array([1]))
    assert y.item() == 1


def test_divergence_takes_a_zero_share():
    p, log_q = ndl.Tensor(np.array([[0.0, 1.0]])), ndl.Tensor(np.log([[0.5, 0.5]]))
    loss = nn.KLDivLoss("batchmean")(log_q, p)
    loss.backward()
    np.testing.assert_allclose(loss.item(), np.log(2))
    assert log_q.grad.numpy().tolist() == [[0, -1]]
    np.testing.assert_allclose(p.grad.numpy(), [[0, 1 + np.log(2)]])


# --- all together ----------------------------------------------------------------------------------------------


def alive():
    gc.collect()
    return sum(issubclass(type(thing), ndl.Value) for thing in gc.get_objects())


def test_a_network_learns_and_no_graph_piles_up():
    net = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 2))
    x = ndl.Tensor(distinct(32, 2).astype("float32"), requires_grad=False)
    labels = (x.numpy()[:, 0] * x.numpy()[:, 1] > 0).astype("uint8")
    optimizer, losses, counts = ndl.optim.SGD(net.parameters(), lr=0.3), [], []
    for _ in range(300):
        loss = nn.SoftmaxLoss()(net(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if len(losses) in (10, 300):
            counts.append(alive())
    assert losses[-1] < 0.5 * losses[0]
    assert counts[0] == counts[1]
    assert (net.eval()(x).numpy().argmax(1) == labels).mean() > 0.9


def test_a_summary_leaves_a_forward_of_ones_own():
    model = nn.Sequential(nn.Linear(3, 2))
    model.forward = lambda x: x * 0 + 7
    nn.summary(model, (1, 3))
    assert (model(ndl.ones(1, 3)).numpy() == 7).all() and model.training
