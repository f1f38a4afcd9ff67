"""Pages that are one file: nothing is loaded, and no other scripts run than the page's own."""

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from kimi_plugins.data.files import replacing


def rendered(template: str, css: str, scripts: list[str], **values: object) -> str:
    """A page of a Jinja template, which gets css, scripts, script_hashes (for the page's policy) and the values.

    Values are escaped but for Markup.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(
        values,
        css=Markup(css),
        scripts=[Markup(script) for script in scripts],
        # Only these may run, whatever a model or a data set wrote.
        script_hashes=" ".join(f"'sha256-{_sha256(script)}'" for script in scripts),
    )


def write(path: Path, page: str) -> None:
    """Write a page, whole or not at all, into a directory that is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        # A lone surrogate, as in a directory name that is not UTF-8, cannot be encoded.
        partial.write_bytes(page.encode("utf-8", "backslashreplace"))


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
