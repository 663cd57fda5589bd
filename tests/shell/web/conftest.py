"""The page of a made-up agent, in this process and served."""

from collections.abc import Callable, Iterator
from io import BytesIO

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from tests.shell.web.fakes import FakeAgent

from stolon.shell.decoding import Decoder
from stolon.shell.web.app import make_app


def picture(colour: str = "red", form: str = "PNG", size: tuple[int, int] = (40, 30)) -> bytes:
    """A file of one colour."""
    file = BytesIO()
    Image.new("RGB", size, colour).save(file, form)
    return file.getvalue()


@pytest.fixture(scope="session")
def decoder() -> Iterator[Decoder]:
    with Decoder(32) as made:
        yield made


@pytest.fixture
def agent() -> FakeAgent:
    return FakeAgent()


@pytest.fixture
def client(agent: FakeAgent, decoder: Decoder) -> Iterator[TestClient]:
    with TestClient(make_app(agent, decoder), base_url="http://127.0.0.1:8000") as made:
        yield made


Ask = Callable[..., "object"]


@pytest.fixture
def ask(client: TestClient) -> Ask:
    """Post a picture as the form does: ``ask(data)``; ``script=True`` as the page with scripts does."""

    def post(data: bytes, *, name: str = "a.png", script: bool = False, **headers: str) -> object:
        headers |= {"HX-Request": "true"} if script else {}
        return client.post("/classify", files={"picture": (name, data, "image/png")}, headers=headers)

    return post
