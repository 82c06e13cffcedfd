"""The command line: `python -m needle info` and `python -m needle gradcheck MODULE:FUNCTION`."""

from __future__ import annotations

import argparse
import inspect
import math
import os
import platform
import re
import sys
from collections.abc import Callable, Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy

from . import backend_cupy
from .backend_selection import BACKEND, all_devices
from .debug import record_sites
from .numeric_check import gradcheck
from .optional import distribution, have, optional

EXIT_STATUS = {"pass": 0, "fail": 1, "cannot tell": 2}

# Every package that an extra may bring: module, extra, what needle does with it.
PACKAGES = (
    ("matplotlib", "viz", "figures"),
    ("sklearn", "apps", "the digits data set"),
    ("tqdm", "apps", "progress bars"),
    ("numba", "jit", "compiled kernels"),
    ("scipy", "jit", "the matrix product that compiled kernels call, special functions in the tests"),
    ("pytest", "test", "running the tests"),
    ("hypothesis", "test", "tests with made-up shapes"),
    ("numdifftools", "test", "the referee of gradcheck"),
    ("nbclient", "test", "running the notebooks in the tests"),
    ("nbformat", "test", "reading the notebooks in the tests"),
    ("ipykernel", "test", "running the notebooks in the tests"),
    ("safetensors", "test", "comparing our own file format with another reader"),
    ("jax", "bench", "comparing numbers and speed with JAX"),
    ("torch", "bench", "comparing numbers and speed with PyTorch"),
    ("threadpoolctl", "bench", "telling how many threads BLAS uses"),
    ("cupy", "cuda", "NVIDIA GPUs"),
    ("mpi4py", "distributed", "training on several machines"),
    ("onnx", "onnx", "exporting models"),
    ("onnxruntime", "onnx", "checking exported models"),
)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
                    "NUMBA_NUM_THREADS")  # fmt: skip


class Trouble(Exception):
    """What the user has to mend; told in one line."""


# --- info -------------------------------------------------------------------------------------------------------


def info(_: argparse.Namespace) -> int:
    """Print what needle found on this machine, and what could be better."""
    rows = [
        ("needle", f"{installed('needle') or 'not installed'}, from {Path(__file__).parent}"),
        ("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("NumPy", numpy.__version__),
        ("backend", f"{BACKEND} (NEEDLE_BACKEND chooses 'np' or 'nd'); devices: {devices()}"),
        *[(repr(device).removeprefix("needle."), ability(device)) for device in all_devices()],
        ("processors", f"{os.cpu_count()}, of which this process may use {usable_processors()}"),
        ("memory", memory()),
        ("BLAS", blas()),
        ("threads", threads()),
        ("data sets", os.environ.get("NEEDLE_DATA") or "NEEDLE_DATA names no folder"),
    ]
    print("\n".join(f"{name:12}{text}" for name, text in rows))
    print("\noptional packages:")
    print("\n".join(f"  {name:14}{text}" for name, text in packages()))
    for sentence in advice():
        print(f"\nadvice: {sentence}")
    return 0


def installed(name: str) -> str | None:
    """The installed version of a distribution."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def devices() -> str:
    return ", ".join(repr(device) if device.enabled() else f"{device!r} (not enabled)" for device in all_devices())


def ability(device: Any) -> str:
    """What a device computes with; or why it cannot be used."""
    if "cuda" in repr(device):
        gpu = backend_cupy.cuda(getattr(device, "index", 0))
        trouble = gpu.why_not()
        return gpu.described() if trouble is None else f"not enabled: {trouble}"
    if "cpu_numpy" in repr(device):
        return "NumPy alone: the reference"
    return "NumPy, and Numba's kernels" if have("numba") else "NumPy (Numba would add compiled kernels)"


def usable_processors() -> int:
    """How many this process may use: containers and `taskset` lend fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


MEMORY_FILE = Path("/proc/meminfo")  # Linux; elsewhere nobody tells without another package


def memory() -> str:
    free, total = free_memory()
    return f"{free / 2**30:.1f} GiB free of {total / 2**30:.1f} GiB" if total else "unknown on this system"


def free_memory() -> tuple[int, int]:
    """Bytes (free, there in all); zeros where the system does not say."""
    try:
        lines = MEMORY_FILE.read_text(encoding="ascii").splitlines()
        sizes = {name: 1024 * int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        return sizes["MemAvailable"], sizes["MemTotal"]
    except (OSError, ValueError, KeyError, IndexError):
        return 0, 0


def blas() -> str:
    """The library that NumPy multiplies matrices with."""
    try:
        found = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
        return f"{found['name']} {found.get('version', '')}".strip()
    except (TypeError, KeyError):  # NumPy before 1.25 only prints
        return "unknown (this NumPy does not say)"


def threads() -> str:
    pools = thread_pools()
    counts = ", ".join(f"{pool['internal_api']} {pool['num_threads']}" for pool in pools)
    told = [f"{name}={os.environ[name]}" for name in THREAD_VARIABLES if name in os.environ]
    counts = counts or "unknown without threadpoolctl" if not have("threadpoolctl") else counts or "no pool found"
    return f"{counts}; {', '.join(told) or 'no ' + THREAD_VARIABLES[0] + ' or the like is set'}"


def thread_pools() -> list[dict[str, Any]]:
    if not have("threadpoolctl"):
        return []
    return optional("threadpoolctl", extra="bench", why="counting BLAS threads").threadpool_info()


def packages() -> list[tuple[str, str]]:
    """Each optional package: its version, or what it would be good for and how to get it."""
    rows = []
    for module, extra, purpose in PACKAGES:
        name = distribution(module)
        missing = f"missing, for {purpose}: pip install {name}, or '.[{extra}]' in a clone"
        rows.append((name, (installed(name) or "installed") if have(module) else missing))
    return rows


def advice() -> list[str]:
    """What slows needle down here."""
    found, usable = [], usable_processors()
    crowded = [pool for pool in thread_pools() if pool["num_threads"] > usable]
    if crowded:
        found.append(
            f"{crowded[0]['internal_api']} runs {crowded[0]['num_threads']} threads on {usable} processors, where they "
            f"wait for each other: set {THREAD_VARIABLES[0]}={usable} before Python starts"
        )
    if not have("numba"):
        found.append("numba would speed up eager ops: pip install numba")
    return found


# --- gradcheck --------------------------------------------------------------------------------------------------


def check(args: argparse.Namespace) -> int:
    """Run the checker on a user's function and print its report."""
    function = find(args.target)
    shapes = args.shape or shapes_told_by(function, args.target)
    fits(function, shapes, args.target)
    if all(0 in shape for shape in shapes):
        raise Trouble(f"{args.target}: nothing to check: the inputs {list(shapes)} have no entries")
    rng = numpy.random.default_rng(args.seed)
    inputs = [draw(rng, shape, args.range) for shape in shapes]
    try:
        with record_sites():
            result = gradcheck(function, *inputs, order=args.order, full=args.full, seed=args.seed)
    except (Exception, SystemExit) as error:  # whatever the user's function raises
        raise Trouble(f"{args.target} could not be checked: {type(error).__name__}: {error}") from error
    print(result)
    return EXIT_STATUS[result.verdict]


SHAPES_ATTRIBUTE = "an attribute of the function, f.shapes = [(3, 4), (4,)]"


def shapes_told_by(function: Callable, target: str) -> list[tuple[int, ...]]:
    """The shapes in the function's attribute."""
    shapes = getattr(function, "shapes", None)
    if shapes is None:
        raise Trouble(f"{target}: say the shape of each input, --shape 3,4 --shape 4, or as {SHAPES_ATTRIBUTE}")
    try:
        return [shape_of(",".join(str(size) for size in shape)) for shape in shapes]
    except (TypeError, ValueError):
        raise Trouble(f"{target}.shapes is {shapes!r}, wanted {SHAPES_ATTRIBUTE}") from None


def find(target: str) -> Callable:
    """The function that MODULE:FUNCTION names."""
    module_name, colon, path = target.partition(":")
    if not (module_name and colon and path):
        raise Trouble(f"{target!r}: wanted MODULE:FUNCTION, as in my_ops:swish")
    found: Any = load(module_name)
    for name in path.split("."):
        if not hasattr(found, name):
            raise Trouble(
                f"{target}: {module_name} has no {path}; it has {', '.join(functions(found)) or 'no functions'}"
            )
        found = getattr(found, name)
    if not callable(found):
        raise Trouble(f"{target}: wanted a function, this is of type {type(found).__name__}")
    return found


def load(name: str) -> Any:
    """The module, looked for in the working directory first."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            cure = f"; name it without the .py: {Path(name).stem}" if name.endswith(".py") else ""
            raise Trouble(f"there is no module {name} in {os.getcwd()} or on Python's path{cure}") from error
        raise Trouble(f"{name} cannot be imported: {error}") from error
    except (Exception, SystemExit) as error:  # whatever the user's module raises
        raise Trouble(f"{name} cannot be imported: {type(error).__name__}: {error}") from error


def functions(module: Any) -> list[str]:
    public = [name for name in vars(module) if not name.startswith("_")] if hasattr(module, "__dict__") else []
    return [name for name in public if inspect.isfunction(getattr(module, name))]


def fits(function: Callable, shapes: Sequence, target: str) -> None:
    """Trouble where the function does not take so many inputs."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # built in: it does not say
        return
    try:
        signature.bind(*shapes)
    except TypeError as error:
        raise Trouble(f"{target}{signature} does not go with {len(shapes)} shapes: {error}") from error


def draw(rng: numpy.random.Generator, shape: tuple[int, ...], limits: tuple[float, float] | None) -> numpy.ndarray:
    """Random float64: uniform within the limits, else standard normal."""
    try:
        return numpy.asarray(rng.standard_normal(shape) if limits is None else rng.uniform(*limits, shape))
    except (MemoryError, ValueError) as error:  # NumPy's words for what is larger still
        raise Trouble(
            f"an input of shape {shape} cannot be made: {error or 'no memory'}; take a smaller one"
        ) from error


# --- arguments --------------------------------------------------------------------------------------------------


def shape_of(text: str) -> tuple[int, ...]:
    sizes = tuple(int(part) for part in text.strip("() ").split(",") if part.strip())
    if any(size < 0 for size in sizes):
        raise ValueError(text)
    return sizes


def limits_of(text: str) -> tuple[float, float]:
    low, high = (float(part) for part in text.split(","))
    if not (low < high and math.isfinite(high - low)):
        raise ValueError(text)
    return low, high


def seed_of(text: str) -> int:
    seed = int(text)
    if seed < 0:
        raise ValueError(text)
    return seed


# argparse says "invalid shape value"
shape_of.__name__, limits_of.__name__, seed_of.__name__ = "shape", "range", "seed"


def with_values_joined(argv: Sequence[str]) -> list[str]:
    """`--range -1,1` as `--range=-1,1`: argparse would take what begins with a minus for an option."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] in ("--range", "--shape") and re.match(r"-(\d|\.|inf)", word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser("python -m needle", description="Automatic differentiation and deep learning.")
    commands = whole.add_subparsers(title="commands", metavar="COMMAND")
    describe = "versions, devices, BLAS and threads, memory, optional packages and how to get them"
    commands.add_parser("info", help=describe, description=f"Prints {describe}.").set_defaults(run=info)
    command = commands.add_parser(
        "gradcheck",
        help="check the gradient of a function of yours",
        description="Compares the gradient that needle derives for a function with a numeric one, at random float64 "
        f"inputs. Their shapes come from --shape, one for each input, or from {SHAPES_ATTRIBUTE}.",
        epilog="Exit status: 0 pass, 1 fail, 2 cannot tell or nothing to check.",
    )
    command.add_argument("target", metavar="MODULE:FUNCTION", help="the function takes tensors and returns a tensor")
    command.add_argument("--shape", type=shape_of, action="append", help="as 3,4; () for a single number")
    command.add_argument(
        "--range",
        type=limits_of,
        metavar="LOW,HIGH",
        help="draw evenly from between two finite numbers, instead of the normal distribution",
    )
    command.add_argument("--order", type=int, choices=(1, 2), default=1, help="2: also the gradient of the gradient")
    command.add_argument("--full", action="store_true", help="every entry of the Jacobian, not random directions")
    command.add_argument("--seed", type=seed_of, default=0, help="0 or more, of the random inputs and directions")
    command.set_defaults(run=check)
    return whole


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit status."""
    args = parser().parse_args(with_values_joined(sys.argv[1:] if argv is None else argv))
    if not hasattr(args, "run"):
        parser().print_help()
        return 0
    try:
        return args.run(args)
    except Trouble as trouble:
        print(f"needle: {trouble}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
