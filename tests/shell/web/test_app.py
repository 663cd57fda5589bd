import dataclasses
import logging
import re

import pytest
from tests.shell.web.conftest import picture

from stolon.errors import TaskUnknownError
from stolon.shell.web.app import make_app
from stolon.shell.web.limits import Limits


def words(html: str) -> str:
    """What people read, in one line."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).replace("&#39;", "'").split())


def test_the_page_tells_tasks_teachers_peers_costs_confusion_offers_and_progress(client):
    told = words(client.get("/").text)
    for part in (
        "heron key 3f9a-12bc backbone timm:mobilenetv2_100",
        "Learning mushrooms train, 7 of at most 30, 91.2 % right so far",
        "Tasks 6 of 7",
        "fruit 5 classes: apple , banana , cherry , grape , mango you",
        "road signs 6 classes: stop , give way , no entry , speed limit 30 ,",
        "roundabout lab-2 09ab-44f0",
        "held back: it takes 7 % of the pictures of fashion",
        "110 kB 96.4 %",
        "on the mean 95.0 % are given to the right task",
        "5d5d-5d5d offers postage stamps stolon trust add " + "5d" * 32,
        "Wren's laptop 77d0-c2e1 just now in step",
        "lab-2 09ab-44f0 14 s ago catching up",
        "c0de-0bad 40 s ago ignored for 2 min, 12 refused",
        "modules 1.2 MB 871 kB",
        "overhead on the wire 5.8 %",
        "learning here 1.84 TMAC",
    ):
        assert part in told


def test_an_agent_that_knows_nothing_and_nobody_has_a_page_too(client, agent):
    agent.known, agent.others, agent.strangers = [], [], []
    agent.confused = agent.progress = None
    told = words(client.get("/").text)
    assert "Nothing yet. Teach it with stolon learn FOLDER" in told
    assert "None heard." in told
    assert "Offers" not in told
    assert "Learning" not in told
    assert "Confusion" not in told


def test_an_agent_without_a_name_is_called_by_its_key(client, agent):
    agent.who = dataclasses.replace(agent.who, name="")
    told = words(client.get("/").text)
    assert told.startswith("agent 3f9a-12bc · stolon")
    assert "agent 3f9a-12bc key" in told


def test_a_picture_is_answered_with_task_class_and_confidence(ask, agent):
    answer = ask(picture("red"))
    assert answer.status_code == 200
    assert "apple of the task fruit" in words(answer.text)
    assert "93 % sure" in words(answer.text)
    assert "<!doctype html>" in answer.text
    assert "Peers" in answer.text
    assert agent.asked == 1


def test_a_page_with_scripts_gets_the_answer_alone(ask):
    answer = ask(picture("red"), script=True)
    assert words(answer.text).startswith("apple of the task fruit 93 % sure")
    assert "<html" not in answer.text


def test_what_is_unknown_is_called_unknown(ask):
    told = words(ask(picture("black"), script=True).text)
    assert told.startswith(
        "unknown It looks like nothing that this agent has learned. Nearest cherry fruit 4 %"
    )


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_the_formats_of_the_page_are_read_whatever_the_file_is_called(ask, form):
    assert ask(picture("red", form), name="<script>.exe").status_code == 200


@pytest.mark.parametrize(
    ("data", "status", "sentence"),
    [
        (b"nothing of the kind", 415, "not a picture that can be read here"),
        (picture("red", "GIF"), 415, "JPEG, PNG and WebP can"),
        (picture("red")[:-40], 422, "damaged"),
        (picture("red", size=(5001, 5000)), 413, "Up to 25 megapixels"),
        (b"", 422, "Choose a picture first"),
    ],
    ids=["text", "gif", "cut", "huge", "nothing"],
)
@pytest.mark.parametrize("script", [True, False])
def test_what_cannot_be_read_is_refused_in_plain_words(ask, agent, data, status, sentence, script):
    answer = ask(data, script=script)
    assert answer.status_code == status
    assert sentence in words(answer.text)
    assert ("<html" in answer.text) != script
    assert agent.asked == 0


def test_an_error_of_the_agent_is_told_and_escaped(ask, agent):
    agent.fails = TaskUnknownError("no task is known yet <b>; teach one")
    answer = ask(picture())
    assert answer.status_code == 422
    assert "no task is known yet &lt;b&gt;; teach one" in answer.text


def test_a_failure_of_ours_is_logged_and_told_without_details(ask, agent, caplog):
    agent.fails = RuntimeError("a secret of ours")
    with caplog.at_level(logging.ERROR):
        answer = ask(picture())
    assert answer.status_code == 500
    assert answer.text == "Something went wrong here. The agent's log says what.\n"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "a secret of ours" in caplog.text


@pytest.mark.parametrize("name", ["tasks", "peers", "costs", "confusion", "offers", "learning"])
def test_a_part_is_sent_only_when_it_has_changed(client, agent, name):
    page = client.get("/").text
    address = re.search(rf'hx-get="(/parts/{name}\?seen=\w+)"', page)[1]
    assert client.get(address).status_code == 204
    agent.learn(name="a new one")
    agent.others, agent.strangers, agent.confused, agent.progress = [], [], None, None
    agent.spent = type(agent.spent)((), bank=1)
    changed = client.get(address)
    assert changed.status_code == 200
    assert changed.text.startswith(f'<section id="{name}" hx-get="/parts/{name}?seen=')


def test_a_long_list_of_tasks_is_shown_by_pages(agent, decoder):
    from fastapi.testclient import TestClient

    for number in range(23):
        agent.learn(name=f"task-{number:02}")
    client = TestClient(make_app(agent, decoder, limits=Limits(rows=10)), base_url="http://localhost")
    first, last, beyond = (client.get(f"/?page={page}").text for page in (1, 3, 99))
    assert ("task-22" in first, "task-12" in first) == (True, False)
    assert "page 1 of 3" in first
    assert 'href="/?page=2#tasks"' in first
    assert "galaxies" in last
    assert "page 3 of 3" in beyond
    assert re.search(r'hx-get="/parts/tasks\?seen=\w+&amp;page=3"', last)
    assert client.get("/?page=x").status_code == 400
    assert client.get("/parts/tasks?page=2").text.count("task-") >= 10


@pytest.mark.parametrize(
    "path", ["/docs", "/openapi.json", "/redoc", "/parts/x", "/static/../app.py", "/static/x"]
)
def test_there_is_nothing_else(client, path):
    assert client.get(path).status_code == 404


def test_static_files_have_types_and_their_version_in_their_address(client):
    page = client.get("/").text
    addresses = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    assert len(addresses) == 4
    for address in addresses:
        answer = client.get(address)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    assert client.get("/static/page.js").headers["content-type"].startswith("text/javascript")
    assert client.get("/static/htmx.LICENSE.txt").status_code == 404


def test_the_page_stores_nothing_in_browsers(client, ask):
    for answer in (client.get("/"), client.get("/parts/tasks"), ask(picture())):
        assert answer.headers["cache-control"] == "no-store"
        assert "set-cookie" not in answer.headers


EVIL = "<script>document.title='x'</script>\"' onload=alert(1) {{7*7}}"


def test_names_from_peers_are_text_and_nothing_else(client, agent, ask):
    from stolon.shell.web.facade import Answer, Confusion, Offer, Peer, Progress

    agent.learn(
        name=EVIL, classes=(EVIL, EVIL), author=EVIL, fingerprint=EVIL, own=False, active=False, reason=EVIL
    )
    agent.others = [Peer(EVIL, EVIL, 1.0, True)]
    agent.strangers = [Offer(EVIL, EVIL, EVIL)]
    agent.progress = Progress(EVIL, EVIL, 1, 2)
    agent.confused = Confusion((EVIL,), ((0.5, 0.5),))
    agent.who = dataclasses.replace(agent.who, name=EVIL, backbone=EVIL)
    agent.classify = lambda _: Answer(True, EVIL, EVIL, 0.5)  # type: ignore[method-assign]
    for html in (client.get("/").text, ask(picture()).text):
        assert html.count("<script") == 2
        assert "onload=alert(1)" in html
        assert not re.search(r"<[a-z]+[^>]*\bonload", html)
        assert "49" not in re.findall(r"\{\{.*?\}\}", html)
        assert "{{7*7}}" in html
