"""The documentation's picture: `python -m tests.support.screenshot RUN docs/serving.png`."""

from __future__ import annotations

import shutil
import sys
from typing import Any

from harness.serving import start

WIDTH, HEIGHT = 1280, 860


def picture_of(browser: Any, url: str) -> bytes:
    """The page as PNG, once all systems have answered its first example."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.goto(url)
    page.locator("#examples button").first.click()
    page.click("#go")
    page.locator("#stop").wait_for(state="hidden", timeout=600_000)
    page.wait_for_timeout(500)
    made: bytes = page.screenshot()
    page.close()
    return made


def main(run: str, place: str) -> None:
    """Serve the run and write the picture."""
    from playwright.sync_api import sync_playwright

    server = start(run).wait()
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        picture = picture_of(browser, server.url)
        browser.close()
    server.close()
    with open(place, "wb") as file:
        file.write(picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
