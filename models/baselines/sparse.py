"""Sparse matrices by torch: no more dependencies for two baselines."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int64]


def sparse(
    first: Ints, second: Ints, values: NDArray[np.floating] | None, size: tuple[int, int]
) -> Tensor:
    """``values`` (p,), or ones, at the pairs; added up where a pair comes twice."""
    pairs = torch.from_numpy(np.stack([first, second]))
    told = np.ones(len(first)) if values is None else values
    made = torch.sparse_coo_tensor(
        pairs, torch.from_numpy(told.astype(np.float32)), size, check_invariants=False
    )
    return made.coalesce()


def product(left: Tensor, right: Tensor) -> Tensor:
    """(a, b) by (b, c), all sparse; coalesced."""
    with warnings.catch_warnings():  # torch has CSR in beta, and multiplies by it
        warnings.filterwarnings("ignore", "Sparse CSR tensor support")
        found: Tensor = torch.sparse.mm(left, right)
    return found.coalesce()
