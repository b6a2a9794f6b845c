"""The report in a real browser: headless Chromium at phone and desktop width, light and dark.

Needs Chromium and its driver (Debian: apt-get install chromium chromium-driver).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream.replay.report.compare import compare
from stream.replay.report.report import report
from stream.replay.result import result
from stream.replay.result.result import Result
from tests.browser import CONTRASTS, Browser, chromium, why_missing
from tests.replay_result import ID_ONLY, bare, harmful, rich

pytestmark = [pytest.mark.browser, pytest.mark.long]

WIDTHS = (360, 1280)
SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if missing := why_missing():
        pytest.skip(missing)
    with chromium(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By name: a rich replay, one of many contenders, a bare one, one of harm, a comparison."""
    folder = tmp_path_factory.mktemp("pages")
    told = {"rich": rich(), "many": rich(9), "bare": bare(ID_ONLY), "harm": harmful()}
    made = {name: folder / f"{name}.html" for name in (*told, "compare")}
    for name, each in told.items():
        made[name].write_text(report(each), "utf-8")
    made["compare"].write_text(compared(folder), "utf-8")
    return made


def compared(folder: Path) -> str:
    """Two replays whose names are harm, side by side."""
    random = np.random.default_rng(0)
    for name in "ab":
        told: Result = replace(harmful(), seed=ord(name))
        (folder / name).mkdir()
        result.write(told, folder / name)
        arrays: dict[str, Any] = {
            "questions": np.arange(300, dtype=np.uint64),
            "shoppers": np.arange(300),
        }
        for place in range(len(told.contenders)):
            arrays[f"hr10_{place}"] = arrays[f"ndcg10_{place}"] = random.random(300)
        np.savez(folder / name / "answers.npz", **arrays)
    return compare(folder / "a", folder / "b").page()


@pytest.mark.parametrize("name", ["rich", "many", "bare", "harm", "compare"])
@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_scrolls_sideways_even_with_all_unfolded(
    browser: Browser, pages: dict[str, Path], name: str, width: int
) -> None:
    browser.open(pages[name], width)
    folded = browser.overflow
    browser.run("for (const each of document.querySelectorAll('details')) each.open = true")

    assert (folded, browser.overflow) == (0, 0)


@pytest.mark.parametrize("name", ["rich", "bare", "harm", "compare"])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_all_text_has_contrast_enough(
    browser: Browser, pages: dict[str, Path], name: str, scheme: str, width: int
) -> None:
    browser.open(pages[name], width, scheme)
    browser.run("for (const each of document.querySelectorAll('details')) each.open = true")
    told = browser.run(CONTRASTS)

    assert len(told) > 50
    assert told[0][0] >= 4.5, told[:5]


def test_a_page_too_wide_and_a_text_too_pale_would_be_found(
    browser: Browser, pages: dict[str, Path]
) -> None:
    """The two measures above find what they are for."""
    browser.open(pages["bare"], 360)
    browser.run("document.querySelector('h1').textContent = 'x'.repeat(9)")
    browser.run("document.querySelector('h1').style.cssText = 'width: 500px; color: #999'")

    assert browser.overflow > 100
    assert browser.run(CONTRASTS)[0] == [pytest.approx(2.74, abs=0.05), "x" * 9]


def test_dark_is_dark_and_light_is_light(browser: Browser, pages: dict[str, Path]) -> None:
    found = []
    for scheme in SCHEMES:
        browser.open(pages["rich"], 1280, scheme)
        found.append(browser.run("return getComputedStyle(document.body).backgroundColor"))

    assert found == ["rgb(251, 250, 247)", "rgb(20, 22, 24)"]


@pytest.mark.parametrize("name", ["rich", "harm", "compare"])
def test_a_page_asks_for_nothing_but_itself_and_complains_of_nothing(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    browser.open(pages[name], 1280)
    title = browser.driver.title
    browser.run("document.querySelector('th button').click()")

    assert browser.requests() == ([pages[name].as_uri()], [])
    assert browser.driver.get_log("browser") == []
    assert title.endswith(("Weft replay", "Weft replay, compared"))  # no title's script ran


def test_the_policy_stops_a_script_and_a_load_that_are_not_the_pages_own(
    browser: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    """Should escaping ever fail: the policy is tried with markup that was let through."""
    planted = '<script>document.title = "owned"</script><img src="x.png" onerror="owned()">'
    page = tmp_path / "planted.html"
    html = pages["rich"].read_text("utf-8").replace('<main id="main"', f'{planted}<main id="main"')
    page.write_text(html, "utf-8")
    browser.open(page, 1280)

    assert browser.driver.title != "owned"
    assert browser.requests()[1] == ["csp"]
    assert len(browser.driver.get_log("browser")) >= 2  # it says what it stopped


@pytest.mark.parametrize("key", ["\ue007", " "])  # Enter, space
def test_a_table_sorts_by_keyboard_and_says_so(
    browser: Browser, pages: dict[str, Path], key: str
) -> None:
    browser.open(pages["rich"], 1280)
    column = "document.querySelectorAll('#t-headline thead th')[2]"
    values = (
        "return Array.from(document.querySelectorAll('#t-headline tbody tr'), "
        "(row) => Number(row.cells[2].dataset.v))"
    )
    before = browser.run(values)
    browser.run(f"{column}.querySelector('button').focus()")
    browser.press(key)

    assert browser.run(f"return {column}.getAttribute('aria-sort')") == "ascending"
    assert browser.run(values) == sorted(before) != before
    assert browser.run("return document.getElementById('said').textContent") == (
        "Sorted by HR@10, ascending."
    )


def test_sorting_by_another_column_moves_aria_sort_and_keeps_gaps_last(
    browser: Browser, pages: dict[str, Path]
) -> None:
    browser.open(pages["rich"], 1280)
    column = "document.querySelectorAll('#t-time thead th')[1]"
    values = (
        "return Array.from(document.querySelectorAll('#t-time tbody tr'), "
        "(row) => row.cells[1].dataset.v ?? null)"
    )
    found = []
    for _turn in range(2):
        browser.run(f"{column}.querySelector('button').click()")
        found.append(browser.run(values))
        assert browser.run("return document.querySelectorAll('#t-time [aria-sort]').length") == 1

    assert found[0] == ["41", "37", "12", "9", *[None] * 8]
    assert found[1] == ["9", "12", "37", "41", *[None] * 8]


def test_names_sort_as_words(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["rich"], 1280)
    browser.run("document.querySelector('#t-headline thead th button').click()")
    names = browser.run(
        "return Array.from(document.querySelectorAll('#t-headline tbody th'), "
        "(head) => head.dataset.v)"
    )

    assert names == sorted(names, key=str.lower)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_first_stop_of_the_keyboard_leads_to_the_verdict(
    browser: Browser, pages: dict[str, Path], width: int
) -> None:
    browser.open(pages["rich"], width)
    browser.press("\ue004")  # Tab
    link = browser.run(
        "const a = document.activeElement, box = a.getBoundingClientRect();"
        "return [a.className, box.top >= 0, box.left >= 0, getComputedStyle(a).outlineStyle]"
    )
    browser.press("\ue007")

    assert link == ["skip", True, True, "solid"]
    assert browser.run("return [location.hash, document.activeElement.id]") == ["#main", "main"]


def test_a_wide_table_scrolls_in_a_region_that_the_keyboard_reaches(
    browser: Browser, pages: dict[str, Path]
) -> None:
    browser.open(pages["rich"], 360)
    wide, stops = browser.run(
        "const r = document.querySelector('#t-headline').parentElement;"
        "return [r.scrollWidth > r.clientWidth, r.tabIndex]"
    )
    browser.run("document.querySelector('#t-headline').parentElement.focus()")
    browser.press("\ue014", "\ue014")  # right
    moved = browser.run(
        "return new Promise((done) => setTimeout(() => "
        "done(document.querySelector('#t-headline').parentElement.scrollLeft), 400))"
    )

    assert (wide, stops) == (True, 0)
    assert moved > 0


def test_the_command_is_copied_or_selected(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["rich"], 1280)
    browser.run("document.querySelector('.copy').click()")
    said = browser.run(
        "return new Promise((done) => setTimeout(() => "
        "done(document.querySelector('.copy').textContent), 300))"
    )

    assert said in ("Copied", "Selected: copy it now")


def test_on_paper_all_is_unfolded(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["rich"], 1280)
    folded = "return document.querySelectorAll('details:not([open])').length"
    before = browser.run(folded)
    browser.run("dispatchEvent(new Event('beforeprint'))")
    during = browser.run(folded)
    browser.run("dispatchEvent(new Event('afterprint'))")

    assert before > 0
    assert (during, browser.run(folded)) == (0, before)


def test_on_paper_every_table_is_whole(browser: Browser, pages: dict[str, Path]) -> None:
    """Paper does not scroll: A4 less its margins is 718 px wide."""
    browser.open(pages["rich"], 718)
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        browser.run("dispatchEvent(new Event('beforeprint'))")
        assert browser.overflow == 0
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
