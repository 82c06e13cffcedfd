"""Transforms: functions of one item's image, put in a list and run in its order at every access."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from ..autograd import Tensor

__all__ = [
    "Compose",
    "Normalize",
    "RandomCrop",
    "RandomFlipHorizontal",
    "ToTensor",
    "Transform",
    "random_source",
    "transform_list",
]

_item_source: ContextVar[Any] = ContextVar("item_source", default=None)


def random_source() -> Any:
    """What transforms draw from: `numpy.random`, or within a prefetching loader a RandomState of the item's own.

    Both have rand, randn, randint, uniform and the rest. A transform of yours that asks here, each time it is
    called, gives the same results however the threads are timed.
    """
    source = _item_source.get()
    return np.random if source is None else source


@contextmanager
def drawing_from(source: Any) -> Iterator[None]:
    """Within it, in this thread alone, `random_source()` is `source`."""
    token = _item_source.set(source)
    try:
        yield
    finally:
        _item_source.reset(token)


def transform_list(transforms: Any, owner: str) -> list[Callable]:
    """The transforms as a list: None is none, a single one is a list of one. TypeError for what cannot be called."""
    if transforms is None:
        return []
    functions = [transforms] if callable(transforms) else list(transforms)
    for place, function in enumerate(functions):
        if not callable(function) or isinstance(function, type):
            met = f"the class {function.__name__}" if isinstance(function, type) else f"a {type(function).__name__}"
            cure = "; make an instance of it" if isinstance(function, type) else ""
            raise TypeError(f"{owner}: transform {place} is {met}, wanted a function of one image{cure}")
    return functions


class Transform:
    """A function of one image; subclasses write `__call__`. Draw random numbers from `random_source()`."""

    def __call__(self, x: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no __call__(x)")


class Compose(Transform):
    """Several transforms as one, the first one first."""

    def __init__(self, transforms: Sequence[Callable]):
        self.transforms = transform_list(transforms, "Compose")

    def __call__(self, x: Any) -> Any:
        for transform in self.transforms:
            x = transform(x)
        return x


class RandomFlipHorizontal(Transform):
    """Left and right of an image (H, W, C) or (H, W) change places with probability `p`: one rand() a call."""

    def __init__(self, p: float = 0.5):
        if not 0 <= p <= 1:
            raise ValueError(f"RandomFlipHorizontal: p must lie in [0, 1], got {p}")
        self.p = p

    def __call__(self, img: np.ndarray) -> np.ndarray:
        _require_image(self, img)
        return img[:, ::-1] if random_source().rand() < self.p else img


class RandomCrop(Transform):
    """The image (H, W, C) or (H, W) moved by up to `padding` pixels either way, zeros where nothing was.

    As if padded by zeros on both spatial axes and cut out again at (padding + sx, padding + sy),
    (sx, sy) being one randint(-padding, padding + 1, size=2).
    """

    def __init__(self, padding: int = 3):
        if not isinstance(padding, (int, np.integer)) or padding < 0:
            raise ValueError(f"RandomCrop: padding must be a whole number >= 0, got {padding!r}")
        self.padding = int(padding)

    def __call__(self, img: np.ndarray) -> np.ndarray:
        _require_image(self, img)
        sx, sy = random_source().randint(low=-self.padding, high=self.padding + 1, size=2)
        to_rows, rows = _overlap(int(sx), img.shape[0])
        to_columns, columns = _overlap(int(sy), img.shape[1])
        moved = np.zeros_like(img)
        moved[to_rows, to_columns] = img[rows, columns]
        return moved


class ToTensor(Transform):
    """An image (H, W, C) or (H, W) as a Tensor (C, H, W); uint8 becomes float32 in [0, 1], floats stay as they are."""

    def __call__(self, img: np.ndarray) -> Tensor:
        _require_image(self, img)
        if img.dtype == np.uint8:
            img = np.divide(img, 255, dtype=np.float32)
        elif img.dtype.kind != "f":
            raise TypeError(f"ToTensor: wanted uint8 or floats, got {img.dtype}; use .astype(...) before it")
        channels_last = img if img.ndim == 3 else img[:, :, None]
        return Tensor(np.ascontiguousarray(channels_last.transpose(2, 0, 1)), requires_grad=False)


class Normalize(Transform):
    """(x − mean) / std, numbers for the whole image or one a channel; the dtype stays.

    The channels are the last axis of an array (H, W, C) and the first of a Tensor (C, H, W), which is what ToTensor
    makes. Raises TypeError for integers, ValueError for another number of channels or a std of 0.
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]):
        self.mean, self.std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values.ndim > 1 or not np.isfinite(values).all():
                raise ValueError(f"Normalize: {name} must be a finite number or one a channel, got {values.tolist()}")
        if not (self.std > 0).all():
            raise ValueError(f"Normalize: std must be above 0, got {self.std.tolist()}")

    def __call__(self, x: Any) -> Any:
        if isinstance(x, Tensor):
            return Tensor(self._normalized(x.numpy(), 0), requires_grad=False)
        return self._normalized(np.asarray(x), -1)

    def _normalized(self, x: np.ndarray, axis: int) -> np.ndarray:
        if x.dtype.kind != "f":
            raise TypeError(f"Normalize: wanted floats, got {x.dtype}; put ToTensor() before it, or divide by 255")
        return (x - self._along(self.mean, x, axis)) / self._along(self.std, x, axis)

    def _along(self, values: np.ndarray, x: np.ndarray, axis: int) -> np.ndarray:
        values = values.astype(x.dtype)
        if values.size == 1:
            return values.reshape(())
        if x.ndim == 0 or x.shape[axis] != len(values):
            where = "first" if axis == 0 else "last"
            raise ValueError(
                f"Normalize: {len(values)} values, but the image {x.shape} has its channels on the {where} axis; "
                "arrays are (H, W, C), Tensors (C, H, W)"
            )
        shape = [1] * x.ndim
        shape[axis] = len(values)
        return values.reshape(shape)


def _require_image(transform: Transform, img: Any) -> None:
    name = type(transform).__name__
    if isinstance(img, Tensor):
        raise TypeError(f"{name}: wanted an array (H, W, C), got a Tensor; put ToTensor() after it")
    if not isinstance(img, np.ndarray) or img.ndim not in (2, 3):
        met = f"an array of shape {img.shape}" if isinstance(img, np.ndarray) else f"a {type(img).__name__}"
        raise ValueError(f"{name}: wanted an image (H, W, C) or (H, W), got {met}; reshape it first")


def _overlap(shift: int, size: int) -> tuple[slice, slice]:
    """Where entry i of the result is entry i + shift of the image: the range in the result, and in the image."""
    start = max(0, -shift)
    stop = max(start, min(size, size - shift))
    return slice(start, stop), slice(start + shift, stop + shift)
