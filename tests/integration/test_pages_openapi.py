"""The REST API against its own document: asked by every role with what the document allows, and what it does not."""

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, negative_data_rejection, positive_data_acceptance

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages_project import Site, answered, make_shops
from penstock.project import people
from penstock.store.ledger.people import ROLES, Role
from penstock.web.edge import API
from penstock.web.routes import ACTIONS, PAGES

# What texts mean cannot be said in the document; and the token is sent by us whatever the tool would leave out.
_NOT_SAID = [positive_data_acceptance, negative_data_rejection, ignored_auth]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with answered(make_shops(tmp_path_factory.mktemp("api") / "shop")) as found:
        yield found


def token_of(site: Site, role: Role) -> dict[str, str]:
    people.add_person(site.workspace, f"a-{role}", role, by="test")
    made = people.make_api_token(site.workspace, f"a-{role}", lasts=timedelta(hours=1))
    return {"authorization": f"Bearer {made.token}"}


def test_the_document_has_every_route(site: Site) -> None:
    """One operation for each line of the table; it is shown to who is signed in."""
    document = httpx.get(f"{site.url}{API}/openapi.json", headers=token_of(site, "viewer")).json()
    assert {operation for path in document["paths"].values() for operation in path} == {"get", "post"}
    assert sum(len(path) for path in document["paths"].values()) == len(PAGES) + len(ACTIONS)
    assert httpx.get(f"{site.url}{API}/openapi.json").status_code == 401


def _operation(found: Any) -> Any:
    return found.ok()


@pytest.mark.slow
@pytest.mark.parametrize("role", ROLES)
def test_no_route_fails_or_answers_otherwise_than_its_document_says(site: Site, role: Role) -> None:
    """No 5xx, no undocumented status or shape, whatever is sent; and nothing is done beyond the role."""
    headers = token_of(site, role)
    api = schemathesis.openapi.from_url(f"{site.url}{API}/openapi.json", headers=headers)
    seen: dict[str, set[int]] = {}
    for found in api.get_all_operations():
        operation = _operation(found)
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            if mode is GenerationMode.NEGATIVE and not list(operation.body):
                continue

            @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case: schemathesis.Case[Any]) -> None:
                reply = case.call_and_validate(headers=headers, timeout=30, excluded_checks=_NOT_SAID)
                seen.setdefault(case.operation.path, set()).add(reply.status_code)

            check()
    assert len(seen) == len(PAGES) + len(ACTIONS)
    for action in ACTIONS:
        assert action.role is not None
        if ROLES.index(role) < ROLES.index(action.role):
            assert 200 not in seen[API + action.path], action.path
