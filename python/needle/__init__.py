"""For code that says `sys.path.append("./python")`: hands over to the one real package of this checkout."""

import sys
from importlib import import_module
from pathlib import Path

_root = str(Path(__file__).resolve().parents[2])
del sys.modules[__name__]  # this file; the real package takes its place
sys.path.insert(0, _root)
try:
    sys.modules[__name__] = import_module("needle")
finally:
    sys.path.remove(_root)
