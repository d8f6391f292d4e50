"""A headless Chromium, driven by the DevTools protocol over a pipe."""

import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NEEDS_ONE = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not CHROMIUM and not os.environ.get("CI"), reason="no Chromium on the PATH (Debian: apt install chromium)"
    ),
]
SPOKEN = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded", "Network.loadingFailed")


class Browser:
    """One page of a headless Chromium with a fresh profile."""

    OPTIONS = "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"

    def __init__(self):
        if not CHROMIUM:
            raise RuntimeError("no Chromium on the PATH, and the tests of the pages are not skipped where CI is set")
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in (*os.pipe(), *os.pipe())]
        read, self.to, self.back, write = ends
        command = [CHROMIUM, *self.OPTIONS.split(), "--remote-debugging-pipe", f"--user-data-dir={self.profile.name}"]

        def as_chromium_wants_them():
            os.dup2(read, 3)
            os.dup2(write, 4)

        self.process = subprocess.Popen(
            command, close_fds=False, stderr=subprocess.DEVNULL, preexec_fn=as_chromium_wants_them
        )
        os.close(read), os.close(write)
        self.buffer, self.count, self.session, self.events = b"", 0, None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def _receive(self, limit: float = 60) -> dict:
        end = time.monotonic() + limit
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.back], [], [], max(0, end - time.monotonic()))
            part = os.read(self.back, 1 << 20) if ready else b""
            if not part:
                raise RuntimeError("Chromium does not answer")
            self.buffer += part
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def call(self, method: str, **parameters) -> dict:
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self.count:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, path, width: int = 1400, media: str = "", scheme: str = "light") -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", media=media, features=[feature])
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self._receive())

    def value(self, expression: str):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str, code: int, shift: bool = False) -> None:
        """One key, as a reader presses it."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        given = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **given, text=text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **given)

    def tab_to(self, selector: str) -> None:
        """Press Tab until what has the focus matches, from the top of the page."""
        self.value("document.activeElement.blur(); getSelection().removeAllRanges()")
        for _ in range(200):
            self.press("Tab", 9)
            if self.value(f"document.activeElement.matches({json.dumps(selector)})"):
                return
        raise AssertionError(f"no Tab reaches {selector}")

    def serious(self) -> list:
        """What axe-core finds serious or critical on the page: (rule, first elements)."""
        axe = Path(find_spec("axe_core_python").submodule_search_locations[0], "axe.min.js").read_text("utf-8")
        self.value(axe + ";0")
        found = self.value("axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)")
        stuck = self.value(  # a rule of later versions of axe-core
            "[...document.querySelectorAll('body *')].filter(e => e.clientWidth && e.scrollWidth > e.clientWidth + 1"
            " && /auto|scroll/.test(getComputedStyle(e).overflowX) && e.tabIndex < 0"
            " && !e.querySelector('a, button, input')).map(e => e.outerHTML.slice(0, 160))"
        )
        worst = [v for v in found if v["impact"] in ("serious", "critical")]
        named = [(v["id"], [n["html"][:160] for n in v["nodes"][:3]]) for v in worst]
        return named + ([("scrollable-region-focusable", stuck[:3])] if stuck else [])

    def said(self) -> list:
        """What the console and the network of the page complained of."""
        return [e for e in self.events if e["method"] in SPOKEN]

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        os.close(self.to), os.close(self.back)
        self.profile.cleanup()
