"""Values of data libraries as plain Python values, so that answers are the same JSON wherever they are made."""

from typing import Any

import msgspec


def plain(value: Any) -> Any:
    """Return arrays as lists, frames as lists of rows, scalars as numbers; an `enc_hook` for `msgspec`.

    Raises:
        NotImplementedError: The type has no JSON form.
    """
    # By module name, so that no optional library is imported to recognise its values.
    match type(value).__module__.partition(".")[0], type(value).__name__:
        case "numpy", _:
            return value.tolist()
        case "polars", "DataFrame":
            return value.to_dicts()
        case "polars", "LazyFrame":
            return value.collect().to_dicts()
        case "polars", "Series":
            return value.to_list()
        case "pyarrow", _:
            return value.to_pylist()
        case "pandas", "DataFrame":
            return value.to_dict("records")
        case "pandas", "Series" | "Index":
            return value.to_list()
        case _:
            raise NotImplementedError(f"{type(value).__qualname__} has no JSON form")


_encoder = msgspec.json.Encoder(enc_hook=plain)


def built_in(value: object) -> Any:
    """Return `value` as plain Python values; unlike JSON, which has no word for them, NaN and infinities stay."""
    return msgspec.to_builtins(value, enc_hook=plain, str_keys=True)


def json_ready(value: object) -> Any:
    """Return `value` as the plain JSON a client would get."""
    return msgspec.json.decode(_encoder.encode(value))
