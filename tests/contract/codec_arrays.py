"""Arrays and matrices that must come back as they were."""

from typing import Any

import numpy as np
import scipy.sparse as sp


def array_of_floats() -> np.ndarray[Any, Any]:
    return np.arange(30_000, dtype=np.float64).reshape(100, 300)


def array_by_column() -> np.ndarray[Any, Any]:
    return np.asfortranarray(np.arange(12).reshape(3, 4))


def array_of_times() -> np.ndarray[Any, Any]:
    return np.array(["2020-01-01", "NaT"], dtype="datetime64[us]")


def array_of_records() -> np.ndarray[Any, Any]:
    return np.array([(1, 2.5, "x")], dtype=[("a", ">i4"), ("b", "f4"), ("c", "U3")])


def array_empty() -> np.ndarray[Any, Any]:
    return np.zeros((0, 4), dtype=np.float32)


def numpy_scalar() -> np.float32:
    return np.float32(0.1)


def sparse_csr() -> sp.csr_matrix:
    return sp.random(20, 30, 0.2, format="csr", random_state=0)


def sparse_coo() -> sp.coo_array:
    return sp.coo_array(sparse_csr())


def sparse_csc() -> sp.csc_array:
    return sp.csc_array(sparse_csr())
