"""What a browser says of pages: bytes, milliseconds until they are loaded and until all figures are drawn, what they fetch, what
overflows, and what axe-core finds wrong with them, on a wide screen and on a phone's, in light and in dark.

    npm install axe-core
    python benchmarks/pages.py runs/demo/report.html --axe node_modules/axe-core/axe.min.js
    python benchmarks/pages.py site/index.html --site site --axe node_modules/axe-core/axe.min.js

Needs Chromium. Pages of a site are served, since they share their styles; a report is a file, and the browser is cut off from every
network.
"""

from __future__ import annotations

import argparse
import functools
import html
import http.server
import json
import re
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

WIDTHS, NARROWEST = (1400, 390), 500  # a window is no narrower than 500 pixels: below that the page is
SERIOUS = ("serious", "critical")
SIDEWAYS = "table, pre, .wide, .chart, .md-typeset__scrollwrap, .jp-OutputArea, .md-sidebar"  # what may scroll
LOOK = """
  dispatchEvent(new Event("beforeprint"));
  await new Promise(done => setTimeout(done, 1500));
  const wide = [...document.querySelectorAll("body *")].filter(part =>
    part.getBoundingClientRect().right > WIDTH + 1 && !part.closest("SIDEWAYS"));
  const found = await axe.run(document);
  tell({overflow: wide.length, fetched: performance.getEntriesByType("resource").map(entry => entry.name),
        findings: found.violations.map(each => [each.impact, each.id, each.nodes.length])});
"""
TIME = """
  const loaded = performance.now();
  dispatchEvent(new Event("beforeprint"));
  tell({loaded, drawn: performance.now() + 0 * document.body.offsetHeight});
"""
TELL = """
function tell(found) {
  const place = document.createElement("pre");
  place.id = "found-by-benchmark";
  place.textContent = JSON.stringify(found);
  document.body.append(place);
}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--axe", type=Path, required=True, help="axe.min.js")
    parser.add_argument("--site", type=Path, help="folder that is served, of pages that share their styles")
    a = parser.parse_args()
    address = None if a.site is None else serve(a.site)
    heads = ("page", "kB", "loaded, ms", "all figures drawn, ms", "fetched", "overflow", "serious findings", "others")
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for page in a.pages:
        for width in WIDTHS:
            for dark in (False, True):
                print(row(page, width, dark, a.axe.read_text(), address, a.site), flush=True)


def serve(folder: Path) -> str:
    """A server of this process; its address."""
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves, and says nothing."""

    def log_message(self, *arguments: Any) -> None:
        """See the base class."""


def row(page: Path, width: int, dark: bool, axe: str, address: str | None, site: Path | None) -> str:
    found = look(page, width, dark, axe, address, site)
    timed = opened(page, f"addEventListener('load', () => {{ {TIME} }});", width, dark, address, site, clock=True)
    serious = [f"{what} ({count})" for impact, what, count in found["findings"] if impact in SERIOUS]
    others = [f"{what} ({count})" for impact, what, count in found["findings"] if impact not in SERIOUS]
    name = f"{page.parent.name}/{page.name}, {width} pixels, {'dark' if dark else 'light'}"
    fetched = len([name for name in found["fetched"] if address is None or not name.startswith(address)])
    return (
        f"| {name} | {page.stat().st_size / 1e3:.0f} | {timed['loaded']:.0f} | {timed['drawn']:.0f} | {fetched} | {found['overflow']} "
        f"| {', '.join(serious) or 'none'} | {', '.join(others) or 'none'} |"
    )


def look(page: Path, width: int, dark: bool, axe: str, address: str | None, site: Path | None) -> dict[str, Any]:
    """Open a copy of a page that carries axe-core and tells what it sees."""
    looked = LOOK.replace("WIDTH", str(width)).replace("SIDEWAYS", SIDEWAYS)
    script = axe.replace("</script", "<\\/script") + f"\naddEventListener('load', () => setTimeout(async () => {{ {looked} }}, 500));"
    return opened(page, script, width, dark, address, site)


def opened(
    page: Path, script: str, width: int, dark: bool, address: str | None, site: Path | None, *, clock: bool = False
) -> dict[str, Any]:
    """Open a copy of a page that carries a script, and read what it tells.

    Args:
        clock: by the clock on the wall; timers end at once otherwise.
    """
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())  # axe-core evaluates text
    if width < NARROWEST:
        text = text.replace("</style>", f"</style><style>html {{ width: {width}px }}</style>", 1)
    with tempfile.TemporaryDirectory() as folder:
        copy = (page.parent if site else Path(folder)) / "looked_at.html"
        try:
            copy.write_text(text.replace("</html>", f"<script>{TELL}{script}</script></html>"))
            url = copy.as_uri() if site is None else f"{address}/{copy.relative_to(site)}"
            options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/browser"]
            options += [f"--window-size={max(width, NARROWEST)},900"] + ([] if address else ["--host-resolver-rules=MAP * ~NOTFOUND"])
            options += ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []
            options += [] if clock else ["--virtual-time-budget=30000"]
            done = subprocess.run(["chromium", *options, "--dump-dom", url], capture_output=True, text=True, timeout=180)
        finally:
            copy.unlink(missing_ok=True)
    found = re.search(r'<pre id="found-by-benchmark"[^>]*>(.*?)</pre>', done.stdout, re.DOTALL)
    if found is None:
        raise SystemExit(f"{page}: the browser said nothing. {done.stderr[-500:]}")
    seen: dict[str, Any] = json.loads(html.unescape(found.group(1)))
    return seen


if __name__ == "__main__":
    main()
