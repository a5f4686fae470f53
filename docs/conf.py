"""How the manual becomes a book: `cmake --build build --target manual`, or `docs/build`. Sphinx reads it.

The source folder is the repository's root, so that README and CHANGELOG are pages as well, and links mean the same here and on a page of a
repository. Nothing is fetched from the network, and no page asks for anything there: it can be read from file://.
"""

import html
import pathlib
import re

from docutils import nodes

ROOT = pathlib.Path(__file__).resolve().parent.parent

project = "cueball"
author = "the authors of cueball"
copyright = "the authors of cueball"
version = release = re.search(r"project\(cueball VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text()).group(1)

extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["docs/*.md", "README.md", "CHANGELOG.md", "bench/*.md", "bench/openresty/*.md"]
exclude_patterns = ["build*", "lua*", "spec", "src", ".*", "rockspec"]
source_suffix = {".md": "markdown"}
language = "en"
smartquotes = False
nitpicky = True

# Headings are linked to as a repository's pages do it.
myst_heading_anchors = 4
myst_enable_extensions = []
# `-- …` is no Lua for a lexer that stops at a word it does not know: such blocks stay without colours.
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_title = "cueball " + version
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"font-stack": "system-ui, sans-serif", "font-stack--monospace": "ui-monospace, monospace"},
}
html_static_path = ["book.css"]
html_css_files = ["book.css"]


def list_pages_that_index_forgot(app, page, source):
    """A page that docs/index.md does not name yet is in the book all the same, at its end."""
    if page != root_doc:
        return
    named = set(re.findall(r"^(?:\.\./)?([\w/-]+)$", source[0], flags=re.M))
    forgotten = sorted(path.stem for path in (ROOT / "docs").glob("*.md") if path.stem not in named | {"index"})
    if forgotten:
        source[0] += "\n```{toctree}\n:caption: More\n:maxdepth: 1\n\n%s\n```\n" % "\n".join(forgotten)


def write_pictures_into_the_page(app, doctree, page):
    """A drawing in the page itself takes the page's colours, dark or light; one in an <img> cannot."""
    if app.builder.format != "html":
        return
    for image in list(doctree.findall(nodes.image)):
        path = pathlib.Path(app.srcdir) / image["uri"]
        if path.suffix != ".svg" or not path.is_file():
            continue
        drawing = re.sub(r"^<\?xml.*?\?>\s*|<!DOCTYPE.*?>\s*", "", path.read_text(), flags=re.S)
        label = html.escape(image.get("alt", ""), quote=True)
        drawing = drawing.replace('class="alone"', 'class="drawing" role="img" aria-label="%s"' % label, 1)
        image.replace_self(nodes.raw("", '<figure class="drawing">%s</figure>' % drawing, format="html"))


def bring_style_sheets_along(app, problem):
    """Debian's furo imports a style sheet by its path on a web server, which is nothing when the book is read from files."""
    styles = pathlib.Path(app.outdir, "_static", "styles")
    for sheet in styles.glob("*.css") if problem is None else ():
        text = sheet.read_text()
        for path in re.findall(r"@import url\((/[^)]+)\);", text):
            imported = pathlib.Path("/usr/share" + path)
            text = text.replace("@import url(%s);" % path, imported.read_text() if imported.is_file() else "")
        sheet.write_text(text)


def write_front_door(app, problem):
    """The book is opened by its folder's index.html; the pages lie beside README's, in docs/."""
    if problem is None and app.builder.format == "html":
        door = '<!doctype html><meta charset="utf-8"><title>cueball</title><meta http-equiv="refresh" content="0; url=docs/index.html">'
        pathlib.Path(app.outdir, "index.html").write_text(door + '<a href="docs/index.html">The manual</a>\n')


def setup(app):
    app.connect("env-get-outdated", lambda *_: [root_doc])  # it depends on which pages there are
    app.connect("source-read", list_pages_that_index_forgot)
    app.connect("doctree-resolved", write_pictures_into_the_page)
    app.connect("build-finished", bring_style_sheets_along)
    app.connect("build-finished", write_front_door)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
