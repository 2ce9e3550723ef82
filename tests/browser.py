"""A page as headless Chromium sees it, over the browser's own debugging pipe; needs no driver and no network."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TIMEOUT = 60.0
_LOOK = """
(async () => {
  if (document.readyState !== 'complete') await new Promise(done => addEventListener('load', done));
  return JSON.stringify({
    images: [...document.images].map(i => ({alt: i.alt, width: i.complete ? i.naturalWidth : 0})),
    headings: [...document.querySelectorAll('h1, h2')].map(h => h.innerText),
    answer: document.querySelector('.answer')?.innerText ?? '',
    too_wide: document.documentElement.scrollWidth > innerWidth,
  });
})()
"""


@dataclass
class Seen:
    """What a page showed, said and asked for."""

    images: list
    headings: list
    answer: str
    too_wide: bool
    complaints: list = field(default_factory=list)
    requests: list = field(default_factory=list)


class _Pipe:
    def __init__(self, to_browser, from_browser):
        self.to_browser, self.from_browser = to_browser, from_browser
        self.buffer, self.number, self.events = b"", 0, []

    def send(self, method, session=None, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        message |= {"sessionId": session} if session else {}
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            answer = self._read()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)
        raise TimeoutError(method)

    def _read(self):
        while b"\0" not in self.buffer:
            more = os.read(self.from_browser, 1 << 16)
            if not more:
                raise EOFError("the browser has gone")
            self.buffer += more
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)


@contextmanager
def _browser(folder: Path) -> Iterator[_Pipe]:
    browser_reads, we_write = os.pipe()
    we_read, browser_writes = os.pipe()

    def place():  # the protocol's file descriptors are 3 and 4
        a, b = os.dup(browser_reads), os.dup(browser_writes)
        high = [os.dup(fd) for fd in (a, b) for _ in range(4)]
        os.dup2(high[3], 3)
        os.dup2(high[7], 4)

    process = subprocess.Popen(
        [
            CHROMIUM,
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"),
            *("--disable-dev-shm-usage", f"--user-data-dir={folder}", "about:blank"),
        ],
        pass_fds=(3, 4),
        preexec_fn=place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(browser_reads)
    os.close(browser_writes)
    try:
        yield _Pipe(we_write, we_read)
    finally:
        process.kill()
        process.wait()
        os.close(we_write)
        os.close(we_read)


def look_at(page: Path, folder: Path, width: int = 1200) -> Seen:
    """Open a file without a network.

    Args:
        page: HTML file.
        folder: for the browser's own files.
        width: of the window in pixels.
    """
    with _browser(folder) as pipe:
        target = pipe.send("Target.createTarget", url="about:blank")["targetId"]
        session = pipe.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Network", "Page"):
            pipe.send(f"{domain}.enable", session)
        no_network = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        pipe.send("Network.emulateNetworkConditions", session, **no_network)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        pipe.send("Emulation.setDeviceMetricsOverride", session, **size)
        pipe.send("Page.navigate", session, url=page.resolve().as_uri())
        look = {"expression": _LOOK, "awaitPromise": True, "returnByValue": True}
        seen = Seen(**json.loads(pipe.send("Runtime.evaluate", session, **look)["result"]["value"]))
        pipe.send("Runtime.evaluate", session, expression="0")
        for event in pipe.events:
            _take(seen, event)
    return seen


def _take(seen: Seen, event: dict) -> None:
    given = event.get("params", {})
    if event.get("method") == "Network.requestWillBeSent":
        seen.requests.append(given["request"]["url"])
    elif event.get("method") == "Log.entryAdded" and given["entry"]["level"] in ("error", "warning"):
        seen.complaints.append(given["entry"]["text"])
    elif event.get("method") == "Runtime.exceptionThrown":
        seen.complaints.append(str(given["exceptionDetails"]))
    elif event.get("method") == "Runtime.consoleAPICalled" and given["type"] in ("error", "warning"):
        seen.complaints.append(str(given["args"]))
