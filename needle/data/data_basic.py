"""Dataset, what can be asked for item i; DataLoader, its items in batches of tensors."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from operator import index as whole_number
from threading import Thread
from typing import Any, NamedTuple

import numpy as np

from ..autograd import Tensor
from ..backend_numpy import checked_state
from ..backend_selection import default_device
from .data_collate import stack_items
from .data_transforms import drawing_from, transform_list

__all__ = ["DataLoader", "Dataset", "order_source", "take_at_once"]


class Dataset:
    """Items by number: subclasses write `__getitem__(i)`, one item's fields in a tuple, and `__len__()`."""

    transforms: Sequence[Callable] = ()  # for subclasses that do not call __init__

    def __init__(self, transforms: Any = None):
        self.transforms = transform_list(transforms, type(self).__name__)

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no __getitem__(i)")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} has no __len__()")

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def apply_transforms(self, x: Any) -> Any:
        """`x` after all transforms, the first one first."""
        for transform in self.transforms:
            x = transform(x)
        return x

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...] | None:
        """What stacking these items would give, read in one go, in new arrays; None where that cannot be done.

        For subclasses whose items lie in arrays: a DataLoader asks here first.
        """
        return None


def take_at_once(dataset: Any, indices: np.ndarray) -> tuple[np.ndarray, ...] | None:
    """`dataset.take(indices)`, where the class that wrote `take` has the last word on what an item is.

    None for a dataset without `take`, and for one of a subclass that since changed `__getitem__` or the transforms.
    """
    for cls in type(dataset).__mro__:
        if not vars(cls).keys().isdisjoint(("take", "__getitem__", "apply_transforms")):
            return dataset.take(indices) if "take" in vars(cls) else None
    return None


class DataLoader:
    """The items of `dataset` in batches: tuples of Tensors, one a field, the items along the first axis.

    Each `iter(loader)` begins a new epoch, drawing one permutation(n) where `shuffle` is on, from `generator` or
    NumPy's global one. The last batch may be smaller, unless `drop_last`. `collate(items)` makes a batch instead of
    stacking; the arrays in the tuple that it gives become Tensors on `device`. `prefetch=k` reads k batches ahead, each
    in a thread of its own, which also sends them to a GPU by way of pinned memory while the GPU works; then each item's
    transforms draw from a generator of the item's own (`random_source`).
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        generator: Any = None,
        drop_last: bool = False,
        collate: Callable[[list], Any] | None = None,
        device: Any = None,
        prefetch: int = 0,
    ):
        self.dataset, self.shuffle, self.drop_last, self.collate = dataset, shuffle, drop_last, collate
        self.batch_size = _at_least(1, "batch_size", batch_size)
        self.prefetch = _at_least(0, "prefetch", prefetch)
        self.generator, self.device = generator, _device(device)
        order_source(generator, "DataLoader")
        self._check_length(_length(dataset))
        self._order = np.arange(0)  # the items' numbers in this epoch; none before the first one
        self._position = 0  # batches handed out in this epoch
        self._within = self._resumed = False
        self._item_key: int | None = None
        self._dtypes: tuple | None = None
        self._ahead: deque[_Reading] = deque()

    def __len__(self) -> int:
        """The number of batches in a whole epoch."""
        return self._batches(_length(self.dataset))

    def __iter__(self) -> DataLoader:
        self._stop_reading()
        if not self._resumed:
            n = self._check_length(_length(self.dataset))
            source = order_source(self.generator, "DataLoader")
            self._order = _permutation(source, n) if self.shuffle else np.arange(n)
            self._item_key = _drawn_key(source) if self.prefetch else None
            self._position = 0
        self._resumed, self._within, self._dtypes = False, True, None
        return self

    def __next__(self) -> Any:
        if not len(self._order):
            raise RuntimeError("DataLoader: no epoch has begun; write `for batch in loader`, or iter(loader) first")
        if not self._within or self._position >= self._batches(len(self._order)):
            self._stop_reading()
            self._within = False
            raise StopIteration
        try:
            batch = self._on_device(self._prefetched() if self.prefetch else self._read(self._position))
        except StopIteration as error:  # let through, it would pass for the end of the epoch
            self._stop_reading()
            raise RuntimeError("DataLoader: reading an item raised StopIteration") from error
        except BaseException:  # of the dataset, or the caller's Ctrl-C while waiting
            self._stop_reading()
            raise
        self._position += 1
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is: with it `load_state_dict` goes on with the same remaining batches.

        NumPy's global generator is not in it: what draws from that keeps it, together with this.
        """
        return {
            "items": _length(self.dataset),
            "batch_size": self.batch_size,
            "batch": self._position if self._within else None,
            "order": self._order.copy() if self._within and self.shuffle else None,
            "item_key": self._item_key if self._within else None,
            "generator": _state_of(self.generator),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a position: the next `iter(loader)` gives the batches that were left of that epoch.

        ValueError where the state is of another dataset length, batch size or kind of loader; nothing is changed then.
        """
        self._check_state(state)
        self._stop_reading()
        _set_state(self.generator, state["generator"])
        self._within = self._resumed = state["batch"] is not None
        self._order = np.arange(0)
        if self._within:
            self._order = np.array(state["order"], np.intp) if self.shuffle else np.arange(state["items"])
            self._position, self._item_key, self._dtypes = state["batch"], state["item_key"], None

    def _batches(self, n: int) -> int:
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def _check_length(self, n: int) -> int:
        if n == 0:
            raise ValueError("DataLoader: the dataset is empty, wanted at least one item")
        if self._batches(n) == 0:
            raise ValueError(
                f"DataLoader: drop_last leaves no batch of {self.batch_size} from {n} items; "
                "take a smaller batch_size, or drop_last=False"
            )
        return n

    def _read(self, position: int, reading: _Reading | None = None) -> Any:
        """Batch `position` as arrays, or what `collate` makes of its items. Runs in any thread."""
        indices = self._order[position * self.batch_size : (position + 1) * self.batch_size]
        at_once = take_at_once(self.dataset, indices) if self.collate is None else None
        if at_once is not None:
            return at_once
        items = []
        for i in indices.tolist():
            if reading is not None and reading.unwanted:
                return None
            items.append(_item(self.dataset, i, self._item_key))
        return stack_items(items, indices) if self.collate is None else self.collate(items)

    def _prefetched(self) -> Any:
        """The next batch of those being read; while the caller works on it, the ones after it are read."""
        self._read_ahead(self._position)
        batch = self._ahead[0].result()
        self._ahead.popleft()
        self._read_ahead(self._position + 1)
        return batch

    def _read_ahead(self, position: int) -> None:
        """Have `prefetch` batches being read from `position` on, where `_ahead` begins."""
        end = min(position + self.prefetch, self._batches(len(self._order)))
        for later in range(position + len(self._ahead), end):
            self._ahead.append(_Reading(self._read_and_send, later))

    def _read_and_send(self, position: int, reading: _Reading) -> Any:
        """`_read`, and its arrays on their way to a device that takes them beside its work."""
        batch = self._read(position, reading)
        send = getattr(self.device, "send", None)
        if send is None or not isinstance(batch, (tuple, list)):
            return batch
        return tuple(_Sent(send(field), field.dtype) if _is_numeric(field) else field for field in batch)

    def _stop_reading(self) -> None:
        for reading in self._ahead:
            reading.unwanted = True
        self._ahead.clear()

    def _on_device(self, batch: Any) -> Any:
        if self.collate is None:
            self._check_dtypes(tuple(field.dtype for field in batch))
        if not isinstance(batch, (tuple, list)):
            return batch
        return tuple(self._tensor(field) for field in batch)

    def _tensor(self, field: Any) -> Any:
        if isinstance(field, _Sent):
            return Tensor.make_const(field.array)
        return Tensor.make_const(self.device.batch(field)) if _is_numeric(field) else field

    def _check_dtypes(self, dtypes: tuple) -> None:
        if self._dtypes is None:
            for place, dtype in enumerate(dtypes):
                if dtype.kind not in "biuf":
                    raise TypeError(
                        f"DataLoader: field {place} has dtype {dtype}, wanted numbers or booleans; "
                        "turn it into numbers, or give a collate= of your own"
                    )
            self._dtypes = dtypes
        if self._dtypes != dtypes:
            raise ValueError(
                f"DataLoader: batch {self._position} has fields of {_said(dtypes)}, those before had "
                f"{_said(self._dtypes)}; an item's fields must have one dtype throughout"
            )

    def _check_state(self, state: dict[str, Any]) -> None:
        wanted = {"items", "batch_size", "batch", "order", "item_key", "generator"}
        if not isinstance(state, dict) or set(state) != wanted:
            met = sorted(state) if isinstance(state, dict) else type(state).__name__
            raise ValueError(f"DataLoader: a state has the entries {sorted(wanted)}, got {met}")
        for name, mine in (("items", _length(self.dataset)), ("batch_size", self.batch_size)):
            if state[name] != mine:
                raise ValueError(f"DataLoader: the state is of {name} {state[name]}, this loader has {mine}")
        if (state["generator"] is None) != (self.generator is None):
            raise ValueError("DataLoader: the state is of a loader " + _with("generator=", state["generator"]))
        if state["batch"] is None:
            return
        if (state["item_key"] is None) != (self.prefetch == 0):
            raise ValueError("DataLoader: the state is of a loader " + _with("prefetch", state["item_key"]))
        if (state["order"] is None) == self.shuffle:
            raise ValueError("DataLoader: the state is of a loader " + _with("shuffle", state["order"]))
        if not 0 <= state["batch"] <= len(self):
            raise ValueError(f"DataLoader: the state is at batch {state['batch']}, an epoch has {len(self)}")
        if self.shuffle and not np.array_equal(np.sort(state["order"]), np.arange(state["items"])):
            raise ValueError("DataLoader: the state's order is no permutation of the items, it is damaged")


class _Sent(NamedTuple):
    """A field of a batch that is on its device already."""

    array: Any
    dtype: Any


class _Reading:
    """One batch that is being read in a thread of its own, which ends with it: none is left waiting for work."""

    def __init__(self, read: Callable[[int, _Reading], Any], position: int):
        self.unwanted = False
        self._read, self._position = read, position
        self._batch: Any = None
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name=f"needle-batch-{position}")
        self._thread.start()

    def result(self) -> Any:
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._batch

    def _run(self) -> None:
        try:
            self._batch = self._read(self._position, self)
        except BaseException as error:  # whatever it is, it belongs to the caller
            self._error = error


def _item(dataset: Any, i: int, key: int | None) -> Any:
    if key is None:
        return dataset[i]
    # Philox is made for this: each key is a stream of its own, and starting one is cheap.
    with drawing_from(np.random.RandomState(np.random.Philox(key=np.array([key, i], np.uint64)))):
        return dataset[i]


def order_source(generator: Any, owner: str) -> Any:
    """What orders are drawn from: `generator`, or NumPy's global one. TypeError for what has no permutation(n)."""
    source = np.random if generator is None else generator
    if not callable(getattr(source, "permutation", None)):
        raise TypeError(
            f"{owner}: generator must have permutation(n), got {type(source).__name__}; "
            "give numpy.random.default_rng(seed), for example"
        )
    return source


def _device(device: Any) -> Any:
    if device is not None and not hasattr(device, "share"):
        raise TypeError(f"DataLoader: device must be a device such as ndl.cpu() or ndl.cuda(), got {device!r}")
    return default_device() if device is None else device


def _is_numeric(field: Any) -> bool:
    return isinstance(field, np.ndarray) and field.dtype.kind in "biuf"


def _permutation(source: Any, n: int) -> np.ndarray:
    return np.asarray(source.permutation(n), np.intp)


def _drawn_key(source: Any) -> int:
    """64 random bits from a generator that only need have `permutation`: the orders of 32 things number 2^117."""
    return int(np.random.SeedSequence(_permutation(source, 32).tolist()).generate_state(1, np.uint64)[0])


def _state_of(generator: Any) -> Any:
    if generator is None:
        return None
    if hasattr(generator, "state"):  # needle's own
        return generator.state
    if hasattr(generator, "bit_generator"):
        return generator.bit_generator.state
    if hasattr(generator, "get_state"):
        return generator.get_state(legacy=False)
    raise TypeError(f"DataLoader: cannot save the state of a {type(generator).__name__}; give it a property `state`")


def _set_state(generator: Any, state: Any) -> None:
    if hasattr(generator, "state"):
        generator.state = state
    elif hasattr(generator, "bit_generator"):
        generator.bit_generator.state = state
    elif generator is not None:
        generator.set_state(checked_state(state))


def _length(dataset: Any) -> int:
    try:
        return len(dataset)
    except TypeError:
        met = type(dataset).__name__
        raise TypeError(f"DataLoader: wanted a dataset with len() and items by number, got a {met}") from None


def _at_least(least: int, name: str, value: Any) -> int:
    try:
        number = whole_number(value)
    except TypeError:
        raise TypeError(f"DataLoader: {name} must be a whole number, got {value!r}") from None
    if number < least:
        raise ValueError(f"DataLoader: {name} must be at least {least}, got {number}")
    return number


def _with(feature: str, its_state: Any) -> str:
    had, has = ("without", "with") if its_state is None else ("with", "without")
    return f"{had} {feature}, this one is {has}"


def _said(dtypes: tuple) -> str:
    return "(" + ", ".join(str(dtype) for dtype in dtypes) + ")"
