"""A page in a browser without a window, for tests: what a script of the test's finds there."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on PATH: apt-get install chromium")


def seen(page: Path, script: str, folder: Path) -> Any:
    """Open a copy of a page, draw its figures, and run the body of an async function there; returns what that returns, as plain data.

    The network is cut off: every name and address leads nowhere.
    """
    body = f"""<script>addEventListener("load", () => setTimeout(async () => {{
      dispatchEvent(new Event("beforeprint"));
      await new Promise(done => setTimeout(done, 1500));
      let found;
      try {{ found = await (async () => {{ {script} }})(); }} catch (error) {{ found = "" + error.stack; }}
      const place = document.createElement("pre");
      place.id = "found-by-test";
      place.textContent = JSON.stringify(found);
      document.body.append(place);
    }}, 300));</script>"""
    copy = folder / "seen.html"
    copy.write_text(page.read_text().replace("</html>", body + "</html>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--window-size=1400,900"]
    cut_off = ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'browser'}"]
    done = subprocess.run([CHROMIUM, *options, *cut_off, "--dump-dom", copy.as_uri()], capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="found-by-test">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found.group(1)))


CLICK = """
  const place = document.querySelectorAll("[data-chart]")[%d], layout = place._fullLayout;
  const trace = place._fullData.find(trace => trace.name === "%s");
  const drag = place.querySelector(".nsewdrag"), box = drag.getBoundingClientRect(), i = %d;
  const x = box.left + layout.xaxis.d2p(trace.x[i]), y = box.top + layout.yaxis.d2p(trace.y[i]);
  const at = {bubbles: true, view: window, clientX: x, clientY: y};
  for (const kind of ["mousemove", "mousedown", "mouseup", "click"]) drag.dispatchEvent(new MouseEvent(kind, at));
  await new Promise(done => setTimeout(done, 800));
  const picked = document.getElementById("picked"), hit = picked.querySelector("h3").textContent;
  return {hidden: picked.hidden, said: hit, boxes: [...picked.querySelectorAll(".box")].map(box => box.textContent),
          fetched: performance.getEntriesByType("resource").map(entry => entry.name)};
"""
