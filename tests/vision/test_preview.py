"""The contact sheet: what is on it, and in a real browser (Debian's chromium), without a network."""

import argparse
import json
import shutil

import pytest
import yaml
from made_images import encoded, noise

from kimi_plugins.cli import vision_prepare, vision_preview

CHROMIUM = shutil.which("chromium")
HOSTILE = "<script>window.pwned = 1</script><svg onload='window.pwned = 1'></svg>{{ 7 * 7 }} &amp; \u202e"


def command(*words):
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    vision_prepare.add_parser(commands)
    vision_preview.add_parser(commands)
    args = parser.parse_args([*map(str, words)])
    return args.func(args)


@pytest.fixture
def mixture(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(noise((1500, 700))))
    rows = [{"input": HOSTILE, "label": HOSTILE, "images": ["a.png"]}, {"input": "b", "label": "c", "images": "gone"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = [
        {"name": "scenes", "synthetic": "all", "weight": 20},
        {"name": "hostile", "files": "rows.jsonl"},
    ]
    path = tmp_path / "mix.yaml"
    path.write_text(yaml.safe_dump({"rows": 21, "sources": sources}))
    return path


def test_a_mixture_and_its_prepared_rows_make_the_same_cards(mixture, tmp_path, capsys):
    assert command("vision-preview", mixture, "--out", tmp_path / "a.html", "--per-source", 5) == 0
    page = (tmp_path / "a.html").read_text()
    assert page.count("<article") == 6 and page.count("data:image/") == 6
    assert "1 rejected" in page and "there is no such file" in page
    assert "1500 × 700" not in page  # scaled into the budget of pixels first
    assert "http" not in page.replace("http-equiv", "")
    command("vision-prepare", mixture, "--out", tmp_path / "out")
    assert (
        command("vision-preview", tmp_path / "out/prompts.jsonl", "--out", tmp_path / "b.html", "--per-source", 5) == 0
    )
    prepared = (tmp_path / "b.html").read_text()
    assert prepared.count("<article") == 6
    images = [line for line in page.splitlines() if "data:image/" in line]
    assert images == [line for line in prepared.splitlines() if "data:image/" in line]


def test_bad_input(mixture, tmp_path, capsys):
    (tmp_path / "prompts.jsonl").write_text('{"input": 1}\n')
    page = tmp_path / "a.html"
    for words, told in (
        ((tmp_path / "prompts.jsonl",), "prompts.jsonl row 1: is not a prompt of vision-prepare"),
        ((tmp_path / "none.yaml",), "No such file"),
        ((mixture, "--per-source", 0), "--per-source is 0"),
    ):
        assert command("vision-preview", *words, "--out", page) == 2
        assert told in capsys.readouterr().err and not page.exists()


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")
def test_in_a_browser(mixture, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    command("vision-preview", mixture, "--out", tmp_path / "page.html", "--per-source", 14)
    problems, requests = [], []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for width, scheme in ((400, "light"), (1400, "dark")):
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
            page = context.new_page()
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("console", lambda message: problems.append(message.text))
            page.on("request", lambda request: requests.append(request.url))
            page.goto((tmp_path / "page.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            sizes = page.evaluate("[...document.images].map(image => [image.naturalWidth, image.width])")
            assert len(sizes) == 15 and all(natural >= shown > 100 for natural, shown in sizes)
            assert page.locator("article:visible").count() == 15
            page.get_by_role("button", name="hostile (1)").click()
            card = page.locator("article:visible")
            assert card.count() == 1
            assert HOSTILE[:60] in card.locator("pre").text_content()
            assert HOSTILE[:60] in card.locator(".answer").text_content()
            page.get_by_role("button", name="all").click()
            assert page.locator("article:visible").count() == 15
            details = page.locator("details").first
            details.locator("summary").click()
            assert details.locator("li").first.is_visible()
            page.wait_for_timeout(200)
            assert page.evaluate("typeof window.pwned") == "undefined"
            context.close()
        browser.close()
    assert problems == []
    assert all(url.startswith(("file:", "data:")) for url in requests)
    assert sum(url.startswith("file:") for url in requests) == 2
