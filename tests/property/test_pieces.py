"""Cutting files into pieces: whatever they hold and however they are cut, the pieces are the file."""

from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.core.errors import DataError
from penstock.serving.offline.job import aligned, common_schema
from penstock.serving.offline.pieces import Cut, FilesInput, fitting_cut, see_file
from penstock.serving.offline.pieces import file_pieces as cut_file
from penstock.serving.offline.reading import read_piece
from penstock.serving.offline.scoring import Counts
from penstock.serving.offline.tasks import Note
from penstock.store.lake import Lake

LAKE = Lake(Path("nowhere"))
_TEXTS = st.text(alphabet='ab,"\n\r é;', max_size=12)
_FILE = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def rows_of(path: Path, cut: Cut, types: Any = None) -> list[tuple[Any, ...]]:
    """Return the rows of all pieces, one after the other."""
    found: list[tuple[Any, ...]] = []
    pieces = list(cut_file(see_file(path), cut))
    for piece in pieces:
        chunk = read_piece(piece, LAKE, types or {})
        assert chunk.count
        assert not chunk.refused
        found += chunk.frame.rows() if chunk.frame is not None else [tuple(row.values()) for row in chunk.objects or ()]
    return found


@_FILE
@given(texts=st.lists(st.tuples(_TEXTS, _TEXTS), min_size=1, max_size=40), size=st.integers(1, 200), end=st.booleans())
def test_a_csv_is_cut_between_records(tmp_path: Path, texts: list[tuple[str, str]], size: int, end: bool) -> None:
    """Line ends, commas and quotes within quotes cut nothing; the last line may lack its end."""
    path = tmp_path / "in.csv"
    quoted = [[f'"{text.replace(chr(34), chr(34) * 2)}"' for text in row] for row in texts]
    body = "\n".join(",".join(row) for row in [["a", "b"], *quoted])
    path.write_bytes(body.encode() + (b"\n" if end else b""))
    whole = pl.read_csv(path, schema={"a": pl.String, "b": pl.String}, empty_string_is_null=True)
    assert rows_of(path, Cut(size_bytes=size)) == whole.rows()


@_FILE
@given(texts=st.lists(_TEXTS, min_size=1, max_size=40), size=st.integers(1, 200))
def test_json_lines_are_cut_between_lines(tmp_path: Path, texts: list[str], size: int) -> None:
    """Every object is in one piece, in order."""
    path = tmp_path / "in.jsonl"
    pl.DataFrame({"a": texts}).write_ndjson(path)
    assert rows_of(path, Cut(size_bytes=size)) == [(text,) for text in texts]


@_FILE
@given(count=st.integers(1, 300), group=st.integers(1, 80), rows=st.integers(1, 120))
def test_parquet_is_cut_by_row_groups(tmp_path: Path, count: int, group: int, rows: int) -> None:
    """No row is lost or doubled, and no piece is much larger than asked for."""
    path = tmp_path / "in.parquet"
    pl.DataFrame({"a": range(count)}).write_parquet(path, row_group_size=group)
    pieces = list(cut_file(see_file(path), Cut(rows=rows)))
    assert rows_of(path, Cut(rows=rows)) == [(n,) for n in range(count)]
    assert max(piece.stop - piece.start for piece in pieces) <= 2 * rows


def test_small_inputs_are_cut_for_all_workers(tmp_path: Path) -> None:
    """A few thousand rows keep every process busy; many millions do not become very many files."""
    path = tmp_path / "in.parquet"
    pl.DataFrame({"a": range(16_000)}).write_parquet(path)
    text = tmp_path / "in.csv"
    pl.DataFrame({"a": range(200_000)}).write_csv(text)
    few = FilesInput(files=(see_file(path), see_file(text)))
    assert fitting_cut(few, LAKE, 2) == Cut(rows=1000, size_bytes=text.stat().st_size // 16)
    assert fitting_cut(FilesInput(files=(see_file(path),)), LAKE, 100).rows == 500
    large = msgspec.structs.replace(see_file(text), size_bytes=10**12)
    assert fitting_cut(FilesInput(files=(large,)), LAKE, 2).size_bytes == Cut().size_bytes


@pytest.mark.parametrize("body", [b"\xef\xbb\xbfa,b\r\n1,x\r\n2,y\r\n", b"a,b\n1,x\n2,y", b'"a","b"\n1,"x"\n2,y\n'])
def test_csvs_of_other_programs_are_read(tmp_path: Path, body: bytes) -> None:
    """A byte-order mark, line ends of Windows, quoted names."""
    path = tmp_path / "in.csv"
    path.write_bytes(body)
    types = {"a": pl.Int64(), "b": pl.String()}
    assert rows_of(path, Cut(size_bytes=4), types) == [(1, "x"), (2, "y")]


@pytest.mark.parametrize("body", [b"a,a\n1,2\n", b"\n\n", b"\xff\xfe\n1"])
def test_a_csv_without_names_is_told(tmp_path: Path, body: bytes) -> None:
    """Its header must name each column once."""
    path = tmp_path / "in.csv"
    path.write_bytes(body)
    with pytest.raises(DataError, match="cannot be read as csv"):
        list(cut_file(see_file(path), Cut()))


_COLUMNS = st.sampled_from(
    [
        pl.Series("a", [1, 2]),
        pl.Series("a", [1.5, None]),
        pl.Series("a", [None, None]),
        pl.Series("a", ["x", None]),
        pl.Series("a", [True, False]),
        pl.Series("a", [[1], []]),
    ]
)


@given(parts=st.lists(_COLUMNS, min_size=1, max_size=5))
def test_parts_get_one_schema_and_keep_their_values(parts: list[pl.Series]) -> None:
    """Numbers become floats beside fractions; what has nothing in common becomes JSON; twice changes nothing more."""
    frames = [part.to_frame() for part in parts]
    schema, texts = common_schema([frame.schema for frame in frames], [Note(counts=Counts())] * len(frames))
    settled = [aligned(frame, schema, texts) for frame in frames]
    assert all(frame.schema == schema for frame in settled)
    for before, after in zip(frames, settled, strict=True):
        assert before["a"].null_count() == after["a"].null_count()
        if "a" not in texts:
            assert [v for v in before["a"] if not isinstance(v, pl.Series)] == [
                v for v in after["a"] if not isinstance(v, pl.Series)
            ]
    again = common_schema([frame.schema for frame in settled], [Note(counts=Counts(), json_columns=tuple(texts))])
    assert again == (schema, texts)
