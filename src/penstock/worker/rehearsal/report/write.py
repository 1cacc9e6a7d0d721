"""Writes a report as files: report.json, report.md, report.html, and its pictures."""

from pathlib import Path

import msgspec

from penstock.worker.rehearsal.report import pictures
from penstock.worker.rehearsal.report.figures import figures
from penstock.worker.rehearsal.report.page import write_markdown, write_page
from penstock.worker.rehearsal.report.records import Report

PICTURES = "pictures"


def write_report(report: Report, directory: Path) -> tuple[Path, ...]:
    """Write `report.json`, `report.md`, `report.html` and `pictures/*.svg`, and return their paths."""
    folder = directory / PICTURES
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        directory / "report.json": msgspec.json.format(msgspec.json.encode(report)).decode() + "\n",
        directory / "report.md": write_markdown(report),
        directory / "report.html": write_page(report),
    }
    texts |= {folder / f"{one.name}.svg": pictures.standalone(one.svg) for one in figures(report)}
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return tuple(texts)


def read_report(path: Path) -> Report:
    """Read a `report.json`.

    Raises:
        msgspec.DecodeError: It is no report.
    """
    return msgspec.json.decode(path.read_bytes(), type=Report)
