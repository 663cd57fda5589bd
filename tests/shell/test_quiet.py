import pytest
from fastapi.testclient import TestClient
from tests.shell.web.fakes import FakeAgent

from stolon.shell.control import make_control
from stolon.shell.quiet import quiet_app
from stolon.shell.web.app import make_app


def apps():
    return {
        "the page": make_app(FakeAgent(), None),
        "control": make_control(None, None, "token", {}),
        "any": quiet_app(title="any"),
    }


@pytest.mark.parametrize("name", ["the page", "control", "any"])
def test_no_service_sends_anything_away_whatever_the_environment_says(monkeypatch, name):
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    app = apps()[name]
    if not hasattr(app, "_telemetry"):
        pytest.skip("this FastAPI has no telemetry")
    assert [key for key, value in app._telemetry.items() if value] == []


def test_no_service_has_pages_about_itself():
    for app in apps().values():
        client = TestClient(app, headers={"Authorization": "Bearer token", "Host": "127.0.0.1"})
        for path in ("/docs", "/redoc", "/openapi.json"):
            assert client.get(path).status_code == 404
