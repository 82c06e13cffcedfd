"""Needle beside PyTorch, JAX and NumPy: the same work, the same process settings. Run: `python -m benchmarks`."""
