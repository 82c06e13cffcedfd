"""For tools that still ask for this file: everything stands in pyproject.toml."""

from setuptools import setup

setup()
