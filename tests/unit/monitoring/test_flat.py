"""Fields and answers as columns: what chance shows of JSON must not look like a new schema."""

import polars as pl

from penstock.monitoring.flat import profile_of
from penstock.monitoring.profiles.profile import Profile


def kinds(found: Profile) -> dict[str, str]:
    """Return the type of each column."""
    return {name: column.dtype for name, column in found.columns.items()}


def answers(*texts: str) -> pl.DataFrame:
    """Return answers as the log has them."""
    return pl.DataFrame({"answer": pl.Series(texts).str.json_decode(infer_schema_length=None)})


def test_a_ranking_becomes_its_length_and_the_fields_of_its_elements() -> None:
    """M6: lists of structs are watched by element, each column with as many rows as it has values."""
    found = profile_of(
        answers('[{"movie_id":7,"score":1.5},{"movie_id":8,"score":1}]', '[{"movie_id":7,"score":2}]'), {}
    )
    assert kinds(found) == {"answer.length": "Float64", "answer.movie_id": "Float64", "answer.score": "Float64"}
    assert (found.rows, found.columns["answer.score"].rows, found.columns["answer.length"].rows) == (2, 3, 2)


def test_names_are_categories() -> None:
    """M6: the number of a film is no amount; that one film is answered to everybody is seen all the same."""
    found = profile_of(answers('[{"movie_id":7}]', '[{"movie_id":7}]', '[{"movie_id":9}]'), {}, {"movie_id"})
    words = found.columns["answer.movie_id"].words
    assert words is not None
    assert words.common == {"7": 2, "9": 1}


def test_chance_is_no_new_schema() -> None:
    """M6: integers where there were floats, nothing but nulls, an empty ranking, a field that nobody filled."""
    known = kinds(profile_of(answers('[{"score":1.5,"note":"a"}]'), {}))
    for text in ('[{"score":1,"note":"b"}]', '[{"score":null,"note":null}]', "[]", '[{"score":2.5}]'):
        assert kinds(profile_of(answers(text), known)) == known


def test_plain_answers_and_nested_fields() -> None:
    """M6: a number, a struct with a list in it."""
    assert kinds(profile_of(answers("0.5", "0.7"), {})) == {"answer": "Float64"}
    fields = pl.DataFrame({"who": [{"age": 3, "tags": ["a", "b"]}], "is_new": [True]})
    assert kinds(profile_of(fields, {})) == {
        "is_new": "Boolean",
        "who.age": "Float64",
        "who.tags.item": "String",
        "who.tags.length": "Float64",
    }
