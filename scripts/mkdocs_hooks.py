"""Links that leave docs/: images are copied to the site, other links become text. They and the links of the README must exist."""

import logging
import re
from pathlib import Path

from mkdocs.structure.files import File

REPOSITORY = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(!?)\[([^]]*)\]\((?!\w+:|#)([^)]+)\)")
log = logging.getLogger("mkdocs.hooks")


def check(source, base, target):
    if not (base / target.split("#")[0]).exists():
        log.warning("%s: there is no %s", source, target)


def on_pre_build(config):
    for _, _, target in LINK.findall((REPOSITORY / "README.md").read_text()):
        check("README.md", REPOSITORY, target)


def on_page_markdown(markdown, page, config, files):
    def outside(match):
        image, text, target = match.groups()
        if not target.startswith("../"):
            return match.group()
        path = target.removeprefix("../")
        check(page.file.src_uri, REPOSITORY, path)
        if not image:
            return text
        if files.get_file_from_path(path) is None:
            files.append(File.generated(config, path, abs_src_path=str(REPOSITORY / path)))
        return f"![{text}]({path})"

    return LINK.sub(outside, markdown)
