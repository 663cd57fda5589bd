"""Services that speak to nobody but who asks them."""

from typing import Any, Final

from fastapi import FastAPI

# Newer FastAPI measures every request, and can send traces away if the environment says so.
_SILENT: Final[Any] = {
    "tracing": False,
    "operation_spans": False,
    "metrics": False,
    "logs": False,
    "auto_configure": False,
}


def quiet_app(**options: Any) -> FastAPI:  # noqa: ANN401 - FastAPI's own, of many types
    """An application without pages about itself and without telemetry.

    Args:
        options: more of FastAPI's.
    """
    return FastAPI(docs_url=None, redoc_url=None, openapi_url=None, telemetry=_SILENT, **options)
