"""Inputs that no client would send; test/support/fuzz_serving.py tries many more."""

from fuzz_serving import bodies, fuzz, TARGETS
from hypothesis import given, HealthCheck, settings
import pytest


@pytest.mark.parametrize('target', TARGETS)
def test_a_parser_answers_or_refuses(target):
    seen = fuzz(target, 400)
    # Both happen, or the inputs are too wild to reach anything.
    assert seen['question'] > 0
    assert seen['400'] > 0


def test_the_server_never_errs(server):
    @settings(
        max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(bodies)
    def run(body):
        response = server.http.post(
            '/act', content=body, headers={'content-type': 'application/json'}
        )
        assert response.status_code == 200 or 400 <= response.status_code < 500, response.text
        assert response.status_code == 200 or response.json()['error']

    run()
