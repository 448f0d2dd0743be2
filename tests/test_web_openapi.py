"""The API attacked from its own OpenAPI document: never a 5xx, always what the document says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import pytest
from faults.systemd import wait_until
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from webstation import WebStation

from monitor.core.domain import utc_now
from monitor.web.accounts import Accounts, Role

HELD = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
]
TRIES = 25


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The API of a small station, served by a process of its own, and an administrator's token."""
    import schemathesis  # seconds, which no other test should wait for

    station = WebStation(tmp_path_factory.mktemp("attacked"))
    station.fill(12)
    token = Accounts(station.settings.data_directory).add_token(
        "attacker", Role.ADMIN, utc_now(), None
    )
    headers = {"Authorization": f"Bearer {token}"}
    with station.served():
        chart = f"{station.url}/api/v1/charts/activity.svg"
        wait_until(lambda: httpx.get(chart, headers=headers).status_code == 200)
        found = schemathesis.openapi.from_url(f"{station.url}/api/v1/openapi.json", headers=headers)
        found.token_headers = headers
        yield found


def test_no_request_that_the_document_allows_or_forbids_breaks_the_api(attacked: Any) -> None:
    """Every operation, with values the document allows and with such as it forbids."""
    from schemathesis import GenerationMode
    from schemathesis.core.failures import Failure, FailureGroup

    faults, tried = [], 0
    for result in attacked.get_all_operations():
        operation = result.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            try:
                tried += tries_of(operation, mode, attacked.token_headers)
            except (FailureGroup, Failure) as error:
                words = "; ".join(str(e) for e in getattr(error, "exceptions", [error]))
                faults.append(f"{operation.method} {operation.path} ({mode.name}): {words}")
            except Unsatisfiable:  # nothing is forbidden here
                continue
    assert not faults, "\n\n".join(faults)
    assert tried > 500


def tries_of(operation: Any, mode: Any, headers: dict[str, str]) -> int:
    """Send what hypothesis makes of one operation; returns how many requests."""
    from schemathesis.checks import CHECKS, load_all_checks

    load_all_checks()
    held, sent = CHECKS.get_by_names(HELD), 0

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=TRIES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def attack(case: Any) -> None:
        nonlocal sent
        sent += 1
        case.call_and_validate(headers=headers, checks=held)

    attack()
    return sent
