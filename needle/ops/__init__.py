"""Every op of needle. Each file's `__all__` decides what is exported; the operators are attached last."""

from typing import TYPE_CHECKING

from . import (
    ops_comparison,
    ops_devices,
    ops_elementwise,
    ops_indexing,
    ops_linalg,
    ops_logarithmic,
    ops_mathematic,
    ops_normalization,
    ops_reduction,
    ops_shape,
    ops_tuple,
    tensor_methods,
)

MODULES = (
    ops_tuple,
    ops_devices,
    ops_comparison,
    ops_mathematic,
    ops_elementwise,
    ops_reduction,
    ops_indexing,
    ops_shape,
    ops_logarithmic,
    ops_linalg,
    ops_normalization,
)
from_dlpack = tensor_methods.from_dlpack

if TYPE_CHECKING:
    from .ops_comparison import *
    from .ops_devices import *
    from .ops_elementwise import *
    from .ops_indexing import *
    from .ops_linalg import *
    from .ops_logarithmic import *
    from .ops_mathematic import *
    from .ops_normalization import *
    from .ops_reduction import *
    from .ops_shape import *
    from .ops_tuple import *
else:  # what the star imports say, so that nothing must be listed twice
    __all__ = [name for module in MODULES for name in module.__all__]
    globals().update({name: getattr(module, name) for module in MODULES for name in module.__all__})
