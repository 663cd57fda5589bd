"""The page in Debian's Chromium, headless."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.shell.web.conftest import picture
from tests.shell.web.fakes import FakeAgent, confusion
from tests.shell.web.test_app import EVIL

from stolon.shell.decoding import Decoder
from stolon.shell.web.app import make_app
from stolon.shell.web.facade import Alternative, Answer, Confusion, Offer, Peer, Progress
from stolon.shell.web.limits import Limits
from stolon.shell.web.server import Server, serve

CHROMIUM = Path("/usr/bin/chromium")

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no browser at {CHROMIUM}")

LONG = "W" * 64
CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const over = (colours) => {  // what is seen of colours that lie on each other, the last one on top
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const box = element.getBoundingClientRect();
    if (!walker.currentNode.data.trim() || box.width < 2 || getComputedStyle(element).display === "none") continue;
    const papers = [];
    for (let e = element; e; e = e.parentElement) papers.unshift(getComputedStyle(e).backgroundColor);
    const paper = over(["#fff", ...papers]);
    const ink = over([`rgb(${paper})`, getComputedStyle(element).color]);
    const [low, high] = [light(paper), light(ink)].sort((a, b) => a - b);
    found.push([(high + .05) / (low + .05), walker.currentNode.data.trim()]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture
def server(agent: FakeAgent, decoder: Decoder) -> Iterator[Server]:
    with serve(make_app(agent, decoder)) as made:
        yield made


class Visit:
    """A page that is open, and all it complained about and asked for."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)

    def choose(self, data: bytes, name: str = "a.png") -> None:
        self.page.set_input_files("#picture", {"name": name, "mimeType": "image/png", "buffer": data})

    def see(self, text: str, within: str = "body") -> None:
        """Wait until a text is shown."""
        self.page.locator(within).get_by_text(text).first.wait_for()


@pytest.fixture
def visit(chromium, server) -> Iterator[Any]:
    made: list[Visit] = []

    def go(**options: Any) -> Visit:
        made.append(Visit(chromium, server.address, **options))
        return made[-1]

    yield go
    for one in made:
        one.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_loads_from_the_agent_alone_and_nothing_complains(visit, server, scheme):
    seen = visit(color_scheme=scheme)
    seen.see("road signs", "#tasks")
    seen.page.wait_for_function("typeof htmx === 'object'")
    assert seen.complaints == []
    assert len(seen.asked) >= 5
    assert all(address.startswith(server.address) for address in seen.asked)
    assert not seen.context.cookies()


def test_a_picture_that_is_chosen_is_answered_in_place(visit):
    seen = visit()
    seen.choose(picture("red"))
    seen.see("apple", "#answer")
    seen.see("93\xa0% sure", "#answer")
    shown = seen.page.locator("#answer img")
    assert shown.evaluate("image => image.complete && image.naturalWidth") == 32
    assert "as the agent saw it" in shown.get_attribute("alt")
    assert seen.page.url.endswith("/")
    seen.choose(picture("black"))
    seen.see("unknown", "#answer")
    seen.choose(picture("red"))  # the same file again
    seen.see("apple", "#answer")
    assert seen.complaints == []


DATA = "(bytes) => { const d = new DataTransfer(); d.items.add(new File([new Uint8Array(bytes)], 'x')); return d; }"


def test_a_picture_may_be_dropped_anywhere(visit):
    seen = visit()
    data = seen.page.evaluate_handle(DATA, list(picture("yellow")))
    seen.page.dispatch_event("#costs", "dragenter", {"dataTransfer": data})
    assert "over" in seen.page.locator("#drop").get_attribute("class")
    seen.page.dispatch_event("#costs", "drop", {"dataTransfer": data})
    seen.see("banana", "#answer")
    assert "over" not in seen.page.locator("#drop").get_attribute("class")


def test_a_picture_may_be_pasted(visit):
    seen = visit()
    data = seen.page.evaluate_handle(DATA, list(picture("red")))
    seen.page.evaluate("(data) => dispatchEvent(new ClipboardEvent('paste', {clipboardData: data}))", data)
    seen.see("apple", "#answer")


def test_a_picture_that_cannot_be_read_is_refused_in_plain_words(visit, tmp_path):
    seen = visit()
    seen.choose(picture("red")[:-40])
    seen.see("This picture is damaged, or only a part of one.", "#answer")
    seen.choose(b"nothing")
    seen.see("This is not a picture that can be read here.", "#answer")
    (tmp_path / "large.jpg").write_bytes(bytes(8 * 2**20))
    seen.page.set_input_files("#picture", tmp_path / "large.jpg")
    seen.see("The picture is too large. Up to 8 MB are taken.", "#answer")
    seen.choose(picture("red"))
    seen.see("apple", "#answer")


def test_a_picture_that_is_far_too_large_is_refused_in_plain_words_without_scripts_too(visit, tmp_path):
    seen = visit(java_script_enabled=False)
    (tmp_path / "large.jpg").write_bytes(bytes(20 * 2**20))
    seen.page.set_input_files("#picture", tmp_path / "large.jpg")
    seen.page.get_by_role("button", name="Classify").click()
    seen.see("The picture is too large. Up to 8 MB are taken.", "#answer")


def test_without_scripts_everything_is_there_and_a_picture_is_answered(visit):
    seen = visit(java_script_enabled=False)
    for text in ("road signs", "Confusion among tasks", "lab-2", "overhead on the wire"):
        seen.see(text)
    seen.choose(picture("red"))
    seen.page.get_by_role("button", name="Classify").click()
    seen.see("apple", "#answer")
    seen.see("road signs", "#tasks")
    assert seen.page.url.endswith("/classify")


def test_what_changes_is_shown_without_being_asked_and_without_taking_the_focus(chromium, agent, decoder):
    limits = Limits(rows=5)  # so that there is a link in a part that is refreshed
    with serve(make_app(agent, decoder, limits=limits)) as server:
        seen = Visit(chromium, server.address)
        seen.page.wait_for_function("typeof htmx === 'object'")
        for focused in ("picture", "tasks-after"):
            seen.page.focus(f"#{focused}")
            agent.learn(name=f"news at {focused}")
            agent.others = [Peer(f"peer at {focused}", "aaaa-bbbb", 1.0, True)]
            seen.see(f"news at {focused}", "#tasks")
            seen.see(f"peer at {focused}", "#peers")
            assert seen.page.evaluate("document.activeElement.id") == focused
        assert seen.complaints == []
        seen.context.close()


def test_an_agent_that_falls_silent_and_comes_back_is_noticed(chromium, agent, decoder):
    app = make_app(agent, decoder)
    with serve(app) as first:
        port = first.port
        seen = Visit(chromium, first.address)
        seen.page.wait_for_function("typeof htmx === 'object'")
        assert not seen.page.locator("#lost").is_visible()
    seen.page.locator("#lost").wait_for(state="visible")
    with serve(app, port=port):
        seen.page.locator("#lost").wait_for(state="hidden")
    seen.context.close()


def test_nothing_is_scrolled_sideways_whatever_things_are_called(visit, agent):
    agent.learn(name=LONG, classes=[LONG] * 20, author=LONG, own=False, active=False, reason=LONG)
    agent.others = [Peer(LONG, "3f9a-12bc", 1.0, True), *agent.others]
    agent.strangers = [Offer("5d" * 32, "5d5d-5d5d", LONG)]
    agent.progress = Progress(LONG, "train", 1, 2)
    agent.confused = confusion([LONG, *(task.name for task in agent.known[1:])])
    agent.who = dataclasses.replace(agent.who, name=LONG, backbone=LONG)
    agent.classify = lambda _: Answer(True, LONG, LONG, 0.5)
    seen = visit(viewport={"width": 360, "height": 740})
    seen.choose(picture())
    seen.page.locator("#answer .label").wait_for()
    beyond = """(width) => [...document.querySelectorAll("main *, header *")]
        .filter((e) => !e.closest(".scroll table, .hide, svg, thead") && e.getBoundingClientRect().right > width + 1)
        .map((e) => e.outerHTML.slice(0, 80))"""
    for script in (True, False):
        seen.page.evaluate("(on) => document.documentElement.classList.toggle('script', on)", script)
        for width in (320, 360, 600, 760, 1024, 1280):
            seen.page.set_viewport_size({"width": width, "height": 740})
            assert seen.page.evaluate(beyond, width) == []
            assert seen.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_the_contrast_that_weak_eyes_need(visit, agent, scheme):
    steps = [step / 10 for step in range(11)]
    rows = [[steps[(row + column) % 11] for column in range(12)] for row in range(11)]
    agent.confused = Confusion([f"t{row}" for row in range(11)], rows)
    seen = visit(color_scheme=scheme)
    for colour in ("red", "black", "nothing"):
        seen.choose(picture(colour) if colour != "nothing" else b"nothing")
        seen.see({"red": "apple", "black": "unknown", "nothing": "not a picture"}[colour], "#answer")
        found = seen.page.evaluate(CONTRASTS)
        assert len(found) > 150
        assert min(found)[0] >= 4.5, min(found)


def test_the_page_is_used_by_keyboard(visit):
    seen = visit()
    seen.page.wait_for_function("document.documentElement.classList.contains('script')")
    seen.page.keyboard.press("Tab")
    assert seen.page.evaluate("document.activeElement.textContent") == "Skip to the picture"
    assert seen.page.evaluate("document.activeElement.getBoundingClientRect().width") > 50
    seen.page.keyboard.press("Tab")
    assert seen.page.evaluate("document.activeElement.id") == "picture"
    assert seen.page.evaluate("getComputedStyle(document.querySelector('#drop')).outlineStyle") == "solid"
    chosen = pressed(seen.page, "Space")
    chosen.set_files({"name": "a", "mimeType": "", "buffer": picture("red")})
    seen.see("apple", "#answer")
    assert seen.page.locator("#answer").get_attribute("aria-live") == "polite"


def pressed(page, key):
    """The chooser of files that a key opens; a browser that has no processor loses a key press now and then."""
    from playwright.sync_api import TimeoutError as Late

    for timeout in (10_000, 10_000, 40_000):
        try:
            with page.expect_file_chooser(timeout=timeout) as chooser:
                page.keyboard.press(key)
        except Late:
            continue
        return chooser.value
    return pytest.fail(f"{key} opened no chooser")


def test_every_control_and_picture_has_a_name(visit):
    seen = visit()
    seen.choose(picture("red"))
    seen.page.locator("#answer .label").wait_for()
    unnamed = """[...document.querySelectorAll("input, button, img, a, [role=region]")].filter((e) =>
        !(e.labels?.length || e.alt || e.ariaLabel || e.textContent.trim())).map((e) => e.outerHTML)"""
    assert seen.page.evaluate(unnamed) == []
    levels = seen.page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((e) => e.tagName)")
    assert levels[0] == "H1"
    assert set(levels[1:]) == {"H2"}


NAMES = (
    EVIL,
    "<img src=x onerror=document.title='x'>",
    "<svg/onload=document.title='x'>",
    "javascript:document.title='x'",
    "</bdi></th><script>document.title='x'</script>",
    '" hx-get="/x" hx-trigger="load',
    "' autofocus onfocus='alert(1)",
    "\u202egnp.exe",
    "a" + "\u0301" * 60,
)


def test_no_name_runs_or_loads_anything(visit, agent, server):
    for name in NAMES:
        agent.learn(
            name=name, classes=NAMES, author=name, fingerprint=name, own=False, active=False, reason=name
        )
    agent.others = [Peer(name, name, 1.0, True) for name in NAMES]
    agent.strangers = [Offer(name, name, name) for name in NAMES]
    agent.progress = Progress(EVIL, NAMES[1], 1, 2)
    agent.confused = confusion(list(NAMES))
    agent.who = dataclasses.replace(agent.who, backbone=EVIL)
    others = [Alternative(name, name, 0.1) for name in NAMES]
    agent.classify = lambda _: Answer(True, NAMES[1], NAMES[4], 0.5, others)
    seen = visit()
    seen.choose(picture())
    seen.page.locator("#answer .label").wait_for()
    agent.learn(name=f"{NAMES[1]}!", classes=NAMES)
    seen.see(f"{NAMES[1]}!", "#tasks")
    assert seen.page.title() == "heron · stolon"
    assert seen.complaints == []
    assert all(address.startswith(server.address) and "/x" not in address for address in seen.asked)
