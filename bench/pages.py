"""The generated blocks of the pages in docs/."""

import re


def fill(path, blocks):
    """Replaces what stands between `<!-- begin: NAME -->` and `<!-- end: NAME -->` in a page, and
    returns the new page."""
    page = path.read_text()
    for name, text in blocks.items():
        pattern = rf"(<!-- begin: {name} -->\n).*?(<!-- end: {name} -->)"
        page, count = re.subn(pattern, lambda m: f"{m[1]}\n{text}\n\n{m[2]}", page, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"bench: {path} has {count} blocks '{name}', expected 1")
    return page


def rewrite(path, blocks):
    """The same, in its place."""
    new = path.with_suffix(".new")
    new.write_text(fill(path, blocks))
    new.rename(path)
