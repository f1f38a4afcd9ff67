"""Mixtures from YAML to a prompt set that OpenRLHF loads."""

import argparse
import json
import os
import resource
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from made_images import encoded, noise
from PIL import Image

from kimi_plugins.cli.vision_prepare import add_parser
from kimi_plugins.data.store import Store
from kimi_plugins.vision.mixture import INSTRUCTION, Mixture, Source, read_mixture
from kimi_plugins.vision.rows import READ_IT, Rejects, TooManyRejects, mixed, ranks
from kimi_plugins.vision.work import ENDED, Item, Journal, Work


def command(*words):
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    args = parser.parse_args(["vision-prepare", *map(str, words)])
    return args.func(args)


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_jsonl(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def files(tmp_path):
    """Eight rows with images, and twelve of text."""
    for n in range(8):
        (tmp_path / f"{n}.png").write_bytes(encoded(noise(seed=n)))
    rows = [
        {"input": f"Which {n}?", "label": n, "images": f"{n}.png", "difficulty": f"Level {n % 4}"} for n in range(8)
    ]
    write_jsonl(tmp_path / "photos.jsonl", rows)
    texts = [{"question": f"What is {n} + 1?", "answer": n + 1, "rate": n / 12} for n in range(12)]
    write_jsonl(tmp_path / "sums.jsonl", texts)
    return tmp_path


MIXTURE = {
    "rows": 24,
    "seed": 3,
    "sources": [
        {"name": "scenes", "synthetic": ["counting", "maze"], "weight": 2, "difficulty": [0.1, 0.4], "size": 128},
        {"name": "photos", "files": "photos.jsonl", "instruction": "Answer!"},
        {
            "name": "sums",
            "files": ["sums.jsonl"],
            "columns": {"input": "question", "label": "answer", "difficulty": "rate"},
            "harder": "lower",
        },
    ],
}


def write_mixture(files, **changed):
    path = files / "mix.yaml"
    path.write_text(yaml.safe_dump(MIXTURE | changed))
    return path


def test_a_mixture_becomes_a_prompt_set(files, capsys):
    assert command(write_mixture(files), "--out", files / "out") == 0
    rows = read_jsonl(files / "out/prompts.jsonl")
    names = [row["datasource"] for row in rows]
    assert [names.count(name) for name in ("scenes", "photos", "sums")] == [12, 6, 6]
    # The weights hold from the start.
    assert all(abs(names[:n].count("scenes") - n / 2) <= 1 for n in range(1, 25))
    for row in rows:
        [message] = row["input"]
        assert message["content"].count("<image>") == len(row["images"]) == (row["datasource"] != "sums")
        assert all(Image.open(path).mode == "RGB" for path in row["images"])
        assert bool(row["facts"]) == (row["datasource"] == "scenes") and row["pair"] is None
    contents = {name: rows[names.index(name)]["input"][0]["content"] for name in set(names)}
    assert contents["scenes"].endswith(" " + INSTRUCTION) and contents["photos"] == "<image>Which 0? Answer!"
    assert contents["sums"] == "What is 0 + 1?"
    assert "12 × scenes" in capsys.readouterr().out


def test_difficulties_become_places_within_a_source(files):
    command(write_mixture(files), "--out", files / "out")
    rows = read_jsonl(files / "out/prompts.jsonl")
    for name in ("scenes", "photos", "sums"):
        places = [row["difficulty"] for row in rows if row["datasource"] == name]
        assert sum(places) / len(places) == pytest.approx(0.5) and 0 <= min(places) < max(places) <= 1
    photos = {row["label"]: row["difficulty"] for row in rows if row["datasource"] == "photos"}
    assert photos["0"] == photos["4"] < photos["1"] < photos["3"]
    sums = [row["difficulty"] for row in rows if row["datasource"] == "sums"]
    assert sums == sorted(sums, reverse=True)  # a low success rate is hard


def test_ranks():
    assert ranks([5, 1, 1, 9]) == [0.625, 0.25, 0.25, 0.875]
    assert ranks([1.0, float("nan")]) == [0.5, 0.5]


def test_the_same_mixture_gives_the_same_rows(files):
    for out in ("a", "b"):
        command(write_mixture(files), "--out", files / out)
    a, b = (read_jsonl(files / out / "prompts.jsonl") for out in ("a", "b"))
    shorten = [
        [row | {"images": [path.rpartition("/")[2] for path in row["images"]]} for row in rows] for rows in (a, b)
    ]
    assert shorten[0] == shorten[1]
    command(write_mixture(files, seed=4), "--out", files / "c")
    assert [row["label"] for row in read_jsonl(files / "c/prompts.jsonl")] != [row["label"] for row in a]


def test_openrlhf_loads_what_was_written(files):
    pytest.importorskip("datasets")
    from openrlhf.datasets.prompts_dataset import PromptDataset
    from openrlhf.datasets.utils import blending_datasets

    command(write_mixture(files), "--out", files / "out")
    data = SimpleNamespace(input_key="input", label_key="label", image_key="images", apply_chat_template=True)
    args = SimpleNamespace(data=data, use_ms=False)
    strategy = SimpleNamespace(args=args, is_rank_0=lambda: True, print=lambda *_: None)
    rows = blending_datasets(str(files / "out/prompts.jsonl"), None, strategy, dataset_split="train")

    def template(chat, **_):
        parts = chat[0]["content"]
        return parts if isinstance(parts, str) else "".join(part.get("text", "[IMG]") for part in parts)

    prompts = PromptDataset(rows, SimpleNamespace(apply_chat_template=template), strategy)
    assert len(prompts) == 24
    for source, prompt, label, images, _ in prompts:
        assert prompt.count("[IMG]") == len(images) and label and source in ("scenes", "photos", "sums")


def test_rendered_text_comes_with_its_twin(files):
    pytest.importorskip("matplotlib")
    source = MIXTURE["sources"][2] | {"render": True, "twins": True, "width": 300}
    command(write_mixture(files, rows=10, sources=[source]), "--out", files / "out")
    rows = read_jsonl(files / "out/prompts.jsonl")
    assert len(rows) == 10
    for text, image in zip(rows[::2], rows[1::2], strict=True):
        assert text["pair"] == image["pair"] and text["label"] == image["label"]
        assert text["difficulty"] == image["difficulty"]
        assert (text["datasource"], image["datasource"]) == ("sums-text", "sums-image")
        assert text["input"][0]["content"].startswith("What is ") and text["images"] == []
        assert image["input"][0]["content"] == f"<image>{READ_IT} {INSTRUCTION}" and len(image["images"]) == 1
    assert len({row["pair"] for row in rows}) == 5


def test_bad_rows_are_rejected_with_their_number_and_the_rest_goes_on(files, capsys):
    rows = read_jsonl(files / "photos.jsonl")
    rows[2]["images"] = "gone.png"
    rows[5]["input"] = "<image><image>?"
    path = write_jsonl(files / "photos.jsonl", rows)
    path.write_text(path.read_text() + "{no json\n")
    assert command(path, "--out", files / "out") == 0
    assert [row["label"] for row in read_jsonl(files / "out/prompts.jsonl")] == ["0", "1", "3", "4", "6", "7"]
    rejects = read_jsonl(files / "out/rejects.jsonl")
    assert [reject["row"] for reject in rejects] == [3, 6, 9]
    assert "there is no such file" in rejects[0]["reason"] and "2 × <image> and 1 images" in rejects[1]["reason"]
    assert "not valid JSON" in rejects[2]["reason"]
    assert "3 rejected of 9 rows" in capsys.readouterr().out


def test_above_the_limit_it_stops_and_writes_no_prompts(files, capsys):
    rows = read_jsonl(files / "photos.jsonl") * 20
    for row in rows[::4]:
        row["images"] = "gone.png"
    assert command(write_jsonl(files / "many.jsonl", rows), "--out", files / "out") == 1
    assert not (files / "out/prompts.jsonl").exists()
    assert "above the limit of 0.05 of them" in capsys.readouterr().err


def test_the_limit_by_the_rule():
    rejects = Rejects(0.1)
    for rejected in range(10):  # of the first 100
        rejects.rows = 30
        rejects.add("s", "f", rejected, "bad")
    with pytest.raises(TooManyRejects, match="11 of 30 rows are rejected, above the limit of 0.1 of them: 11 × bad"):
        rejects.add("s", "f", 11, "bad")


def test_urls_are_rejected_unless_allowed(files):
    path = write_jsonl(files / "urls.jsonl", [{"input": "a", "label": "b", "images": "http://127.0.0.1:9/x.png"}] * 2)
    write_jsonl(files / "photos.jsonl", read_jsonl(files / "photos.jsonl"))
    assert command(path, files / "photos.jsonl", "--out", files / "out") == 2  # a source without any row
    [reject, _] = read_jsonl(files / "out/rejects.jsonl")
    assert "--allow-urls is not set" in reject["reason"]


def test_a_source_that_is_too_short_is_an_error(files, capsys):
    assert command(write_mixture(files, rows=100), "--out", files / "out") == 2
    assert "source 'photos' has 8 usable rows, and its share of 100 is 25" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changed, told",
    [
        ({"sources": []}, "sources: none"),
        ({"sources": {}}, "sources: missing"),
        ({"rows": None}, "rows is None: give a number"),
        ({"rows": 0}, "rows is 0"),
        ({"row": 3}, "unknown key 'row'; did you mean 'rows'?"),
        ({"reject_limit": 2}, "reject_limit is 2.0"),
        ({"pixels": {"most": 10}}, "pixels: it must be"),
        ({"pixels": {"max": 10}}, "pixels: unknown key 'max'"),
        ({"sources": [{"files": "a"}]}, "has no name"),
        ({"sources": [{"name": "a"}]}, "source 'a': give either files or synthetic"),
        ({"sources": [{"name": "a", "files": "a", "synthetic": "maze"}]}, "give either files or synthetic"),
        ({"sources": [{"name": "a/b", "files": "a"}]}, "a name is of letters"),
        ({"sources": [{"name": "a", "files": "a"}] * 2}, "stands twice"),
        ({"sources": [{"name": "a", "synthetic": "mazes"}]}, "'mazes' is unknown; choose of counting"),
        ({"sources": [{"name": "a", "synthetic": "maze", "weight": 0}]}, "weight is 0"),
        ({"sources": [{"name": "a", "synthetic": "maze", "weight": "x"}]}, "weight is 'x': give a number"),
        ({"sources": [{"name": "a", "synthetic": "maze", "size": 20}]}, "size is 20"),
        ({"sources": [{"name": "a", "synthetic": "maze", "difficulty": [1, 0]}]}, "the lower one first"),
        ({"sources": [{"name": "a", "synthetic": "maze", "difficulty": 1}]}, "give two numbers"),
        ({"sources": [{"name": "a", "files": "a", "twins": True}]}, "set render: true"),
        ({"sources": [{"name": "a", "files": "a", "harder": "up"}]}, "harder is 'up'"),
        ({"sources": [{"name": "a", "files": "a", "columns": {"image": "x"}}]}, "did you mean 'images'?"),
        ({"sources": [{"name": "a", "files": "a", "render": True, "width": 9}]}, "width is 9"),
        ({"sources": [{"name": "a", "files": "a", "font": [9, 3]}]}, "font is [9, 3]"),
    ],
)
def test_wrong_mixtures_are_refused(files, capsys, changed, told):
    assert command(write_mixture(files, **changed), "--out", files / "out") == 2
    assert told in capsys.readouterr().err
    assert not (files / "out").exists()


def test_endless_sources_need_rows(files, capsys):
    path = write_mixture(files)
    path.write_text(yaml.safe_dump({"sources": MIXTURE["sources"]}))
    assert command(path, "--out", files / "out") == 2
    assert "'scenes' is endless" in capsys.readouterr().err
    (files / "mix.yaml").write_text("a: [")
    assert command(path, "--out", files / "out") == 2
    assert command(path, files / "photos.jsonl", "--out", files / "out") == 2
    assert "a mixture stands by itself" in capsys.readouterr().err


def test_all_scenes(tmp_path):
    (tmp_path / "m.yaml").write_text("rows: 60\nsources: [{name: all, synthetic: all}]\n")
    mixture = read_mixture(tmp_path / "m.yaml")
    assert len(mixture.sources[0].synthetic) == 14
    rows = list(mixed(mixture, Rejects(0), Work(Store(tmp_path / "images"), allow_urls=False)))
    assert len({row["images"][0] for row in rows}) == 60


def test_without_rows_every_file_is_used_up(files):
    mixture = Mixture(
        sources=(Source("a", files=("photos.jsonl",)), Source("b", files=("photos.jsonl",), weight=3)), folder=files
    )
    rows = list(mixed(mixture, Rejects(0), Work(Store(files / "images"), allow_urls=False)))
    assert [row["datasource"] for row in rows].count("a") == [row["datasource"] for row in rows].count("b") == 8


def test_images_are_stored_in_the_budget(files):
    path = files / "pixels.yaml"
    path.write_text(
        yaml.safe_dump({"pixels": {"least": 16, "most": 900}, "sources": [{"name": "a", "files": "photos.jsonl"}]})
    )
    assert command(path, "--out", files / "out") == 0
    for row in read_jsonl(files / "out/prompts.jsonl"):
        image = Image.open(row["images"][0])
        assert image.width * image.height <= 900


def test_images_that_cannot_be_decoded_or_fetched_do_not_end_the_command(files):
    bilevel = Image.new("1", (64, 64))
    (files / "bilevel.png").write_bytes(encoded(bilevel, transparency=0))
    (files / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    images = ["0.png", "bilevel.png", "script.png", "http://127.0.0.1:9/my picture.png", "1.png"]
    path = write_jsonl(files / "odd.jsonl", [{"input": "a", "label": 1, "images": name} for name in images])
    assert command(path, "--out", files / "out", "--allow-urls") == 0
    assert len(read_jsonl(files / "out/prompts.jsonl")) == 3
    assert [reject["row"] for reject in read_jsonl(files / "out/rejects.jsonl")] == [3, 4]


def test_scenes_that_repeat_are_counted(files, capsys):
    sources = [{"name": "few", "synthetic": "areas", "difficulty": [0, 0], "size": 112}]
    assert command(write_mixture(files, rows=60, sources=sources), "--out", files / "out") == 0
    rows = read_jsonl(files / "out/prompts.jsonl")
    repeated = len(rows) - len({tuple(row["facts"]) for row in rows})
    assert (
        repeated > 0 and f"{repeated} of 60 scenes of few have the contents of another one" in capsys.readouterr().out
    )


def test_several_workers_make_the_same_rows(files):
    source = MIXTURE["sources"][2] | {"name": "drawn", "render": True, "twins": True, "width": 300}
    mixture = write_mixture(files, rows=30, sources=[*MIXTURE["sources"], source])
    for workers in (1, 3):
        assert command(mixture, "--out", files / "out", "--workers", workers) == 0
        (files / "out/prompts.jsonl").rename(files / f"{workers}.jsonl")
    assert (files / "1.jsonl").read_bytes() == (files / "3.jsonl").read_bytes()


def crashing(store, allow_urls, item):
    """What a broken decoder does to its process: item 5 is the bad one, and 30 another."""
    if item.number in (5, 30):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.abort()
    return [{"input": item.number, "images": []}]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_item_that_crashes_its_process_is_rejected_and_no_other(tmp_path, workers):
    items = [Item(str(n), "f", n, None, None, tmp_path) for n in range(40)]
    with Work(Store(tmp_path), allow_urls=False, workers=workers) as work:
        results = list(work.results(crashing, iter(items)))
    assert [item.number for item, _ in results] == list(range(40))
    assert [item.number for item, result in results if result == ENDED] == [5, 30]
    assert all(result == [{"input": n, "images": []}] for n, (_, result) in enumerate(results) if n not in (5, 30))


def test_processes_that_store_the_same_image_do_not_meet(tmp_path, monkeypatch):
    store, rename, this = Store(tmp_path), os.replace, os.getpid()

    def after_another_process(partial, path):
        if os.getpid() == this:
            with monkeypatch.context() as patch:  # all its work between our writing and renaming
                patch.setattr(os, "getpid", lambda: this + 1)
                store.add(b"pixels", ".png")
        rename(partial, path)

    monkeypatch.setattr(os, "replace", after_another_process)
    path = Path(store.add(b"pixels", ".png"))
    assert path.read_bytes() == b"pixels" and [*path.parent.iterdir()] == [path]


def test_bad_rows_of_several_workers_are_in_order(files):
    rows = [dict(row) for row in read_jsonl(files / "photos.jsonl") * 3]
    for row in rows[1::6]:
        row["images"] = "gone.png"
    path = write_jsonl(files / "many.jsonl", rows)
    assert command(path, "--out", files / "out", "--workers", 2) == 0
    assert [reject["row"] for reject in read_jsonl(files / "out/rejects.jsonl")] == [2, 8, 14, 20]


def test_an_interrupted_run_goes_on(files, monkeypatch):
    def count(stop):
        made, real = [], Journal.add

        def counted(journal, key, result):
            if len(made) == stop:
                raise KeyboardInterrupt
            made.append(key)
            real(journal, key, result)

        with monkeypatch.context() as patch:
            patch.setattr(Journal, "add", counted)
            code = command(path, "--out", files / "out", "--workers", 1)
        return code, made

    path = write_mixture(files)
    code, first = count(10)
    assert code == 130 and not (files / "out/prompts.jsonl").exists() and len(first) == 10
    code, rest = count(None)
    assert code == 0 and len(first) - 1 <= 24 - len(rest) and not set(first[:-1]) & set(rest)
    assert not (files / "out/unfinished.jsonl").exists()
    resumed = (files / "out/prompts.jsonl").read_bytes()
    assert command(path, "--out", files / "out", "--workers", 1) == 0
    assert (files / "out/prompts.jsonl").read_bytes() == resumed
    code, all_anew = count(5)
    (files / "photos.jsonl").write_text((files / "photos.jsonl").read_text() + "\n")  # other input
    code, again = count(None)
    assert code == 0 and all_anew[0] in again


def test_a_result_whose_image_is_gone_is_made_again(tmp_path):
    image = tmp_path / "a.png"
    image.write_bytes(b"")
    journal = Journal(tmp_path / "j", "x")
    journal.add("a", [{"images": [str(image)]}])
    journal.add("b", "cannot be read")
    journal.close()
    (tmp_path / "j").write_text((tmp_path / "j").read_text() + '["c", [{"ima')  # killed while it wrote
    assert Journal(tmp_path / "j", "x").result("a") and Journal(tmp_path / "j", "x").result("b") == "cannot be read"
    image.unlink()
    assert Journal(tmp_path / "j", "x").result("a") is None
    assert Journal(tmp_path / "j", "y").result("b") is None
