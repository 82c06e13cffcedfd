"""`ndl.jit`: a recorded step, fused and compiled. Read `jitted.py` first."""

from .errors import JitError
from .jitted import Jitted, jit

__all__ = ["JitError", "Jitted", "jit"]
