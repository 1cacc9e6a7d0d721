"""What a model is given, read as one array of doubles; anything out of the ordinary is left to the original."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float64]

# Forms in which rows may come. A stand-in reads only those for which it was proven.
FORMS = ("float64", "float32", "integers", "list", "pandas", "polars")
# Modules of PyTorch take these and nothing else.
TENSOR = "tensor"
_FLOAT64, _FLOAT32 = np.dtype(np.float64), np.dtype(np.float32)


@dataclass(frozen=True, slots=True)
class Inputs:
    """How the rows of one model are read.

    Attributes:
        width: Number of features.
        names: Names of the features where frames must carry exactly these in this order; () to go by position.
        forms: Forms that may be read, of `FORMS`; or `TENSOR` alone.
        narrow_integers: Whole numbers pass through 32-bit floats, as LightGBM does with arrays of integers.
    """

    width: int
    names: tuple[str, ...]
    forms: frozenset[str]
    narrow_integers: bool = False

    def read(self, given: object) -> Rows | None:
        """Return rows as doubles, (n, width) with n > 0, row by row in memory; None where the original must look."""
        kind = type(given)
        if kind is np.ndarray:
            return self._array(given, self.forms)
        if kind is list:
            return self._list(given) if "list" in self.forms else None
        if kind.__name__ == "Tensor":
            return self._tensor(given) if TENSOR in self.forms else None
        if kind.__name__ != "DataFrame":
            return None
        form = kind.__module__.partition(".")[0]
        return self._frame(given) if form in self.forms else None

    @property
    def first(self) -> str:
        """The form in which the original is asked for a proof."""
        return TENSOR if TENSOR in self.forms else FORMS[0]

    def _tensor(self, given: Any) -> Rows | None:
        is_plain = given.device.type == "cpu" and not given.requires_grad and str(given.dtype) == "torch.float32"
        if not is_plain or given.ndim != 2 or given.shape[1] != self.width or not given.shape[0]:
            return None
        return np.ascontiguousarray(given.numpy(), np.float64)

    def _array(self, given: Any, forms: frozenset[str] | tuple[str, ...]) -> Rows | None:
        if given.ndim != 2 or given.shape[1] != self.width or not given.shape[0]:
            return None
        dtype = given.dtype
        if dtype is _FLOAT64:
            if "float64" not in forms:
                return None
            found: Rows = given if given.flags.c_contiguous else np.ascontiguousarray(given)
            return found
        if dtype == _FLOAT32:
            return np.ascontiguousarray(given, np.float64) if "float32" in forms else None
        if dtype.kind in "iu" and "integers" in forms:
            narrow = given.astype(np.float32) if self.narrow_integers else given
            return np.ascontiguousarray(narrow, np.float64)
        return None

    def _list(self, given: Any) -> Rows | None:
        try:
            array = np.array(given)
        except (ValueError, TypeError, OverflowError):
            return None  # rows of unequal length, or no numbers: the original says what is wrong
        return self._array(array, FORMS)

    def _frame(self, given: Any) -> Rows | None:
        columns = tuple(given.columns)
        if len(columns) != self.width or (self.names and columns != self.names) or not len(given):
            return None
        array = given.to_numpy()
        # In a frame each column has a type of its own; texts, categories and truth values are the original's business.
        if array.dtype == _FLOAT32:
            return self._array(array, self.forms)
        return np.ascontiguousarray(array, np.float64) if array.dtype.kind in "fiu" else None


def in_form(rows: Rows, form: str, names: tuple[str, ...]) -> Any:
    """Return rows in another form, for a proof.

    Raises:
        ImportError: The library of that form is not installed.
    """
    columns = list(names) or [f"f{number}" for number in range(rows.shape[1])]
    match form:
        case "float32":
            return rows.astype(np.float32)
        case "integers":
            return np.clip(np.nan_to_num(np.round(rows)), -(2**31), 2**31).astype(np.int64)
        case "list":
            return rows.tolist()
        case "tensor":
            import torch  # noqa: PLC0415 -- optional dependency

            return torch.from_numpy(rows.astype(np.float32))
        case "pandas":
            import pandas as pd  # noqa: PLC0415 -- optional dependency

            return pd.DataFrame(rows, columns=columns)
        case "polars":
            import polars as pl  # noqa: PLC0415 -- only here, so that serving without frames loads none

            return pl.DataFrame(rows, schema=columns)
        case _:
            return rows
