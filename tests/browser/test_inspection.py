"""The inspection can fail: a good page made by hand, and the same page damaged."""

from __future__ import annotations

import pytest

from ae_book.site import browser
from ae_core.errors import InputError
from tests.browser.inspection import Theirs

SVG = "<svg xmlns='http://www.w3.org/2000/svg' width='100' height='50'><rect {}/></svg>"
FIGURE = (
    "<figure><img src='drawn.svg' alt='Two bars, one twice as tall.'>"
    "<figcaption>Bars of two heights, side by side.</figcaption></figure>"
)
SWITCH = "<button class='theme-switch-button' onclick='{}'>theme</button>"
TURN = "document.documentElement.dataset.theme = 'dark'"
DRAWN = "<span class='math'><mjx-container><svg width='9' height='9'></svg></mjx-container></span>"


def everything(page) -> dict[str, list[str]]:
    """Faults by the check that finds them; checks that find none are left out."""
    page.page.wait_for_timeout(50)
    checks = {
        "errors": page.errors(),
        "leaves": page.requests_that_leave(),
        "formulas": page.formulas_not_drawn(),
        "pictures": page.pictures_not_shown(),
        "figures": page.figures_without_words(),
        "barriers": page.barriers(),
        "pale": page.pale_text(),
        "sideways": page.sticks_out(),
    }
    return {name: faults for name, faults in checks.items() if faults}


def test_a_good_page_has_no_faults(look):
    scroller = "<div tabindex='0' style='overflow-x:auto'><p style='width:900px'>wide</p></div>"
    page = look(body=f"<p>Text.</p>{FIGURE}{DRAWN}{scroller}", drawn_svg=SVG.format(""))
    assert everything(page) == {}


@pytest.mark.parametrize(
    ("damage", "checks", "told"),
    [
        ("<script>console.error('oh no')</script>", {"errors"}, "oh no"),
        ("<script>throw new Error('oh no')</script>", {"errors"}, "oh no"),
        ("<script>Promise.reject(new Error('oh no'))</script>", {"errors"}, "oh no"),
        ("<script src='gone.js'></script>", {"errors"}, "gone.js"),
        ("<script src='http://example.org/x.js'></script>", {"errors", "leaves"}, "example.org"),
        ("<script>fetch('https://example.org')</script>", {"errors", "leaves"}, "example.org"),
        ("<script>new WebSocket('ws://example.org')</script>", {"errors", "leaves"}, "example.org"),
        ("<img src='file:///etc/x.png' alt='Some picture'>", {"errors", "leaves", "pictures", "figures"}, "/etc/x"),
        ("<style>@import 'https://example.org/x.css';</style>", {"errors", "leaves"}, "example.org"),
        ("<span class='math'>\\(x^2\\)</span>", {"formulas"}, "x^2"),
        ("<p>so \\(x^2\\) is</p>", {"formulas"}, "x^2"),
        ("<p>so $$x^2$$ is</p>", {"formulas"}, "x^2"),
        (FIGURE.replace("drawn.svg", "gone.svg"), {"errors", "pictures"}, "gone.svg"),
        (FIGURE.replace("<img ", "<img style='width:2px' "), {"pictures"}, "2px"),
        (FIGURE.replace("alt=", "data-x="), {"figures", "barriers"}, "alternative"),
        (FIGURE.replace("Two bars, one twice as tall.", "../_images/drawn.svg"), {"figures"}, "alternative"),
        (FIGURE.replace("Bars of two heights, side by side.", " "), {"figures"}, "caption"),
        (FIGURE.replace("figcaption", "p"), {"figures"}, "caption"),
        (FIGURE.replace("figure", "div"), {"figures"}, "in no figure"),
        (SVG.format(""), {"figures"}, "in no figure"),
        ("<p style='width:500px'>wide</p>", {"sideways"}, "500"),
        ("<div style='overflow:hidden'><p style='width:500px'>cut</p></div>", {"sideways"}, "500"),
        ("<details><summary>fold</summary><p style='width:500px'>x</p></details>", {"sideways"}, "500"),
        ("<p style='color:#999;background:#eee'>pale</p>", {"pale"}, "color-contrast"),
        ("<details><summary>fold</summary><p style='color:#ccc'>hidden</p></details>", {"pale"}, "color-contrast"),
        ("<a href='page.html'></a>", {"barriers"}, "link-name"),
        ("<button></button>", {"barriers"}, "button-name"),
    ],
)  # fmt: skip
def test_damage_is_found_by_its_check_and_no_other(look, damage, checks, told):
    found = everything(look(body=f"<p>Text.</p>{damage}", drawn_svg=SVG.format("")))
    assert set(found) == checks
    assert any(told in fault for faults in found.values() for fault in faults)


def test_contrast_is_judged_in_the_theme_that_the_switch_chose(look):
    style = "<style>html[data-theme=dark] p { color: #ddd }</style>"
    page = look(style, f"<p>Text.</p>{SWITCH.format(TURN.replace(chr(39), '&quot;'))}")
    assert page.pale_text() == []
    page.choose_theme("dark")
    assert "color-contrast" in page.pale_text()[0]


def test_a_switch_that_does_nothing_is_found(look):
    page = look(body=SWITCH.format(""))
    with pytest.raises(AssertionError, match="dark theme"):
        page.choose_theme("dark")


def test_what_is_another_s_is_let_pass_where_listed_and_noted(look):
    page = look(body="<button class='a'></button><button class='b'></button>")
    listed, used = Theirs("button-name", 'class="a"', "page.html", "the theme's"), set()
    (fault,) = page.barriers([listed], used)
    assert 'class="b"' in fault
    assert used == {listed}


def test_without_chromium_it_says_what_to_install(monkeypatch):
    monkeypatch.delenv(browser.VARIABLE, raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match="apt install chromium"):
        browser.executable()


def test_a_kind_of_token_is_judged_wherever_it_first_stands(look):
    pre = "<pre><span class='{}'>listing</span></pre>"
    style = "<style>.b { color: #ccc }</style>"
    found = look(style, pre.format("a") + pre.format("a") + pre.format("b") + pre.format("b"))
    assert len(found.pale_text()) == 1
