"""Every error Penstock raises, in one tree.

PenstockError            code, message (what failed, on what, because of what), hint (the next action)
├── DeclarationError     the pipeline file is wrong; carries every mistake found, not only the first
├── InputError           a value a person gave (parameter, reference, option) is not usable
│   └── NotFoundError    a reference names nothing that exists
├── DataError            a source or its rows are not usable
│   └── SchemaError      rows do not have the columns and types agreed at the first intake
├── ArtifactError        stored bytes cannot be used
│   ├── DamagedError     the bytes are not the bytes that were stored
│   └── UnsupportedError a value has no codec
├── StepError            user code failed, or its process died
├── CheckError           a check did not pass
├── BudgetError          a retrain used up what policy grants its pipeline
├── StoreError           ledger, blobs or lake cannot be read or written
│   ├── DiskFullError    no space left
│   └── LedgerError      the ledger is damaged, newer than this version, or locked
└── LeaseLostError       another process has taken over this work
"""

from typing import ClassVar


class PenstockError(Exception):
    """An error a person can act on.

    Args:
        message: What failed, on what, because of what was found; values shown with `repr`.
        hint: The next action, without the word "Hint".
    """

    code: ClassVar[str] = "penstock"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} Hint: {self.hint}" if self.hint else self.message


class DeclarationError(PenstockError):
    """The pipeline file is wrong; `mistakes` lists all that were found, each with its place."""

    code = "declaration"
    exit_code = 2

    def __init__(self, mistakes: tuple[str, ...], *, hint: str = "") -> None:
        count = len(mistakes)
        heading = "1 mistake" if count == 1 else f"{count} mistakes"
        super().__init__(f"{heading} in the pipeline:\n" + "\n".join(f"  {m}" for m in mistakes), hint=hint)
        self.mistakes = mistakes


class InputError(PenstockError):
    """A value a person gave (parameter, reference, option) is not usable."""

    code = "input"
    exit_code = 2


class NotFoundError(InputError):
    """A reference names nothing that exists."""

    code = "not_found"
    exit_code = 2


class DataError(PenstockError):
    """A source or its rows are not usable."""

    code = "data"


class SchemaError(DataError):
    """Rows do not have the columns and types agreed at the first intake."""

    code = "schema"


class ArtifactError(PenstockError):
    """Stored bytes cannot be used."""

    code = "artifact"


class DamagedError(ArtifactError):
    """The bytes found are not the bytes that were stored."""

    code = "damaged"


class UnsupportedError(ArtifactError):
    """A value has no codec, so it cannot be kept without guessing."""

    code = "unsupported"


class StepError(PenstockError):
    """User code failed, or the process that ran it died."""

    code = "step"


class CheckError(PenstockError):
    """A check did not pass."""

    code = "check"
    exit_code = 3


class BudgetError(PenstockError):
    """A retrain used up what policy grants its pipeline."""

    code = "budget"
    exit_code = 3


class StoreError(PenstockError):
    """The ledger, the blobs or the lake cannot be read or written."""

    code = "store"
    exit_code = 4


class DiskFullError(StoreError):
    """No space is left where Penstock writes."""

    code = "disk_full"


class LedgerError(StoreError):
    """The ledger is damaged, newer than this version of Penstock, or locked."""

    code = "ledger"


class LeaseLostError(PenstockError):
    """Another process has taken over this work; whatever this one writes now is refused."""

    code = "lease_lost"
    exit_code = 5
