"""Broken data code: the usual mistakes, each a small change to one function of needle.data.

The check named by a mutant must fail on it (tests/test_data_loading.py). A mutant is data: add one by adding a line.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from needle.data import (
    CIFAR10Dataset,
    Corpus,
    DataLoader,
    Dataset,
    MNISTDataset,
    NDArrayDataset,
    Normalize,
    RandomCrop,
    RandomFlipHorizontal,
    Subset,
    ToTensor,
    batchify,
    get_batch,
    random_source,
    random_split,
)
from needle.data import data_basic as basic
from needle.data import data_collate as collate
from needle.data.datasets import cifar10_dataset as cifar
from needle.data.datasets import plain_pickle


@dataclass(frozen=True)
class Mutant:
    """`function` with `new` where its source has `old`."""

    name: str
    function: Callable
    old: str
    new: str
    caught_by: str


@contextmanager
def broken(one: Mutant) -> Iterator[None]:
    """Within it the function runs the changed source."""
    source = textwrap.dedent(inspect.getsource(one.function))
    assert source.count(one.old) == 1, f"{one.name}: wanted {one.old!r} once in {one.function.__qualname__}"
    right = one.function.__code__
    # Within a function that has the same free names (of super(), that is), since code objects are swapped.
    inner = textwrap.indent(source.replace(one.old, one.new), "    ")
    outer = f"def outer({', '.join(right.co_freevars)}):\n{inner}\n    return {one.function.__name__}"
    space = dict(one.function.__globals__)
    exec(compile(outer, f"<{one.name}>", "exec"), space)
    one.function.__code__ = space["outer"](*right.co_freevars).__code__
    try:
        yield
    finally:
        one.function.__code__ = right


LOADER, SUBSET, MNIST, CIFAR = DataLoader, Subset, MNISTDataset, CIFAR10Dataset
CHUNKS = "test_batches_are_consecutive_chunks_with_the_partial_last_one"
FOLLOW = "test_labels_follow_images_when_shuffled"
ONE_DRAW = "test_shuffling_draws_one_permutation_an_epoch_and_nothing_else"
RESET = "test_iter_resets_and_returns_the_loader"
SLICED = "test_arrays_are_sliced_and_not_read_item_by_item"
DTYPES = "test_a_transform_that_changes_the_dtype_now_and_then_is_caught"
RESUMED = "test_a_loaders_position_is_saved_and_taken_up_to_the_bit"
APART = "test_with_prefetch_items_draw_apart_whatever_the_timing"
FLIP = "test_flip_changes_left_and_right_for_one_draw_below_p"
CROP = "test_crop_is_zero_padding_and_cutting_out_again"
NORMALIZE = "test_normalize_takes_the_channels_where_they_are"
TO_TENSOR = "test_to_tensor_puts_channels_first_and_divides_bytes"
ITEMS, ACCESS = "test_mnist_items_and_slices", "test_transforms_see_one_image_and_run_at_every_access"
SPLIT, PART = "test_random_split_parts_the_items", "test_a_subset_has_the_items_with_its_numbers"
NEXT, COLUMNS = "test_targets_are_the_next_words", "test_the_columns_of_batches_are_contiguous_text"
BINARY, TURNED = "test_cifar_reads_the_binary_version", "test_cifar_transforms_see_height_width_channels"

# fmt: off
MUTANTS = [Mutant(*row) for row in [
    # batches and their order
    ("labels do not follow images (arrays)", NDArrayDataset.take, "array[indices] for array in self.arrays",
     "array[np.sort(indices) if i else indices] for i, array in enumerate(self.arrays)", FOLLOW),
    ("labels do not follow images (MNIST)", MNIST.take, "labels[indices]", "labels[np.sort(indices)]", FOLLOW),
    ("labels do not follow images (subset)", SUBSET.take, "self.indices[indices]", "indices", FOLLOW),
    ("the last batch is dropped", LOADER._batches, "-(-n // self.batch_size)", "n // self.batch_size", CHUNKS),
    ("a batch too many", LOADER._batches, "-(-n // self.batch_size)", "n // self.batch_size + 1", CHUNKS),
    ("drop_last does nothing", LOADER._batches, "if self.drop_last", "if False",
     "test_drop_last_leaves_out_the_partial_batch_and_len_says_so"),
    ("batches overlap", LOADER._read, "(position + 1) * self.batch_size", "(position + 1) * self.batch_size + 1",
     CHUNKS),
    ("the permutation is drawn twice", LOADER.__iter__, "_permutation(source, n) if",
     "_permutation(source, _permutation(source, n).size) if", ONE_DRAW),
    ("one permutation for all epochs", LOADER.__iter__, "_permutation(source, n) if",
     "self._order if len(self._order) else _permutation(source, n) if", ONE_DRAW),
    ("a permutation in the constructor", LOADER.__init__, "self._position = 0",
     "np.random.permutation(3); self._position = 0", ONE_DRAW),
    ("a permutation without shuffling", LOADER.__iter__, "else np.arange(n)", "else np.sort(_permutation(source, n))",
     "test_without_shuffling_nothing_is_drawn"),
    ("the generator is not asked", LOADER.__iter__, "order_source(self.generator,", "order_source(None,",
     "test_a_generator_is_drawn_from_instead_of_the_global_one"),
    ("iter does not reset", LOADER.__iter__, "self._position = 0", "pass", RESET),
    ("iter gives another object", LOADER.__iter__, "return self", "return map(lambda _: next(self), range(9))", RESET),
    ("the dataset's own memory is handed out", LOADER._read, "take_at_once(self.dataset, indices) if",
     "self.dataset[position * self.batch_size : (position + 1) * self.batch_size] if",
     "test_writing_into_a_batch_leaves_the_dataset_alone"),
    ("a subclass's items are passed over", basic.take_at_once, 'if "take" in vars(cls) else None', "",
     "test_what_a_subclass_says_of_its_items_counts"),
    ("arrays are read item by item", basic.take_at_once, 'if "take" in vars(cls)', "if False", SLICED),
    ("MNIST is read item by item", MNIST.take, "None if self.transforms else", "None and", SLICED),
    ("CIFAR-10 is read item by item", CIFAR.take, "None if self.transforms else", "None and", SLICED),
    ("dtypes are promoted in silence", collate._stacked, "met != wanted", 'met != wanted and what == "shape"', DTYPES),
    ("dtypes change between batches", LOADER._check_dtypes, "if self._dtypes != dtypes", "if False", DTYPES),
    ("StopIteration ends the epoch", LOADER.__next__, "except StopIteration as error", "except KeyError as error",
     "test_stop_iteration_in_an_item_is_not_the_end_of_the_epoch"),
    # prefetch
    ("prefetched items draw from the global generator", basic._item, "if key is None", "if True", APART),
    ("prefetched items draw alike", basic._item, "[key, i]", "[key, 0]", APART),
    ("prefetched epochs draw alike", basic._drawn_key, "source, 32", "np.random.RandomState(0), 32", APART),
    ("transforms do not ask the item's source", random_source, "source is None", "True", APART),
    ("prefetch reads nothing ahead", LOADER._read_ahead, "position + self.prefetch", "position + 1",
     "test_prefetching_is_faster_where_the_transform_costs_something"),
    ("prefetched batches come twice", LOADER._read_ahead, "position + len(self._ahead)", "position",
     "test_prefetching_gives_the_same_batches_and_leaves_no_thread"),
    ("readers are not stopped", LOADER._stop_reading, "reading.unwanted = True", "pass",
     "test_a_new_epoch_tells_the_readers_of_the_old_one_to_stop"),
    ("a failed batch is passed over", LOADER.__next__, "raise\n", "self._position += 1; raise\n",
     "test_an_exception_of_a_reader_reaches_the_caller_and_leaves_no_thread"),
    # position
    ("a resumed epoch draws a new order", LOADER.load_state_dict, "self._within = self._resumed =", "self._within =",
     RESUMED),
    ("a resumed epoch skips a batch", LOADER.load_state_dict, '= state["batch"], state', '= state["batch"] + 1, state',
     RESUMED),
    ("the position counts what is read ahead", LOADER.state_dict, "self._position if",
     "self._position + len(self._ahead) if", RESUMED),
    ("the items' key is not kept", LOADER.load_state_dict, 'state["item_key"], None', "0, None", RESUMED),
    ("the generator's state is not kept", LOADER.load_state_dict, '_set_state(self.generator, state["generator"])',
     "pass", RESUMED),
    # transforms
    ("flip on the wrong axis", RandomFlipHorizontal.__call__, "img[:, ::-1]", "img[::-1]", FLIP),
    ("flip at a draw of p", RandomFlipHorizontal.__call__, "rand() < self.p", "rand() <= self.p", FLIP),
    ("flip with 1 - p", RandomFlipHorizontal.__call__, "rand() < self.p", "rand() >= self.p", FLIP),
    ("crop swaps x and y", RandomCrop.__call__, "sx, sy =", "sy, sx =", CROP),
    ("crop to the other side", RandomCrop.__call__, "int(sx)", "-int(sx)", CROP),
    ("crop never moves all the way", RandomCrop.__call__, "high=self.padding + 1", "high=max(self.padding, 1)", CROP),
    ("crop leaves what was there", RandomCrop.__call__, "np.zeros_like(img)", "img.copy()", CROP),
    ("transforms in reverse", Dataset.apply_transforms, "in self.transforms", "in self.transforms[::-1]",
     "test_transforms_run_in_the_order_of_their_list"),
    ("images divided by 256", ToTensor.__call__, "255", "256", TO_TENSOR),
    ("height and width change places", ToTensor.__call__, "2, 0, 1", "2, 1, 0", TO_TENSOR),
    ("mean added", Normalize._normalized, "x - self", "x + self", NORMALIZE),
    ("std multiplied", Normalize._normalized, ") / self", ") * self", NORMALIZE),
    ("channels of a Tensor taken last", Normalize.__call__, "x.numpy(), 0", "x.numpy(), -1", NORMALIZE),
    # parts
    ("a subset's items by the whole's numbers", SUBSET.__getitem__, "self.indices[index]", "index", PART),
    ("parts overlap", random_split, "order[start:stop]", "order[:stop]", SPLIT),
    ("parts in order", random_split, "order = np.asarray(", "order = np.sort(", SPLIT),
    # data sets
    ("MNIST multiplied by 1/255", MNIST.__init__, "np.divide(images[..., None], 255, dtype=np.float32)",
     "images[..., None] * np.float32(1 / 255)", ITEMS),
    ("MNIST in float64", MNIST.__init__, "dtype=np.float32", "dtype=np.float64", ITEMS),
    ("MNIST without its channel", MNIST.__init__, "images[..., None]", "images", ITEMS),
    ("transforms left out of slices", MNIST.__getitem__, "not chosen or not self.transforms", "True", ACCESS),
    ("transforms left out of batches", MNIST.take, "None if self.transforms else", "", ACCESS),
    ("CIFAR-10's label is a pixel", cifar._read_binary, "rows[:, 0]", "rows[:, 1] % 10", BINARY),
    ("CIFAR-10's files in another order", CIFAR.__init__, "for name in names if (path",
     "for name in names[::-1] if (path", "test_cifar_reads_the_five_training_files_in_order"),
    ("CIFAR-10's images lie on their side", CIFAR._transformed, "transpose(2, 0, 1)", "transpose(2, 1, 0)", TURNED),
    ("CIFAR-10's transforms see channels first", CIFAR._transformed, "image.transpose(1, 2, 0)", "image", TURNED),
    ("pickles may name anything", plain_pickle._Unpickler.find_class,
     'raise pickle.UnpicklingError(f"it names {module}.{name}, which is no plain data")',
     "return pickle.Unpickler.find_class(self, module, name)", "test_a_pickle_that_would_call_runs_nothing"),
    # text
    ("a line too many", Corpus.tokenize, "islice(file, max_lines)", "islice(file, max_lines and max_lines + 1)",
     "test_max_lines_are_so_many_of_each_file"),
    ("lines do not end", Corpus.tokenize, 'numbers.append(add("<eos>"))', "pass",
     "test_a_corpus_shares_one_dictionary_and_ends_lines"),
    ("rows are contiguous text", batchify, "reshape(batch_size, rows).T", "reshape(rows, batch_size)", COLUMNS),
    ("targets are the words themselves", get_batch, "batches[i + 1 : i + 1 + length]", "batches[i : i + length]", NEXT),
    ("targets column after column", get_batch, ".reshape(-1)", '.reshape(-1, order="F")', NEXT),
    ("the last row wants a follower", get_batch, "len(batches) - 1 - i", "len(batches) - i", NEXT),
]]
# fmt: on
