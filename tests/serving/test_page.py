"""The page in a real Chromium: typed prompts, rendered answers, the switch, and no way out."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.serving.server import Handle
from tests.support.screenshot import HEIGHT, WIDTH, picture_of
from tests.support.serving import EXAMPLES, World

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]
PAGE = """<!DOCTYPE html><html lang="en"><head><title>t</title></head><body><h1>Tides</h1>
<p id="said">still</p><script>document.getElementById("said").textContent = "moved"</script>
</body></html>"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


class Listener:
    """A socket that notes every request that reaches it.

    Chromium may open a connection for a navigation that it then refuses, and sends nothing: that is
    none.
    """

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.reached: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}"

    def _accept(self) -> None:
        while True:
            try:
                one, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._read, args=(one,), daemon=True).start()

    def _read(self, one: socket.socket) -> None:
        with one:
            one.settimeout(5)
            try:
                found = one.recv(200)
            except OSError:
                return
            self.reached += [found] if found else []


def said(handle: Handle, page: Any, html: str) -> None:
    """Have the server's page show `html` as what each system answers; all else is real."""
    shown = handle.shown.keep(html)
    answer = {
        "html": html,
        "raw": html,
        "model": "tiny",
        "system": "base",
        "adapter": None,
        "finish_reason": "stop",
        "prompt_tokens": 3,
        "prompt_cut": False,
        "new_tokens": 9,
        "seconds": 0.1,
        "validity": {"html_valid": 1.0, "errors": []},
        "request_id": "1",
        "page": f"/shown/{shown}",
    }
    body = f": ok\n\ndata: {json.dumps({'answer': answer})}\n\n"
    page.route(
        "**/generate_html/stream",
        lambda route: route.fulfill(status=200, content_type="text/event-stream", body=body),
    )


def asked(page: Any, url: str, prompt: str = "a page") -> None:
    page.goto(url)
    page.locator("#examples button").first.wait_for()
    page.fill("#prompt", prompt)
    page.click("#go")
    page.locator("iframe").nth(1).wait_for(timeout=60_000)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 820, 390])
def test_a_prompt_is_typed_and_both_answers_appear(
    world: World, browser: Any, scheme: str, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    faults: list[str] = []
    requests: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(world.handle.url)
    chip = page.locator("#examples button")
    chip.first.wait_for()
    assert chip.all_text_contents() == list(EXAMPLES)
    chip.nth(1).click()
    assert page.input_value("#prompt") == EXAMPLES[1]
    page.keyboard.press("Control+Enter")
    page.locator("iframe").nth(1).wait_for(timeout=60_000)
    for at, (name, system) in enumerate((("base", "base"), ("run-1", "run-1"))):
        answer = page.locator(".answer").nth(at)
        assert answer.locator("h2").text_content() == name
        assert "tokens" in answer.locator(".facts").text_content()
        answer.locator("[role=tab]", has_text="Source").click()
        source = answer.locator("code").text_content()
        assert source in world.wanted(EXAMPLES[1], system)
        answer.locator("[role=tab]", has_text="Errors").click()
        assert answer.locator(".view[data-view=errors]").is_visible()
        answer.locator("[role=tab]", has_text="Errors").press("ArrowRight")
        assert answer.locator(".view[data-view=page]").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    violations = axe.Axe().run(page).response["violations"]
    assert [v["id"] for v in violations] == []
    assert faults == []
    assert all(url.startswith((world.handle.url, "data:", "blob:")) for url in requests)
    context.close()


def test_the_switch_lets_a_page_run_its_scripts_in_the_sandbox(world: World, browser: Any) -> None:
    page = browser.new_page()
    said(world.handle, page, PAGE)
    asked(page, world.handle.url)
    frame = page.frame_locator("iframe").first
    assert frame.locator("h1").text_content() == "Tides"
    assert frame.locator("#said").text_content() == "still"
    page.check("#scripts")
    page.frame_locator("iframe").first.get_by_text("moved").wait_for(timeout=10_000)
    page.check("input[name=width][value='375']")
    assert page.locator("iframe").first.bounding_box()["width"] <= 375
    page.close()


def leaks(to: str) -> dict[str, str]:
    """Ways in which a page may reach out."""
    return {
        "image": f"<img src='{to}/1'>",
        "css": f"<style>@import '{to}/2'; body {{ background: url({to}/3) }}</style>",
        "stylesheet": f"<link rel=stylesheet href='{to}/4'>",
        "preload": f"<link rel=preload as=image href='{to}/5'><link rel=prefetch href='{to}/6'>",
        "dns": f"<link rel=preconnect href='{to}'>",
        "icon": f"<link rel=icon href='{to}/7'>",
        "script": f"<script src='{to}/8'></script>",
        "fetch": f"<script>fetch('{to}/9')</script>",
        "beacon": f"<script>navigator.sendBeacon('{to}/10', 'x')</script>",
        "websocket": f"<script>new WebSocket('{to.replace('http', 'ws')}/11')</script>",
        "location": f"<script>location = '{to}/12'</script>",
        "top": f"<script>top.location = '{to}/13'</script>",
        "open": f"<script>window.open('{to}/14')</script>",
        "refresh": f"<meta http-equiv=refresh content='0;url={to}/15'>",
        "frame": f"<iframe src='{to}/16'></iframe>",
        "object": f"<object data='{to}/17'></object><embed src='{to}/18'>",
        "media": f"<video src='{to}/19' autoplay></video><audio src='{to}/20' autoplay></audio>",
        "form": f"<form action='{to}/21'><input name=a></form><script>document.forms[0].submit()"
        "</script>",
        "base": f"<base href='{to}/'><img src='22'>",
    }


@pytest.mark.parametrize("scripts", [False, True])
def test_no_way_out_reaches_a_socket(world: World, browser: Any, scripts: bool) -> None:
    listener = Listener()
    ways = leaks(listener.url)
    assert len(ways) == 19
    for html in ways.values():
        text = f"<!DOCTYPE html><title>t</title>{html}<p>here"
        page = browser.new_page()
        said(world.handle, page, text)
        asked(page, world.handle.url)
        if scripts:
            page.check("#scripts")
        page.wait_for_timeout(250)
        assert page.url.startswith(world.handle.url)
        page.close()
        alone = browser.new_page()
        name = world.handle.shown.keep(text)
        alone.goto(f"{world.handle.url}/shown/{name}{'?scripts=1' if scripts else ''}")
        alone.wait_for_timeout(250)
        alone.close()
    assert listener.reached == []
    # The socket does listen: a page without our policy reaches it.
    bare = browser.new_page()
    bare.set_content(ways["image"])
    bare.wait_for_timeout(500)
    bare.close()
    assert listener.reached
    listener.socket.close()


def test_the_documentations_picture_is_made_here(world: World, browser: Any) -> None:
    docs = (Path(__file__).resolve().parents[2] / "docs" / "serving.png").read_bytes()
    for picture in (docs, picture_of(browser, world.handle.url)):
        assert picture[:8] == b"\x89PNG\r\n\x1a\n"
        assert picture[16:24] == WIDTH.to_bytes(4, "big") + HEIGHT.to_bytes(4, "big")
