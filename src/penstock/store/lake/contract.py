"""The contract of single rows: which rows are set aside, and why.

A contract speaks per column (`nulls`, `finite`, `min`, `max`, `values`); key and time columns are never null.
Reasons name the column and the rule, never the value.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from penstock.core.errors import InputError

REASON = "_reason"
Rule = tuple[pl.Expr, str]


def compile_rules(contract: Mapping[str, Any], schema: Mapping[str, pl.DataType]) -> list[Rule]:
    """Return (expression that is true where a row breaks the rule, reason), those of the time column first.

    Args:
        contract: As recorded with the version: `key`, `time`, `columns`.
        schema: Types by column.

    Raises:
        InputError: The contract names a column there is not, or a rule its type cannot have.
    """
    firm = [name for name in (contract["time"], *contract["key"]) if name is not None]
    terms: dict[str, dict[str, Any]] = {}
    for name in firm:
        terms[name] = {"nulls": False, "finite": True}
    for name, said in contract["columns"].items():
        terms[name] = {**said, **terms.get(name, {})}
    rules: list[Rule] = []
    for name, said in terms.items():
        if name not in schema:
            raise InputError(
                f"The contract names column {name!r}, which the rows do not have.",
                hint=f"they have {', '.join(map(repr, list(schema)[:20]))}",
            )
        rules += _column_rules(name, schema[name], said)
    return rules


def _column_rules(name: str, dtype: pl.DataType, said: Mapping[str, Any]) -> list[Rule]:
    column = pl.col(name)
    rules: list[Rule] = []
    if said.get("nulls") is False:
        rules.append((column.is_null(), f"{name}: null"))
    if said.get("finite") and dtype.is_float():
        rules.append((~column.is_finite(), f"{name}: not a finite number"))
    if "min" in said:
        rules.append((column < _bound(name, dtype, said["min"]), f"{name}: below {said['min']}"))
    if "max" in said:
        rules.append((column > _bound(name, dtype, said["max"]), f"{name}: above {said['max']}"))
        if dtype.is_float() and not said.get("finite"):
            rules.append((column.is_nan(), f"{name}: not a number"))
    elif "min" in said and dtype.is_float() and not said.get("finite"):
        rules.append((column.is_nan(), f"{name}: not a number"))
    if "values" in said:
        allowed = pl.Series(said["values"]).cast(dtype).implode()
        rules.append((~column.is_in(allowed), f"{name}: not one of the allowed values"))
    return rules


def _bound(name: str, dtype: pl.DataType, value: object) -> pl.Expr:
    if not (dtype.is_numeric() or dtype.is_temporal() or isinstance(dtype, pl.String)):
        raise InputError(
            f"The contract gives column {name!r} a range, but it is of type {dtype}.",
            hint="ranges are for numbers, times and text",
        )
    if dtype.is_temporal() and isinstance(value, str):
        return pl.lit(value).str.to_datetime(strict=True).cast(dtype)
    return pl.lit(value)


def reasons(
    frame: pl.DataFrame, rules: Sequence[Rule], failed: Mapping[str, tuple[pl.Series, str]]
) -> pl.Series | None:
    """Return for each row the first rule it breaks, or None for no row at all.

    Args:
        frame: Rows in recorded types.
        rules: Compiled rules.
        failed: By column: which rows could not be brought to its type, and the reason.
    """
    broken = frame.select(rule.any().alias(str(i)) for i, (rule, _) in enumerate(rules)).row(0) if rules else ()
    active = [rule for rule, is_broken in zip(rules, broken, strict=True) if is_broken]
    if not active and not failed:
        return None
    choices = [pl.when(mask).then(pl.lit(reason)) for mask, reason in failed.values()]
    choices += [pl.when(rule).then(pl.lit(reason)) for rule, reason in active]
    return frame.select(pl.coalesce(choices).alias(REASON)).to_series()
