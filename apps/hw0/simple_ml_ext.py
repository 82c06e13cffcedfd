"""The compiled epoch under the name that homework 0 looks for (there: a C++ module)."""

from simple_ml import softmax_regression_epoch_cpp

__all__ = ["softmax_regression_epoch_cpp"]
