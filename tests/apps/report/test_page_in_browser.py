"""The report in a real browser: it draws, searches, sorts, hides and reveals, and never asks for anything."""

import pytest

from tests.apps.report.conftest import PHONE
from tests.apps.report.made import OFFENSIVE, PLANTED
from tests.apps.report.made_numbers import METHODS, POLICIES

ROWS = 6 * 4 * 2  # prompts, samples, seeds


def shown(page):
    """Return the text of the page that a reader or a screen reader can come by."""
    return page.evaluate(
        """() => [...document.body.querySelectorAll("*")]
            .filter((element) => element.tagName !== "SCRIPT")
            .flatMap((element) => [...element.childNodes].filter((node) => node.nodeType === 3))
            .map((node) => node.data).join("\\n")"""
    )


def count(page):
    return int(page.inner_text("#count").split()[0].replace(",", ""))


def search(page, text):
    page.fill("#search", text)
    page.wait_for_selector(f'#rows[data-search="{text.lower()}"]', state="attached")  # it waits for the next key


def scores(page, policy, judge):
    """Return the scores on this page of one policy by one judge, from top to bottom."""
    found = page.locator(".answer").filter(has=page.get_by_role("heading", name=policy)).all_inner_texts()
    return [float(text.split(f"{judge} ")[1].split()[0]) for text in found]


def test_every_chart_is_drawn_without_an_error_or_a_request(watched):
    page = watched.page
    places = page.locator("[data-chart]").count()
    assert places > 15
    assert page.locator("[data-chart] svg").count() == places
    assert (watched.errors, watched.warnings) == ([], [])
    assert watched.requests == [watched.address]


def test_the_page_cannot_request_anything_nor_run_what_is_put_into_it(page, watched):
    violations = page.evaluate(
        """async () => {
            const found = [];
            document.addEventListener("securitypolicyviolation", (event) => found.push(event.effectiveDirective));
            await fetch("https://example.invalid/").catch(() => null);
            const image = new Image();
            image.src = "https://example.invalid/x.png";
            const script = document.createElement("script");
            script.textContent = "window.planted = 4";
            document.body.append(image, script);
            const button = document.createElement("div");
            button.innerHTML = "<p onclick='window.planted = 5'>x</p>";
            document.body.append(button);
            button.firstChild.click();
            await new Promise((done) => setTimeout(done, 100));
            [image, script, button].forEach((element) => element.remove());
            return found;
        }"""
    )
    watched.errors.clear()  # of these attempts
    watched.requests[1:] = []
    assert {"connect-src", "img-src", "script-src-elem", "script-src-attr"} <= set(violations)
    assert page.evaluate("window.planted") is None


def test_injected_markup_stays_text(page):
    page.click("#reveal")
    text = shown(page)
    for planted in PLANTED:
        assert planted in text
    assert page.evaluate("window.planted") is None
    assert page.locator("img").count() == 0
    assert PLANTED[1] in page.inner_text("#category")


def test_nothing_offensive_and_no_prompt_is_in_the_document_before_it_is_asked_for(page):
    assert OFFENSIVE not in shown(page)
    assert "Once upon" not in shown(page)
    assert "sft told tale 0 2 in year 0" in shown(page)
    veil = page.locator(".veil").first
    assert "blur" in veil.evaluate("(element) => getComputedStyle(element).filter")
    assert veil.get_attribute("aria-hidden") == "true"


def test_a_row_shows_its_texts_when_asked_and_hides_them_again(page):
    first = page.locator(".row").first
    first.get_by_role("button", name="Show texts").click()
    assert first.inner_text().count(f"{OFFENSIVE} 0") == len(POLICIES)
    assert "Once upon time number 0" in first.inner_text()
    assert shown(page).count(OFFENSIVE) == len(POLICIES)
    first.get_by_role("button", name="Hide texts").click()
    assert OFFENSIVE not in shown(page)


def test_one_button_shows_all_texts_and_hides_them_again(page):
    page.click("#reveal")
    assert page.locator(".veil").count() == 0
    assert OFFENSIVE in shown(page)
    page.click("#next")
    assert page.locator(".veil").count() == 0
    page.click("#reveal")
    assert OFFENSIVE not in shown(page)
    assert page.locator(".veil").count() > 0


def test_search_looks_into_prompts_and_completions_without_showing_what_is_hidden(page):
    assert count(page) == ROWS
    search(page, OFFENSIVE.upper())
    assert count(page) == ROWS / 4
    assert OFFENSIVE not in shown(page)
    search(page, "time number 3")
    assert count(page) == ROWS / 6
    search(page, "DPO told tale 2 1 in year 1")
    assert count(page) == 1
    assert page.locator("mark").inner_text() == "dpo told tale 2 1 in year 1"
    search(page, "nobody said this")
    assert (count(page), page.locator(".row").count()) == (0, 0)
    search(page, "")
    assert count(page) == ROWS


def test_sorts_by_toxicity_of_a_policy_by_the_chosen_judge(page):
    page.select_option("#sort", "toxicity:ppo")
    for judge in ("minilm", "profanity"):
        page.select_option("#judge", judge)
        page.select_option("#order", "-1")
        falling = scores(page, "ppo", judge)
        assert falling == sorted(falling, reverse=True) and falling[0] > 0.9
        page.select_option("#order", "1")
        rising = scores(page, "ppo", judge)
        assert rising == sorted(rising) and rising[-1] < 0.2


def test_sorts_by_the_difference_to_the_reference(page):
    page.select_option("#sort", "difference:dpo")
    page.select_option("#order", "1")
    pairs = zip(scores(page, "dpo", "minilm"), scores(page, "reference", "minilm"), strict=True)
    differences = [round(policy - reference, 3) for policy, reference in pairs]
    assert differences == sorted(differences) and differences[0] < -0.1


def test_pages_filters_and_counts(page):
    assert page.inner_text("#page") == "page 1 of 5"
    assert page.is_disabled("#previous")
    for _ in range(4):
        page.click("#next")
    assert page.inner_text("#page") == "page 5 of 5"
    assert page.locator(".row").count() == ROWS - 4 * 10
    assert page.is_disabled("#next")
    page.select_option("#seed", label="1")
    assert (count(page), page.inner_text("#page")) == (ROWS / 2, "page 1 of 3")
    page.select_option("#category", index=1)
    assert count(page) == ROWS / 4


def test_pairs_before_and_after_are_hidden_until_asked_for_and_follow_the_method(page):
    pairs = page.locator("#pairs .pair")
    assert pairs.count() == 10 and page.inner_text("#pair-count") == "10 of 12 pairs of sft"
    assert page.locator("#pairs .veil").count() == 3 * 10, "a prompt and two completions each, all of them offensive"
    page.click("#pair-reveal")
    assert page.locator("#pairs .veil").count() == 0 and OFFENSIVE in page.inner_text("#pairs")
    assert OFFENSIVE not in page.inner_text("#rows")
    page.select_option("#pair-method", "dpo")
    assert page.inner_text("#pair-count") == "10 of 12 pairs of dpo"
    changes = [float(text.replace("\u2212", "-")) for text in page.locator("#pairs .row-head b").all_inner_texts()]
    assert changes == sorted(changes) and changes[0] < 0 < changes[-1]
    page.click("#reveal")
    page.click("#reveal")
    assert OFFENSIVE not in shown(page), "hiding all texts hides these too"


def test_dark_and_light_differ_by_system_and_by_button_and_charts_follow(page):
    def looks():
        page.wait_for_selector("html[data-charts=drawn]", state="attached")
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        label = page.locator("[data-chart] svg .role-axis-label text").first.get_attribute("fill")
        mark = page.locator("[data-chart] svg .mark-symbol path").first.get_attribute("fill")
        return ground, label, mark

    light = looks()
    page.emulate_media(color_scheme="dark")
    dark = looks()
    assert light[0] == "rgb(255, 255, 255)" and dark[0] != light[0]
    assert dark[1] != light[1]
    assert dark[2] == light[2], "a policy keeps its colour"
    page.get_by_role("button", name="Switch to the light scheme").click()
    assert looks() == light


@pytest.mark.parametrize("revealed", [False, True])
def test_a_phone_scrolls_in_one_direction_only(page, revealed):
    page.set_viewport_size(PHONE)
    if revealed:
        page.click("#reveal")
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    wide = page.locator(".table-box").first
    assert wide.evaluate("(box) => box.scrollWidth > box.clientWidth")
    svg = page.locator("[data-chart] svg").first
    assert svg.bounding_box()["width"] <= PHONE["width"]


def test_works_from_the_keyboard_and_names_what_it_offers(page):
    first = page.locator("a, button, input, select, [tabindex]").first
    first.focus()
    assert first.inner_text() == "Skip to the verdict" and first.bounding_box()["x"] >= 0
    for name in ("Search", "Sort by", "Order", "Judge", "Category", "Seed"):
        assert page.get_by_label(name, exact=True).count() == 1
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, select, input, [role=img], [role=region]")]
            .filter((element) => !(element.textContent.trim() || element.ariaLabel || element.labels?.length)).length"""
    )
    assert nameless == 0
    button = page.locator(".row").first.get_by_role("button")
    button.focus()
    page.keyboard.press("Enter")
    assert OFFENSIVE in shown(page)
    assert page.evaluate("document.activeElement.textContent") == "Hide texts"
    for box in page.locator(".table-box").all():
        assert box.get_attribute("tabindex") == "0" and box.get_attribute("aria-label")
    assert page.locator("h1").count() == 1
    assert page.evaluate("document.documentElement.lang") == "en"


def test_headings_go_down_one_level_at_a_time(page):
    levels = page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3, h4, h5')].map((found) => Number(found.tagName[1]))"
    )
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))


def test_the_verdict_comes_first_with_every_policy_and_baseline(page):
    tops = {name: page.locator(f"#{name}").bounding_box()["y"] for name in ("verdict", "toxicity", "completions")}
    assert tops["verdict"] < tops["toxicity"] < tops["completions"]
    rows = page.locator("#verdict tbody tr").all_inner_texts()
    assert [row.split()[0] for row in rows] == [*POLICIES, "best", "word"]
    outcomes = page.locator("#verdict .outcome").all_inner_texts()
    assert dict(zip(METHODS, outcomes, strict=True)) == {"sft": "win", "ppo": "not a win", "dpo": "win"}
