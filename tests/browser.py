"""A small driver for headless Chromium: pages, real keys and clicks, conditions with a deadline.

It speaks the DevTools protocol (https://chromedevtools.github.io/devtools-protocol/) over two pipes, so that it needs
no package and no port. For one thread. The fixture `browser` of conftest.py starts one Chromium for all tests:

    @needs_chromium
    @pytest.mark.browser
    def test_it(browser: Browser) -> None:
        with browser.page("http://127.0.0.1:8000/", width=390, height=844) as page:
            page.click("#save")
            page.press("Control+z")
            page.wait("document.title === 'saved'")
            assert page.value("document.images.length") == 3
            assert not page.errors
"""

import base64
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

DEADLINE = 60.0  # seconds for anything that is waited for; a busy machine is slow, not wrong
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
CHROMIUM = next(filter(None, map(shutil.which, (*NAMES, MAC))), None)
FLAGS = (
    "--headless", "--disable-gpu", "--no-first-run", "--no-default-browser-check", "--disable-sync", "--mute-audio",
    "--disable-background-networking", "--disable-component-update", "--disable-quic", "--remote-debugging-pipe",
    *(["--no-sandbox"] if sys.platform == "linux" else []),
)  # fmt: skip

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None or os.name != "posix", reason="needs Chromium or Chrome on the PATH, and POSIX pipes"
)

# key -> code and virtual key code, where they are not those of a letter or digit
# (https://www.w3.org/TR/uievents-code/, https://learn.microsoft.com/windows/win32/inputdev/virtual-key-codes)
KEYS = {
    "Enter": ("Enter", 13), "Escape": ("Escape", 27), "Tab": ("Tab", 9), "Backspace": ("Backspace", 8),
    "ArrowLeft": ("ArrowLeft", 37), "ArrowUp": ("ArrowUp", 38), "ArrowRight": ("ArrowRight", 39),
    "ArrowDown": ("ArrowDown", 40), "/": ("Slash", 191), "?": ("Slash", 191), " ": ("Space", 32),
}  # fmt: skip
MODIFIERS = {"Alt": 1, "Control": 2, "Meta": 4, "Shift": 8}


class Browser:
    """A running Chromium.

    Args:
        profile: an empty folder for its files.
    """

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        # Chromium reads commands from descriptor 3 and answers on 4
        self.process = subprocess.Popen(
            ["sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1', "sh", CHROMIUM, *FLAGS,
             f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.pages: dict[str, Page] = {}
        self.number = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Give a command and return its result; an error or no answer in time fails the test."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        assert self.process.stdin
        self.process.stdin.write(json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        self.process.stdin.flush()
        deadline = time.monotonic() + DEADLINE
        while True:
            answer = self._next(deadline, method)
            if answer.get("id") == self.number:
                assert "error" not in answer, f"{method}: {answer['error']['message']}"
                result: dict[str, Any] = answer["result"]
                return result

    def wait_event(self, page: "Page", name: str) -> None:
        """Take events until this one has come to the page."""
        deadline = time.monotonic() + DEADLINE
        while name not in page.events:
            self._next(deadline, name)

    @contextmanager
    def page(self, url: str, width: int = 1280, height: int = 800, dark: bool = False) -> Iterator["Page"]:
        """Open an address in a tab of its own; leave when it has loaded.

        Args:
            url: the address.
            width: of the window's inside, in CSS pixels; up to 500 it is a phone: touch, two device pixels to each.
            height: likewise.
            dark: what the system's theme is.
        """
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session)
        phone = width <= 500
        for domain in ("Page", "Runtime", "Log"):
            page.send(f"{domain}.enable")
        page.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, mobile=phone, deviceScaleFactor=2 if phone else 1,
        )  # fmt: skip
        page.send("Emulation.setTouchEmulationEnabled", enabled=phone)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.send("Emulation.setEmulatedMedia", features=[theme])
        page.open(url)
        try:
            yield page
        finally:
            self.send("Target.closeTarget", targetId=target)

    def close(self) -> None:
        """End Chromium."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()  # it ends when nobody can command it any more
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def _listen(self) -> None:
        assert self.process.stdout
        pending = b""
        while chunk := os.read(self.process.stdout.fileno(), 1 << 16):
            *whole, pending = (pending + chunk).split(b"\0")
            for message in whole:
                self.messages.put(json.loads(message))
        self.messages.put(None)

    def _next(self, deadline: float, awaited: str) -> dict[str, Any]:
        try:
            message = self.messages.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            pytest.fail(f"no {awaited} within {DEADLINE:g} s")
        if message is None:
            pytest.fail(f"Chromium ended before {awaited}")
        page = self.pages.get(message.get("sessionId", ""))
        if page is not None and "method" in message:
            page.note(message["method"], message["params"])
        return message


class Page:
    """One tab.

    Attributes:
        errors: what went wrong in it: exceptions, refused contents, failed requests.
        events: the names of what has happened in it since it was opened.
    """

    def __init__(self, browser: Browser, session: str) -> None:
        self.browser, self.session = browser, session
        self.errors: list[str] = []
        self.events: set[str] = set()

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give a command to this tab."""
        return self.browser.send(method, self.session, **parameters)

    def open(self, url: str) -> None:
        """Go to an address and wait until it has loaded."""
        self.events.discard("Page.loadEventFired")
        failed = self.send("Page.navigate", url=url).get("errorText")
        assert not failed, f"{url}: {failed}"
        self.browser.wait_event(self, "Page.loadEventFired")

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives, as JSON has it; a promise is awaited."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{expression}: {_thrown(answer['exceptionDetails'])}"
        return answer["result"].get("value")

    def wait(self, expression: str) -> Any:
        """Wait until an expression gives something true, and return that."""
        wait = (
            "new Promise((done, fail) => { const end = performance.now() + %d; const look = () => { const found = (%s);"
            " if (found) done(found); else if (performance.now() > end) fail(Error('not in time'));"
            " else setTimeout(look, 10); }; look(); })"
        )
        return self.value(wait % (DEADLINE * 900, expression))

    def text(self, selector: str) -> str:
        """The visible text of the first element that a CSS selector finds."""
        text: str = self.value(f"document.querySelector({json.dumps(selector)}).innerText")
        return " ".join(text.split())

    def press(self, *keys: str) -> None:
        """Press and release each key: `k`, `?`, `Enter`, `Control+z`."""
        for key in keys:
            *modifiers, name = key.split("+") if len(key) > 1 else [key]
            held = sum(MODIFIERS[modifier] for modifier in modifiers)
            code, number = KEYS.get(
                name, (f"Digit{name}" if name.isdigit() else f"Key{name.upper()}", ord(name[0].upper()))
            )
            facts = {"key": name, "code": code, "windowsVirtualKeyCode": number, "modifiers": held}
            text = {"Enter": "\r"}.get(name, name if len(name) == 1 and not held & ~MODIFIERS["Shift"] else "")
            self.send("Input.dispatchKeyEvent", type="keyDown", **facts, **({"text": text} if text else {}))
            self.send("Input.dispatchKeyEvent", type="keyUp", **facts)

    def write(self, text: str) -> None:
        """Put text where the cursor is, as an input method does."""
        self.send("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """Click the middle of the first element that a CSS selector finds; it must be what lies there."""
        found = self.value(
            f"""(() => {{
                const element = document.querySelector({json.dumps(selector)});
                element.scrollIntoView({{block: "nearest", inline: "nearest", behavior: "instant"}});
                const {{left, top, width, height}} = element.getBoundingClientRect();
                const [x, y] = [left + width / 2, top + height / 2];
                const hit = document.elementFromPoint(x, y);
                return {{x, y, hit: element.contains(hit), instead: hit?.outerHTML.slice(0, 200)}};
            }})()"""
        )
        assert found["hit"], f"{selector} is covered by {found['instead']}"
        place = {"x": found["x"], "y": found["y"]}
        self.send("Input.dispatchMouseEvent", type="mouseMoved", **place)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def choose_file(self, selector: str, path: Path) -> None:
        """Give a file to an <input type="file">, as its dialog would."""
        found = self.send("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})")
        self.send("DOM.setFileInputFiles", files=[str(path)], objectId=found["result"]["objectId"])

    def screenshot(self, path: Path) -> None:
        """Write what the window shows as a PNG."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def note(self, event: str, facts: dict[str, Any]) -> None:
        """Take an event of this tab."""
        self.events.add(event)
        if event == "Runtime.exceptionThrown":
            self.errors.append(_thrown(facts["exceptionDetails"]))
        elif event == "Log.entryAdded" and facts["entry"]["level"] == "error":
            self.errors.append(f"{facts['entry']['text']} {facts['entry'].get('url', '')}")


def _thrown(details: dict[str, Any]) -> str:
    return str(details.get("exception", {}).get("description", details["text"]))
