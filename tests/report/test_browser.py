"""The page in a real browser: Debian's chromium (apt-get install chromium) driven by playwright, without a network."""

import json
import math
import shutil

import pytest
from made_run import eval_record, response, rollout_record, train_record, write_jsonl, write_run

from kimi_plugins.report.page import write_report

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"),
]

HOSTILE = [
    "</script><script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'><svg onload='window.pwned = 1'>",
    "<!-- <script> -->]]> &lt;b&gt; &amp; {{ 7 * 7 }} ${pwned} %{y}",
    "\u2028\u2029\u202eright to left\u202c\x00\x1b[31m\ufeff\u200b",
    "lone \ud800 and \udfff surrogates, 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 漢字",
    "  two spaces\n\n\ttab and\r\nlines  ",
    "javascript:window.pwned=1 <a href='javascript:window.pwned=1'>x</a>",
]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """open_page(path, hash="", …options of the context): the loaded page. Any error or request is a failure."""
    contexts, problems, requests = [], [], []

    def open_page(path, hash="", width=1400, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text))
        page.on("dialog", lambda dialog: problems.append(dialog.message))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri() + hash)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []
    # data: and blob: are pictures that Plotly draws itself.
    assert all(url.startswith(("file:", "data:", "blob:")) for url in requests)
    assert sum(url.startswith("file:") for url in requests) == len(contexts)


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_charts_are_drawn_and_nothing_overflows(tmp_path, open_page, scheme, width):
    page = open_page(write_report(write_run(tmp_path)), width=width, color_scheme=scheme)
    lines = [page.locator(f"#chart-{i} .scatterlayer .trace").count() for i in range(8)]
    assert lines == [5, 5, 3, 0, 3, 2, 3, 5] and page.locator("#chart-3 .heatmaplayer image").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    light = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(246, 247, 249)"
    assert light == (scheme == "light")
    text = page.locator(".chart .xtitle").first.evaluate("e => getComputedStyle(e).fill")
    assert text == ("rgb(31, 35, 40)" if light else "rgb(230, 237, 243)")


def test_a_change_of_the_colour_scheme_redraws_the_charts(tmp_path, open_page):
    page = open_page(write_report(write_run(tmp_path)), color_scheme="light")
    page.emulate_media(color_scheme="dark")
    playwright.expect(page.locator(".chart .xtitle").first).to_have_css("fill", "rgb(230, 237, 243)")


def test_charts_show_the_values_under_the_mouse(tmp_path, open_page):
    page = open_page(write_report(write_run(tmp_path)))
    page.locator("#chart-0").hover()
    hover = page.locator("#chart-0 .hoverlayer").text_content
    page.wait_for_selector("#chart-0 .hoverlayer .legend")
    # Plotly's own choice has a button that uploads the chart to its makers.
    buttons = page.locator("#chart-0 .modebar-btn").evaluate_all("all => all.map(button => button.dataset.title)")
    assert buttons == ["Download plot as a PNG", "Zoom in", "Zoom out", "Reset axes"]
    assert "step 3" in hover() and "30.0%" in hover() and "20 tokens" in hover()


def test_hostile_text_is_shown_literally_and_never_run(tmp_path, open_page):
    run = tmp_path / HOSTILE[1].replace("/", "")
    source = "<img src=x onerror='window.pwned = 1'>"
    evals = [eval_record(step, **{f"eval_{source}_pass1": 0.5}) for step in (0, 1)]
    # A metric that is NaN would make the page's JSON invalid, a reward too.
    train = [train_record(1, **{"kimi/kl_mean": math.nan, "vllm_kl": math.inf}), train_record(2)]
    write_jsonl(run / "metrics.jsonl", [*evals, *train])
    groups = [rollout_record(1, [response(text, math.nan) for text in HOSTILE], prompt=text) for text in HOSTILE]
    for group, text in zip(groups, HOSTILE, strict=True):
        group["samples"][0]["label"] = text
    samples = [sample for group in groups for sample in group["samples"]]
    write_jsonl(run / "rollouts.jsonl", [groups[0] | {"samples": samples}])

    page = open_page(write_report(run))
    # Compared in the page: lone surrogates do not survive the way out of it.
    expected = [text for prompt in HOSTILE for text in (prompt, prompt, *HOSTILE)]
    shown = "JSON.stringify([...document.querySelectorAll('pre')].map(pre => pre.textContent))"
    assert page.evaluate(f"wanted => {shown} === JSON.stringify(JSON.parse(wanted))", json.dumps(expected))
    page.wait_for_timeout(300)
    assert page.evaluate("typeof window.pwned") == "undefined"
    assert page.locator("main img, header img, #groups svg, #groups script, #groups a").count() == 0
    assert page.title() == f"{run.name} – training report"
    assert page.locator("h1").text_content() == run.name
    assert f"pass@1, {source}" in page.locator(".tiles").text_content()
    assert page.locator("#chart-0 .legendtext").all_text_contents()[1] == f"held-out pass@1, {source}"
    assert "kimi/kl_mean (1×), vllm_kl (1×)" in page.locator(".notice").first.text_content()
    assert "✗ reward nan" in page.locator(".response b").first.text_content()


def test_no_other_script_may_run(tmp_path, browser):
    """The second line of defence: even markup that got into the page could not run."""
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(write_report(write_run(tmp_path)).as_uri())
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.pwned = 1\">')")
    page.wait_for_timeout(300)
    assert page.evaluate("typeof window.pwned") == "undefined"
    context.close()


def test_the_steps_by_keys_buttons_slider_and_address(tmp_path, open_page):
    path = write_report(write_run(tmp_path))
    page = open_page(path)

    def step():
        number = page.locator("#step").text_content()
        assert f"right in step {number}" in page.locator("#groups").text_content()
        return int(number)

    assert step() == 1 and page.locator("#previous").is_disabled()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert step() == 3
    page.keyboard.press("ArrowLeft")
    assert step() == 2
    page.locator("#next").click()
    assert step() == 3
    page.locator("#slider").fill("5")
    assert step() == 6 and page.locator("#next").is_disabled()
    page.wait_for_url("**#step=6")
    page.locator("#text").press("ArrowLeft")  # moves the cursor in the text
    assert step() == 6
    page.evaluate("location.hash = '#step=4'")
    playwright.expect(page.locator("#step")).to_have_text("4")

    page = open_page(path, "#step=5")
    assert step() == 5 and page.evaluate("scrollY") > 0
    page = open_page(path, "#step=1000")
    assert step() == 6


def test_filters(tmp_path, open_page):
    page = open_page(write_report(write_run(tmp_path)))

    def shown():
        return [text.split()[0] for text in page.locator(".responses pre").all_text_contents()]

    assert shown() == ["right", "wrong"]
    assert page.locator(".response mark").all_text_contents() == ["truncated"]
    page.locator("#outcome").select_option("wrong")
    assert shown() == ["wrong"] and page.locator("#status").text_content() == "1 of 2 responses to 1 prompt."
    page.keyboard.press("Escape")
    page.locator("#outcome").select_option("correct")
    assert shown() == ["right"]
    page.locator("#text").fill("WRONG in")
    assert shown() == []
    page.locator("#outcome").select_option("all")
    assert shown() == ["wrong"]
    page.locator("#text").fill("1+1=")  # the prompt
    assert shown() == ["right", "wrong"]


def test_long_texts_fold_and_a_cut_is_noted(tmp_path, open_page):
    run = write_run(tmp_path)
    write_jsonl(
        run / "rollouts.jsonl", [rollout_record(1, [response("begin " + "x" * 20_000 + " end"), response("a")])]
    )
    page = open_page(write_report(run))
    pre = page.locator(".responses pre").first
    assert "begin" in pre.text_content() and pre.text_content().endswith(" end")
    assert "… 12,010 characters left out …" in pre.text_content()
    folded = pre.bounding_box()["height"]
    page.locator(".more").click()
    assert pre.bounding_box()["height"] > 2 * folded
    page.locator(".more").click()
    assert pre.bounding_box()["height"] == folded
