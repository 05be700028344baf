"""The page in a real browser, without a window: what a reader does with mouse and keyboard."""

import pytest

from experiments.shared import page
from tests.browser import complaints, opened, prefers, served, size
from tests.experiments.sample_results import write_several

webdriver = pytest.importorskip("selenium.webdriver")

SHOWN = "return [...document.querySelectorAll('article:not([hidden])')].map(article => article.id)"
LISTED = "return [...document.querySelectorAll('.contents li:not([hidden]) a')].map(link => link.hash.slice(1))"
ALL = ["perceptron", "optimizer_paths", "batch_norm", "dropout"]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    write_several(results)
    with page.server(page.write(results, results / "index.html")) as server, served(server) as address:
        yield address


@pytest.fixture(scope="module")
def started(url):
    with opened() as driver:
        yield driver


@pytest.fixture
def browser(started, url):
    """The page as it is first seen, on a wide screen."""
    size(started, 1400)
    prefers(started)
    started.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": url.rstrip("/"), "storageTypes": "local_storage"})
    started.get("about:blank")  # a change of the fragment alone would not load the page again
    started.get(url)
    yield started
    assert complaints(started) == []


def press(driver, *keys):
    actions = webdriver.ActionChains(driver, duration=0)
    for key in keys:
        actions.send_keys(getattr(webdriver.Keys, key, key))
    actions.perform()


def find(driver, selector):
    return driver.find_element("css selector", selector)


def focus(driver, selector):
    driver.execute_script("document.querySelector(arguments[0]).focus()", selector)


def focused(driver):
    return driver.execute_script("return document.activeElement.className || document.activeElement.id")


def until(driver, script, *arguments):
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(driver, 5, poll_frequency=0.02).until(lambda _: driver.execute_script(script, *arguments))


def pick(driver, name, value):
    focus(driver, f'input[name="{name}"][value="{value}"]')
    press(driver, "SPACE")


def test_all_images_load_and_nothing_else_is_asked_for(browser):
    images = "[...document.querySelectorAll('figure img')]"
    assert (
        until(browser, f"return {images}.every(image => image.complete && image.naturalWidth > 0) && {images}.length")
        == 4
    )
    asked = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in asked if not name.startswith("data:")] == []


def test_hostile_text_does_nothing(browser):
    assert browser.execute_script("return window.hacked ?? null") is None
    assert "window.hacked = true" in find(browser, "#dropout h2").text


def test_the_policy_lets_in_nothing_but_the_page_s_own(browser):
    browser.execute_script(
        "document.body.insertAdjacentHTML('beforeend', '<p id=bold style=\"font-weight: 900\">bold</p>');"
        "const script = document.createElement('script'); script.textContent = 'window.hacked = true';"
        "document.body.append(script)"
    )
    assert browser.execute_script("return window.hacked ?? null") is None
    assert browser.execute_script("return getComputedStyle(document.getElementById('bold')).fontWeight") == "400"
    assert len([entry for entry in browser.get_log("browser") if "Content Security Policy" in entry["message"]]) == 2


def test_filters_and_search_leave_what_fits(browser):
    for picked, words, left in (
        ({"verdict": "failing"}, "", ["batch_norm"]),
        ({"group": "C"}, "", ["optimizer_paths", "batch_norm", "dropout"]),
        ({"group": "X"}, "", ["optimizer_paths", "batch_norm"]),
        ({"group": "X", "verdict": "failing"}, "", ["batch_norm"]),
        ({"group": "B"}, "", []),
        ({}, "sCaLe 15", ["batch_norm"]),
        ({}, "ask optimizer", ["optimizer_paths"]),
        ({"group": "X"}, "d4", []),
        ({}, "  ", ALL),
    ):
        for name, value in picked.items():
            pick(browser, name, value)
        focus(browser, "#words")
        press(browser, words)
        assert browser.execute_script(SHOWN) == browser.execute_script(LISTED) == left
        assert find(browser, "#count").text == f"{len(left)} of 4 experiments"
        assert find(browser, "#nothing").is_displayed() == (not left)
        browser.execute_script("document.getElementById('all').click()")  # it is shown where nothing is left
        assert browser.execute_script(SHOWN) == ALL
        assert focused(browser) == "words"


def test_the_filters_are_a_group_for_the_keyboard(browser):
    focus(browser, 'input[name="verdict"]:checked')
    press(browser, "ARROW_RIGHT")
    assert browser.execute_script(SHOWN) == ["batch_norm"]
    press(browser, "ARROW_LEFT")
    assert browser.execute_script(SHOWN) == ALL


def test_a_link_shows_what_is_filtered_out_and_unfolds_what_is_folded(browser):
    pick(browser, "verdict", "failing")
    browser.execute_script("for (const details of document.querySelectorAll('details')) details.open = false")
    assert not find(browser, "#perceptron").is_displayed()
    find(browser, "#row-D4 a").click()
    until(browser, "return !document.getElementById('perceptron').hidden")
    find(browser, "#row-X1 a.place").click()  # the 17th claim of the second of its experiments
    assert until(browser, "return document.getElementById('batch_norm-X1').closest('details').open")
    assert until(
        browser,
        "const {top} = document.getElementById('batch_norm-X1').getBoundingClientRect(); return top >= 0 && top < 900",
    )


@pytest.mark.parametrize("key", ["ENTER", "SPACE"])
def test_a_figure_is_enlarged_and_put_back_by_keyboard(browser, key):
    focus(browser, "#batch_norm .enlarge")
    press(browser, key)
    assert until(
        browser, "const large = document.querySelector('#zoom img'); return large.complete && large.naturalWidth > 0"
    )
    assert find(browser, "#zoom").is_displayed()
    assert find(browser, "#zoom img").get_attribute("alt") == "A curve of batch_norm that rises."
    assert browser.execute_script("return document.getElementById('zoom').contains(document.activeElement)")
    press(browser, "ESCAPE")
    assert not find(browser, "#zoom").is_displayed()
    assert browser.execute_script("return document.activeElement === document.querySelector('#batch_norm .enlarge')")


def test_a_figure_is_enlarged_and_put_back_by_mouse(browser):
    find(browser, "#perceptron figure img").click()
    assert find(browser, "#zoom").is_displayed()
    find(browser, "#close").click()
    assert not find(browser, "#zoom").is_displayed()
    assert focused(browser) == "enlarge"
    find(browser, "#perceptron figure img").click()
    webdriver.ActionChains(browser, duration=0).move_by_offset(2, 2).click().perform()  # beside it
    assert not find(browser, "#zoom").is_displayed()


def test_an_animation_plays_when_asked_and_stops(browser):
    source = "return document.querySelector('#optimizer_paths figure img').src.slice(0, 14)"
    play = find(browser, "#optimizer_paths .play")
    assert browser.execute_script(source) == "data:image/web"
    play.click()
    assert browser.execute_script(source) == "data:image/gif"
    assert (play.text, play.get_attribute("aria-pressed")) == ("Stop the animation", "true")
    play.click()
    assert browser.execute_script(source) == "data:image/web"
    play.click()
    prefers(browser, motion="reduce")
    assert until(browser, f"return (() => {{ {source} }})() === 'data:image/web'")
    assert play.text == "Play the animation"


def test_the_theme_follows_the_system_until_one_is_chosen(browser):
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = browser.execute_script(ground)
    prefers(browser, "dark")
    dark = browser.execute_script(ground)
    button = find(browser, "#theme")
    assert light != dark
    until(browser, "return arguments[0].textContent === 'Light theme'", button)
    button.click()
    assert (browser.execute_script(ground), button.text) == (light, "Dark theme")
    browser.refresh()
    assert browser.execute_script(ground) == light
    find(browser, "#theme").click()
    assert browser.execute_script(ground) == dark
    figure = "return getComputedStyle(document.querySelector('.picture')).backgroundColor"
    assert browser.execute_script(figure) == "rgb(255, 255, 255)"


def test_nothing_goes_over_the_side(browser):
    browser.execute_script("for (const details of document.querySelectorAll('details')) details.open = true")
    for width in (1400, 1056, 360, 320):
        size(browser, width)
        room = browser.execute_script("return document.documentElement.clientWidth")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= room <= width
        beyond = (
            "return [...document.querySelectorAll('body *')].filter(element => "
            "!element.closest('.scrolls, .hidden, .skip, dialog, search input') "
            "&& element.getBoundingClientRect().right > arguments[0] + 0.5).map(element => element.outerHTML.slice(0, 80))"
        )
        assert browser.execute_script(beyond, room) == []
    # What is too wide for its box is reached by keyboard.
    until(browser, "return document.querySelector('.command pre').tabIndex === 0")


def test_a_command_is_copied(browser, url):
    permissions = {"origin": url.rstrip("/"), "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    browser.execute_cdp_cmd("Browser.grantPermissions", permissions)
    button = find(browser, "#perceptron > .command .copy")
    button.click()
    until(browser, "return arguments[0].textContent === 'Copied'", button)
    assert find(browser, "#said").get_attribute("textContent") == "The command is copied"
    assert browser.execute_script("return navigator.clipboard.readText()") == "python -m experiments run perceptron"


def test_the_first_stop_of_the_keyboard_skips_to_the_experiments(browser):
    press(browser, "TAB")
    assert focused(browser) == "skip"
    press(browser, "ENTER")
    until(browser, "return document.activeElement.id === 'experiments'")


def test_without_script_all_is_there(browser, url):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(url)
        assert len(browser.find_elements("css selector", "article")) == 4
        assert not find(browser, "search").is_displayed()
        assert not find(browser, "#theme").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
