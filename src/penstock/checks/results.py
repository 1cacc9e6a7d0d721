"""How built-in checks make their results."""

from collections.abc import Mapping

from penstock.core.records import CheckResult


def built_in(name: str, message: str, *, passed: bool, evidence: Mapping[str, object]) -> CheckResult:
    """Return the result of a check that the platform made."""
    return CheckResult(name=name, passed=passed, message=message, built_in=True, evidence=dict(evidence))
