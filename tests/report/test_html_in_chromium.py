"""report.html in a real Chromium: it opens without an error, works by keyboard and on phones, hostile text does nothing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from spt_fast.report.folder import write_page, write_tables
from spt_fast.types import Extraction
from tests.helpers.recorded import write_run

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed, so no browser can be driven")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="chromium and chromedriver are not installed")

HOSTILE = (
    "<script>document.title = 'owned'</script>",
    "</script><script>document.title = 'owned'</script>",
    "<img src=x onerror=\"document.title = 'owned'\">",
    "javascript:document.title='owned' {{7*7}} ${alert(1)} <!-- --> ]]> &lt;b&gt;",
    "\u202egnp.exe\u202c \u2066hidden\u2069 \u200bzero\x00width\x1b[31m \u2028 line",
    "<svg onload=\"document.title = 'owned'\"><style>*{display:none}</style>",
)
LONG = "A" * 1_000_000
ROWS = 30
ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1280,900",
)  # fmt: skip


def completion(model: str, i: int) -> str:
    if i < len(HOSTILE):
        return HOSTILE[i]
    return LONG if i == len(HOSTILE) else f"{model} says {i}: \U0001f600 number {i}"


def last_number(text: str) -> Extraction | None:
    """What stands behind the last "number"."""
    at = text.rfind("number ")
    return None if at < 0 else Extraction(value=text[at + 7 :], rule="hash_number", span=(at + 7, len(text)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with hostile completions and a hostile name, its report.html, and one with long texts left as they are."""
    bases, chats = ("o/base-a", "o/<b>base</b>\u202e"), ("o/chat-a", "o/chat-b")
    verdicts = {
        (model, task, protocol, seed): [i % (2 + seed_of) == 0 for i in range(ROWS)]
        for model in (*bases, *chats)
        for task in ("t1", "t2")
        for protocol, seed, seed_of in (("zero_shot", None, 0), ("soft_prompt", 0, 1), ("soft_prompt", 1, 2))
    }
    folder = tmp_path_factory.mktemp("chromium") / "run"
    partners = dict(zip(bases, chats, strict=True))
    write_run(folder, verdicts, partners=partners, completion=completion, extract=last_number, format=r"#### \d+")
    write_tables(folder)
    write_page(folder, samples=None, limited=False, against=None)
    return folder


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


class Page:
    """One page in the browser."""

    def __init__(self, chromium: Any, path: Path) -> None:
        self.chromium, self.path = chromium, path

    def open(self, view: str = "", *, width: int = 1280) -> None:
        """Open it at a view, and wait until it is ready."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.chromium.get("about:blank")  # or a change of #... alone would not load it anew
        self.chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.chromium.get(f"{self.path.as_uri()}#{view}")
        self.ready("samples" if view.startswith("samples") else "page")

    def ready(self, state: str) -> None:
        """Wait for the page's own word that it is."""
        self.until(lambda: self.js("return document.body.dataset.ready") == state)

    def until(self, condition: Any) -> None:
        """Wait for something the page does by and by."""
        WebDriverWait(self.chromium, 20, poll_frequency=0.02).until(lambda _: condition())

    def js(self, script: str, *arguments: Any) -> Any:
        """What a script in the page returns."""
        return self.chromium.execute_script(script, *arguments)

    def find(self, selector: str) -> Any:
        """An element."""
        return self.chromium.find_element(By.CSS_SELECTOR, selector)

    def choose(self, name: str, value: str) -> None:
        """Set a filter."""
        Select(self.find(f"[name={name}]")).select_by_value(value)

    @property
    def count(self) -> str:
        """What is said of how many samples are shown."""
        return str(self.find("#count").text)

    @property
    def address(self) -> str:
        """Behind the #."""
        return str(self.js("return decodeURIComponent(location.hash)"))

    def errors(self) -> list[str]:
        """What stands in the console; also what the content security policy refused."""
        return [entry["message"] for entry in self.chromium.get_log("browser")]


@pytest.fixture
def page(chromium: Any, folder: Path) -> Page:
    chromium.get_log("browser")
    return Page(chromium, folder / "report.html")


def test_it_opens_without_an_error_and_shows_one_section(page: Page) -> None:
    page.open()
    took = page.js("return performance.getEntriesByType('navigation')[0].loadEventEnd")
    print(f"report.html of {page.path.stat().st_size:,} bytes loaded in {took:.0f} ms")
    assert page.js("return sections.filter((section) => !section.hidden).map((section) => section.id)") == ["overview"]
    for name in page.js("return sections.map((section) => section.id)"):
        page.open(name)
        assert page.find(f"#h-{name}").is_displayed()
        assert page.find("nav [aria-current=page]").get_attribute("hash") == f"#{name}"
    assert page.errors() == []


def test_filters_leave_what_passes_all_of_them(page: Page) -> None:
    page.open("samples")
    assert page.count == "720 of 720 samples"
    page.choose("model", "o/base-a")
    page.choose("protocol", "soft_prompt")
    page.choose("seed", "1")
    page.until(lambda: page.count == "60 of 720 samples")
    page.choose("verdict", "form")
    page.until(lambda: page.count == "16 of 720 samples")
    page.choose("verdict", "not-form")
    page.until(lambda: page.count == "44 of 720 samples")
    page.find("[name=text]").send_keys("NUMBER 13")
    page.until(lambda: page.count == "2 of 720 samples")
    assert "text=NUMBER+13" in page.address
    page.find("[name=text]").send_keys("no such thing")
    page.until(lambda: page.count == "0 of 720 samples")
    assert page.js("return find('#detail').textContent") == ""
    assert page.errors() == []


def test_an_address_brings_the_view_back_with_its_filters_and_its_sample(page: Page) -> None:
    page.open("samples?model=o%2Fbase-a&task=t2&verdict=knows&text=number")
    page.find("#next").click()
    chosen, count, address = page.find("#detail").text, page.count, page.js("return location.hash")
    assert "row=" in address
    page.open()
    page.open(address[1:])
    assert (page.find("#detail").text, page.count) == (chosen, count)
    assert page.find("[name=model]").get_attribute("value") == "o/base-a"
    page.open("samples?row=nothing.nowhere&model=nobody&verdict=what")
    assert page.count.startswith("720 of 720 samples; the row of the address is not in this file")
    page.open("no-such-section")
    assert page.find("#h-overview").is_displayed()
    assert page.errors() == []


def test_a_sample_tells_what_form_was_asked_for_and_marks_what_was_extracted(page: Page) -> None:
    page.open("samples?text=says+21&verdict=not-form")
    told = page.find("#detail").text
    assert r"it does not have the form that the task asks for: #### \d+" in told
    assert 'the rule hash_number found "21", marked above; it is wrong.' in told
    assert 'hash_number: "#### 18", with nothing else on the line' in told
    marked = page.js(
        "const mark = document.querySelector('#detail mark'); return [mark.textContent, mark.previousSibling.data]"
    )
    assert marked[0] == "21"
    assert marked[1].endswith("number "), "where it was found, not where it stands first"


def test_a_sample_leads_to_what_every_cell_made_of_its_row(page: Page) -> None:
    page.open("samples?model=o%2Fbase-a&task=t2&protocol=zero_shot")
    page.find("#detail .note a").click()
    page.until(lambda: page.count == "24 of 720 samples")
    assert page.js("return new Set(browser.shown.map((row) => row.example)).size") == 1


def test_a_number_leads_to_the_samples_behind_it(page: Page) -> None:
    page.open("overview")
    page.find("td a").click()
    page.ready("samples")
    assert page.count == "30 of 720 samples"
    assert page.find("#h-samples").is_displayed()
    page.chromium.back()
    page.until(lambda: page.find("#h-overview").is_displayed())


def test_samples_are_browsed_with_the_keyboard(page: Page) -> None:
    page.open("samples")
    body = page.find("body")
    first = page.address
    body.send_keys("jj")
    second = page.address
    assert second != first
    body.send_keys("kk")
    assert page.address == first
    chosen = page.find("#list")
    chosen.send_keys(Keys.END)
    assert page.js("return browser.at") == 719
    assert page.find("#next").get_attribute("disabled")
    active = page.find(f"#{chosen.get_attribute('aria-activedescendant')}")
    assert (active.get_attribute("aria-posinset"), active.get_attribute("aria-setsize")) == ("720", "720")
    assert active.get_attribute("aria-selected") == "true"
    chosen.send_keys(Keys.ARROW_UP, Keys.PAGE_UP, Keys.HOME)
    assert page.js("return browser.at") == 0
    page.find("[name=text]").send_keys("jkj")
    assert page.find("[name=text]").get_attribute("value") == "jkj", "a letter typed into a field moves nothing"


def test_hostile_completions_are_shown_and_do_nothing(page: Page) -> None:
    page.open("samples?model=o%2Fbase-a&protocol=zero_shot&task=t1")
    title, elements = page.chromium.title, page.js("return document.querySelectorAll('script, img, svg, style').length")
    shown = {}
    for i in range(ROWS):
        page.js("browser.choose(arguments[0])", i)
        shown[i] = page.js("return find('#detail pre').textContent")
        assert (
            page.js("return document.querySelectorAll('#detail script, #detail img, #detail svg, #detail style').length") == 0
        )
    assert page.chromium.title == title
    assert page.js("return document.querySelectorAll('script, img, svg, style').length") == elements
    plain = [text for text in HOSTILE if "\u202e" not in text]
    assert set(plain) <= set(shown.values())
    (hidden,) = (text for text in shown.values() if "gnp" in text)
    assert hidden == "U+202Egnp.exeU+202C U+2066hiddenU+2069 U+200BzeroU+0000widthU+001B[31m U+2028 line"
    assert page.errors() == []


def test_markup_that_gets_into_the_page_is_refused_by_its_policy(page: Page) -> None:
    page.open()
    injected = page.js("try { document.body.innerHTML = '<b>x</b>'; return 'done' } catch (error) { return String(error) }")
    assert "TrustedHTML" in injected
    page.js("const s = document.createElement('style'); s.textContent = 'body{display:none}'; document.head.append(s)")
    assert page.js("return getComputedStyle(document.body).display") == "block"
    assert page.js("return fetch('https://example.invalid/').then(() => 'sent', (error) => String(error))").startswith(
        "TypeError"
    )
    assert any("Content Security Policy" in message for message in page.errors())


def test_a_line_of_a_megabyte_is_shown_in_part_until_it_is_asked_for(chromium: Any, folder: Path) -> None:
    page = Page(chromium, folder / "report-samples.html")
    page.open("samples?model=o%2Fbase-a&protocol=zero_shot&task=t1&text=AAAAAAAAAA")
    assert page.count == "1 of 720 samples"
    assert page.js("return find('#detail pre').textContent.length") == 20_000
    page.find("#detail pre + button").click()
    assert page.js("return find('#detail pre').textContent.length") == 1_000_000
    assert page.js("return document.documentElement.scrollWidth <= innerWidth")
    assert page.errors() == []


def test_a_phone_scrolls_no_section_sideways(page: Page) -> None:
    for name in ("overview", "map", "ranking", "tests", "cost", "samples"):
        page.open(name, width=390)
        assert page.js("return [document.documentElement.scrollWidth, innerWidth]") == [390, 390], name
    assert page.errors() == []


def test_a_tip_says_n_and_interval_and_goes_away(page: Page) -> None:
    page.open("overview")
    webdriver.ActionChains(page.chromium).move_to_element(page.find("td [data-tip]")).perform()
    page.until(lambda: page.find("#tip").is_displayed())
    assert "95% interval" in page.find("#tip").text
    assert "n = 30" in page.find("#tip").text
    page.find("body").send_keys(Keys.ESCAPE)
    assert not page.find("#tip").is_displayed()
    page.find("#intervals").click()
    assert page.find("td small").is_displayed()


def test_what_can_be_used_has_a_name_and_what_is_focused_is_seen(page: Page) -> None:
    page.open("samples")
    nameless = """
      const used = document.querySelectorAll('a, button, input, select, [role=listbox], [role=region], [tabindex]');
      const shown = [...used].filter(e => e.checkVisibility());
      const name = (e) => e.textContent.trim() || e.ariaLabel || e.labels?.[0]?.textContent.trim();
      return shown.filter(e => !name(e)).map(e => e.outerHTML.slice(0, 200));"""
    assert page.js(nameless) == []
    assert (
        page.js("const ids = [...document.querySelectorAll('[id]')].map(e => e.id); return ids.length - new Set(ids).size") == 0
    )
    page.open()
    page.find("body").send_keys(Keys.TAB)
    assert page.js("return document.activeElement.className") == "skip"
    assert page.js("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert page.find("#count").get_attribute("aria-live") == "polite"
    headings = "[...document.querySelectorAll('h1, h2, h3')].filter((each) => each.checkVisibility())"
    levels = page.js(f"return {headings}.map((each) => Number(each.tagName[1]))")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(page: Page, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    page.open("overview")
    luminance = """
      const channel = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
      const of = (name) => { const p = document.createElement('p'); p.style.color = `var(${name})`; document.body.append(p);
        const [r, g, b] = getComputedStyle(p).color.match(/[\\d.]+/g).map(Number); p.remove();
        return 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b); };
      return Object.fromEntries(arguments[0].map((name) => [name, of(name)]));"""
    words, marks = ["--ink", "--ink-2", "--link", "--bad"], [f"--c{i}" for i in range(1, 9)]
    found = page.js(luminance, ["--paper", *words, *marks])
    paper = found.pop("--paper")
    contrast = {name: (max(value, paper) + 0.05) / (min(value, paper) + 0.05) for name, value in found.items()}
    # WCAG 2.2: 4.5 for text (1.4.3), 3 for graphics (1.4.11), but a fill may be lighter where a word or a shape says it too.
    assert {name: contrast[name] for name in words if contrast[name] < 4.5} == {}
    assert {name: contrast[name] for name in marks if contrast[name] < 2.5} == {}
    page.chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_print_has_every_section_but_the_samples(page: Page) -> None:
    page.open("overview")
    page.chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    shown = page.js("return sections.filter((section) => section.checkVisibility()).map((section) => section.id)")
    page.chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert shown == ["overview", "map", "ranking", "tests", "cost"]


def test_fifty_thousand_samples_are_browsed_with_a_few_elements(page: Page) -> None:
    page.open("samples")
    page.js("const rows = browser.rows; browser.rows = Array.from({length: 50000}, (_, i) => rows[i % rows.length])")
    began = time.perf_counter()
    page.choose("task", "t2")
    page.until(lambda: page.count.endswith("of 50,000 samples"))
    print(f"50,000 samples filtered in {time.perf_counter() - began:.2f} s")
    page.find("#list").send_keys(Keys.END)
    assert page.js("return browser.at") > 20_000
    assert page.js("return document.querySelectorAll('.row').length") < 40
    assert page.errors() == []
