"""Links that leave docs/: images are copied to the site, other links become text. They and the links of the README must exist."""

import logging
import re
from pathlib import Path

from mkdocs.structure.files import File

REPOSITORY = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(!?)\[([^]]*)\]\((?!\w+:|#)([^)]+)\)")
log = logging.getLogger("mkdocs.hooks")


def check(source, target):
    """Warns if there is no such file or heading; --strict makes that an error."""
    path, _, anchor = target.partition("#")
    file = REPOSITORY / path
    if not file.exists():
        log.warning("%s: there is no %s", source, path)
    elif anchor:
        headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
        if anchor not in (re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings):
            log.warning("%s: %s has no heading #%s", source, path, anchor)


def on_pre_build(config):
    for _, _, target in LINK.findall((REPOSITORY / "README.md").read_text()):
        check("README.md", target)


def on_page_markdown(markdown, page, config, files):
    def outside(match):
        image, text, target = match.groups()
        if not target.startswith("../"):
            return match.group()
        check(page.file.src_uri, target.removeprefix("../"))
        path = target.removeprefix("../").split("#")[0]
        if not image:
            return text
        if files.get_file_from_path(path) is None:
            files.append(File.generated(config, path, abs_src_path=str(REPOSITORY / path)))
        return f"![{text}]({path})"

    # rustdoc's attributes of a fence are not part of the language.
    return re.sub(r"```rust,\w+", "```rust", LINK.sub(outside, markdown))
