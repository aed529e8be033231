"""What is wrong with a page as Chromium shows it: each method lists faults, best is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ViewportSize

from ae_book.site import browser

WIDE = ViewportSize(width=1280, height=900)
NARROW = ViewportSize(width=390, height=844)
INSIDE = ("data:", "blob:", "about:")
"""Addresses that load nothing from anywhere."""


@dataclass(frozen=True)
class Theirs:
    """A finding that is not ours to mend."""

    rule: str
    """Axe's."""
    html: str
    """Part of the element's."""
    page: str
    """One that shows it, from the site's root."""
    reason: str


class Inspected:
    """A page in a fresh browser profile, with no network, every fold open."""

    def __init__(self, chromium: Browser, site: Path, path: Path, query: str = "") -> None:
        self._site, self._path = site.resolve(), path
        self._context = chromium.new_context(viewport=WIDE, color_scheme="light", offline=True)
        self.page = self._context.new_page()
        self._errors: list[str] = []
        self._requests: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self._errors.append(f"uncaught: {error}"))
        self.page.on("requestfailed", lambda r: self._errors.append(f"not loaded: {r.url}"))
        self.page.on("request", lambda r: self._requests.append(r.url))
        self.page.on("websocket", lambda w: self._requests.append(w.url))
        browser.show(self.page, path, query)
        self.page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
        self.page.add_style_tag(content="* { transition: none !important }")
        self._settle()

    def resize(self, size: ViewportSize) -> None:
        if self.page.viewport_size != size:
            self.page.set_viewport_size(size)
            self._settle()

    def _settle(self) -> None:
        """The theme's script answers 300 ms after a fold was opened or the window resized."""
        if self.page.locator(".theme-switch-button").count():
            self.page.wait_for_timeout(400)

    def close(self) -> None:
        self._context.close()

    def _hear(self, message) -> None:
        if message.type == "error":
            self._errors.append(f"console: {message.text}")

    def _leaves(self, url: str) -> bool:
        """Does this address lie outside the site's folder, on the network or on the disk?"""
        if url.startswith(INSIDE):
            return False
        parts = urlsplit(url)
        return parts.scheme != "file" or not Path(parts.path).is_relative_to(self._site)

    # --- faults -----------------------------------------------------------------------------------

    def errors(self) -> list[str]:
        """Errors in the console, exceptions that nobody caught, files that are not there."""
        return self._errors

    def requests_that_leave(self) -> list[str]:
        return [url for url in self._requests if self._leaves(url)]

    def formulas_not_drawn(self) -> list[str]:
        return self.page.evaluate(FORMULAS)

    def pictures_not_shown(self) -> list[str]:
        return self.page.evaluate(PICTURES)

    def figures_without_words(self) -> list[str]:
        """Pictures outside of figures, figures without a caption, without an alternative text."""
        return self.page.evaluate(FIGURES)

    def choose_theme(self, theme: str) -> None:
        """Press the page's own switch until it shows this theme; a page without it is told."""
        self.resize(WIDE)
        for _ in range(3):
            if self.page.evaluate("document.documentElement.dataset.theme") == theme:
                self.page.mouse.move(0, 0)  # the switch shows a tip under the mouse
                return
            self.page.locator(".theme-switch-button:visible").first.click(timeout=2000)
        raise AssertionError(f"the switch does not lead to the {theme} theme")

    def sticks_out(self) -> list[str]:
        """At a phone's width: what makes the page scroll sideways, or is cut off."""
        self.resize(NARROW)
        return self.page.evaluate(STICKING_OUT)

    def barriers(self, theirs: Sequence[Theirs] = (), used: set[Theirs] | None = None) -> list[str]:
        """What axe-core finds serious or critical, contrast apart, but for what is another's."""
        return self._axe("barriers", theirs, used)

    def pale_text(
        self, theirs: Sequence[Theirs] = (), used: set[Theirs] | None = None
    ) -> list[str]:
        """Text with too little contrast, as axe-core judges it, but for what is another's."""
        return self._axe("pale", theirs, used)

    def _axe(self, what: str, theirs: Sequence[Theirs], used: set[Theirs] | None) -> list[str]:
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(_axe_script())
        found = []
        for rule, html, message in self.page.evaluate(AXE, what):
            known = [one for one in theirs if one.rule == rule and one.html in html]
            if used is not None:
                used.update(known)
            if not known:
                found.append(f"{rule}: {html[:200]}: {message}")
        return found


@cache
def _axe_script() -> str:
    package = Path(find_spec("axe_playwright_python").origin).parent
    return (package / "axe.min.js").read_text("utf8")


# Sphinx writes each formula as an element `math` around TeX; MathJax puts a drawing in its place.
FORMULAS = r"""() => {
  const drawn = (m) => [...m.querySelectorAll('mjx-container > svg')].some(
    (s) => s.getBoundingClientRect().width > 0 && !s.querySelector('[data-mml-node="merror"]'));
  const faults = [...document.querySelectorAll('.math')].filter((m) => !drawn(m))
    .map((m) => 'not drawn: ' + m.textContent.trim().slice(0, 80));
  const prose = document.querySelector('article')?.innerText ?? '';
  for (const raw of prose.match(/\\[\[(].{0,60}|\$\$.{0,60}/g) ?? []) {
    if (![...document.querySelectorAll('pre, code')].some((c) => c.innerText.includes(raw)))
      faults.push('TeX in the text: ' + raw);
  }
  return faults;
}"""

PICTURES = """() => [...document.images]
  .filter((i) => i.closest('article') || i.checkVisibility())
  .filter((i) => !(i.complete && i.naturalWidth && i.naturalHeight
                   && i.getBoundingClientRect().width >= 8))
  .map((i) => 'not shown: ' + i.outerHTML.slice(0, 200))"""

# Where no alternative text was given, Sphinx writes the file's name.
FIGURES = r"""() => {
  const faults = [], article = document.querySelector('article');
  if (!article) return faults;
  const icons = 'mjx-container, button, summary, a.headerlink, .sd-octicon, [aria-hidden=true]';
  const pictures = [...article.querySelectorAll('img, svg, canvas, object')]
    .filter((p) => !p.closest(icons) && !p.parentElement.closest('svg'));
  for (const p of pictures) {
    const told = p.outerHTML.slice(0, 160);
    const alt = (p.getAttribute('alt') ?? p.getAttribute('aria-label') ?? '').trim();
    if (alt.length < 10 || /\.(svg|png|jpe?g|gif|webp)$/i.test(alt))
      faults.push('no alternative text: ' + told);
    if (!p.closest('figure')) faults.push('in no figure: ' + told);
  }
  for (const f of article.querySelectorAll('figure'))
    if ((f.querySelector('figcaption')?.innerText.trim().length ?? 0) < 20)
      faults.push('no caption: ' + f.outerHTML.slice(0, 160));
  return faults;
}"""

# What scrolls by itself may be wider than the page, if it does not stick out itself.
STICKING_OUT = """() => {
  const width = document.documentElement.clientWidth, page = document.scrollingElement;
  const faults = [];
  if (page.scrollWidth > width) faults.push(`the page is ${page.scrollWidth} wide at ${width}`);
  const scrolls = (e) => ['auto', 'scroll'].includes(getComputedStyle(e).overflowX);
  const inScroller = (e) => {
    for (e = e.parentElement; e && e !== document.body; e = e.parentElement)
      if (scrolls(e) && e.getBoundingClientRect().right <= width + 1) return true;
    return false;
  };
  const floats = (e) => {
    for (; e; e = e.parentElement) if (getComputedStyle(e).position === 'fixed') return true;
    return false;
  };
  for (const e of document.querySelectorAll('main *')) {
    const box = e.getBoundingClientRect();
    if (box.right > width + 1 && box.width > 1 && e.checkVisibility({visibilityProperty: true})
        && !e.closest('dialog, mjx-assistive-mml') && !inScroller(e) && !floats(e)) {
      faults.push(`sticks out to ${Math.round(box.right)}: ${e.outerHTML.slice(0, 120)}`);
      if (faults.length > 5) break;
    }
  }
  return faults;
}"""

# `preload` would fetch style sheets, which Chromium forbids a page on disk. There are thousands of
# tokens in listings, of few kinds: one of each is judged for contrast, the others are hidden.
AXE = """async (what) => {
  const contrast = what === 'pale', seen = new Set(), hidden = [];
  for (const pre of contrast ? document.querySelectorAll('article pre') : []) {
    let around = '';
    for (let e = pre; !e.matches('article'); e = e.parentElement) around += e.className + '/';
    for (const token of pre.querySelectorAll('span')) {
      const kind = around + token.className + token.style.cssText;
      if (seen.has(kind)) hidden.push(token);
      seen.add(kind);
    }
  }
  for (const token of hidden) token.style.visibility = 'hidden';
  const rules = contrast ? {runOnly: ['color-contrast']}
                         : {rules: {'color-contrast': {enabled: false}}};
  const {violations} = await axe.run({...rules, preload: false, resultTypes: ['violations']});
  for (const token of hidden) token.style.visibility = '';
  return violations.filter((v) => ['serious', 'critical'].includes(v.impact)).flatMap((v) =>
    v.nodes.map((n) => [v.id, n.html, [...n.any, ...n.all, ...n.none][0]?.message ?? v.help]));
}"""
