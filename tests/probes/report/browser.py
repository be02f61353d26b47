"""A real browser for tests of pages: Chromium over its debugging pipe, with real clicks and keys."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--remote-debugging-pipe --disable-background-networking --disable-component-update "
    "--disable-dev-shm-usage"
)
PATIENCE_S = 120.0


class Page:
    """One page, a file or an address, in a browser of its own.

    Attributes:
        console: What the console was told: warnings and errors of the page and of the browser.
        requests: Addresses that were asked for, the page's own among them.
    """

    def __init__(self, path: Path | str, profile: Path, *, width: int = 1440, dark: bool = False) -> None:
        self.console: list[str] = []
        self.requests: list[str] = []
        self._n, self._rest = 0, b""
        down, self._write = os.pipe()
        self._read, up = os.pipe()

        def wire() -> None:  # the browser reads from 3 and writes to 4
            os.dup2(down, 63)
            os.dup2(up, 64)
            os.dup2(63, 3)
            os.dup2(64, 4)
            os.set_inheritable(3, True)
            os.set_inheritable(4, True)

        command = [str(BROWSER), *FLAGS.split(), f"--user-data-dir={profile}", "about:blank"]
        self._browser = subprocess.Popen(
            command,
            close_fds=False,
            preexec_fn=wire,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(down)
        os.close(up)
        targets = self._call("Target.getTargets")["targetInfos"]
        target = next(t["targetId"] for t in targets if t["type"] == "page")
        attached = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})
        self._session: str | None = attached["sessionId"]
        for domain in ("Runtime", "Log", "Network", "Page"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.call("Page.navigate", {"url": path if isinstance(path, str) else path.as_uri()})
        self.wait("document.readyState === 'complete'")

    def close(self) -> None:
        """End the browser."""
        self._browser.terminate()
        self._browser.wait()
        os.close(self._write)
        os.close(self._read)

    def value(self, script: str) -> Any:
        """What an expression is in the page, promises awaited."""
        asked = {"expression": script, "returnByValue": True, "awaitPromise": True}
        found = self.call("Runtime.evaluate", asked)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script: str) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + PATIENCE_S
        while not self.value(script):
            assert time.monotonic() < until, f"never true: {script}"
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """Click with the mouse in the middle of an element."""
        x, y = self.value(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); "
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect(); "
            "return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            what = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", what)

    def press(self, key: str, text: str = "") -> None:
        """Press a key, such as ``Tab``, where the focus is."""
        codes = {"Tab": 9, " ": 32, "Enter": 13, "ArrowDown": 40, "ArrowUp": 38}
        what = {"key": key, "windowsVirtualKeyCode": codes[key], **({"text": text} if text else {})}
        self.call("Input.dispatchKeyEvent", {"type": "keyDown", **what})
        self.call("Input.dispatchKeyEvent", {"type": "keyUp", **what})

    def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """A call of the DevTools protocol, about the page."""
        return self._call(method, params, self._session)

    def _call(self, method: str, params: dict[str, Any] | None = None, session: str | None = None) -> Any:
        self._n += 1
        message = {"id": self._n, "method": method, "params": params or {}}
        message |= {"sessionId": session} if session else {}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._n:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._read, 1 << 20)
            assert part, "the browser ended"
            self._rest += part
        text, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(text)
        return found

    def _note(self, event: dict[str, Any]) -> None:
        of = event.get("params", {})
        if event.get("method") == "Runtime.consoleAPICalled":
            self.console.append(" ".join(str(a.get("value")) for a in of["args"]))
        elif event.get("method") == "Runtime.exceptionThrown":
            self.console.append(str(of["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded":
            self.console.append(of["entry"]["text"])
        elif event.get("method") == "Network.requestWillBeSent":
            self.requests.append(of["request"]["url"])
