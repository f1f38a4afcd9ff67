"""The docs name what the code has."""

import re
from pathlib import Path

import torch
from openrlhf import hookspecs

from kimi_plugins.policy.mirror_descent import MirrorDescentLoss

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def test_every_hook_is_documented_with_its_arguments():
    text = (DOCS / "hooks.md").read_text()
    for name, spec in vars(hookspecs).items():
        if name.startswith("openrlhf_"):
            arguments = ", ".join(spec.__code__.co_varnames[: spec.__code__.co_argcount])
            assert re.search(rf"\| `{name}`[^|]*\| {arguments}", text), f"{name}({arguments}) is not in docs/hooks.md"


def test_every_metric_is_documented():
    loss = MirrorDescentLoss(tau=0.1, max_log_ratio=100.0, log_ratio="sequence", token_level_loss=True)
    zeros = torch.zeros(2, 3)
    loss(zeros, zeros, zeros, rollout_log_probs=zeros)
    sources = [path.read_text() for path in (ROOT / "kimi_plugins").rglob("*.py")]
    names = {*loss.metrics, *(name for source in sources for name in re.findall(r'"(kimi/\w+)"', source))}
    documented = set(re.findall(r"`(kimi/\w+)`", (DOCS / "metrics.md").read_text()))
    assert names == documented


def test_links_in_the_docs_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.glob("*.md"), *ROOT.glob("examples/*/README.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"
