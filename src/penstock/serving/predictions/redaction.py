"""Leaves fields and columns out of what is stored, before anything is written."""

from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.serving.predictions.kept_rows import read_rows, write_rows
from penstock.serving.predictions.records import LogEntry


class Redaction:
    """Leaves out every field and column of some names, wherever in a request it stands.

    Args:
        names: Fields and columns that are never stored.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = frozenset(names)
        self._quoted = tuple(msgspec.json.encode(name) for name in names)

    def apply(
        self, entries: Sequence[LogEntry], attached: Sequence[bytes | None] | None
    ) -> tuple[list[LogEntry], list[bytes | None]]:
        """Return the entries and the rows attached to them without those names."""
        rows = attached or (None,) * len(entries)
        made = [self._one(entry, body) for entry, body in zip(entries, rows, strict=True)]
        return [entry for entry, _ in made], [body for _, body in made]

    def _one(self, entry: LogEntry, body: bytes | None) -> tuple[LogEntry, bytes | None]:
        if body is None and not self._may_hold(bytes(entry.fields)):
            return entry, body
        gone: dict[str, None] = {}
        texts: set[str] = set()
        fields = self._without(msgspec.json.decode(entry.fields), gone, texts)
        kind = entry.kind
        if body is not None:
            kind, body = self._rows(kind, body, gone)
        # A request is routed by one of its fields; that must not give away a field which is left out.
        key = "" if entry.key in texts else entry.key
        encoded = msgspec.Raw(msgspec.json.encode(fields))
        changed = msgspec.structs.replace(entry, fields=encoded, kind=kind, key=key, redacted=tuple(sorted(gone)))
        return changed, body

    def _may_hold(self, json: bytes) -> bool:
        # A name may be written with escapes; otherwise its bytes tell.
        return b"\\" in json or any(name in json for name in self._quoted)

    def _without(self, value: Any, gone: dict[str, None], texts: set[str]) -> Any:
        if isinstance(value, list):
            return [self._without(item, gone, texts) for item in value]
        if not isinstance(value, dict):
            return value
        kept = {}
        for name, item in value.items():
            if name in self._names:
                gone[name] = None
                texts.add(str(item))
            else:
                kept[name] = self._without(item, gone, texts)
        return kept

    def _rows(self, kind: str, body: bytes, gone: dict[str, None]) -> tuple[str, bytes | None]:
        found = read_rows(kind, body)
        if found is None:
            # What cannot be read cannot be redacted, so it is not stored at all.
            gone.update(dict.fromkeys(self._names))
            return kind, None
        held = [name for name in found.columns if name in self._names]
        gone.update(dict.fromkeys(held))
        # Always written anew: the body may hold fields beside the rows.
        return "arrow", write_rows(found.drop(held))
