"""Sphinx: the documentation site, out of the Markdown files beside this one and the docstrings of the package.

`sphinx-build -W --keep-going docs build/site` builds it; pages that hold `{code-cell}`s are executed on the way.
"""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import singan_aug

project = "singan-aug"
copyright = "the singan-aug developers"
release = version = singan_aug.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4  # links to headings, as GitHub makes them

nb_execution_mode = "cache"  # a page is executed again when its code changes
nb_execution_timeout = 1200  # seconds for a cell: a busy machine may be many times as slow as an idle one
nb_execution_raise_on_error = True
nb_merge_streams = True

html_theme = "furo"
html_title = "singan-aug"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False

autodoc_default_options = {"members": True, "exclude-members": "model_config"}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_mock_imports = [  # hosts of transforms: a page of them needs none installed
    "batchgenerators",
    "batchgeneratorsv2",
    "detectron2",
    "fvcore",
    "mmcv",
    "mmdet",
    "mmengine",
    "mmseg",
    "monai",
    "nnunetv2",
]
suppress_warnings = ["ref.python"]  # short names of types that several libraries have
python_use_unqualified_type_names = True
napoleon_use_rtype = False
napoleon_use_admonition_for_examples = True

# Files outside this folder that have a page here: the page's own text is a link for those who read it elsewhere.
ROOT, HERE = Path(__file__).parent.parent, Path(__file__).parent
SHOWN = {
    "README.md": "index",
    "CHANGELOG.md": "project/changelog",
    "CONTRIBUTING.md": "project/contributing",
    "SECURITY.md": "project/security",
    "TESTING.md": "project/testing",
    "benchmarks/README.md": "project/measuring",
    "cache/README.md": "project/store-format",
}


def _show_and_link(app: Any, docname: str, source: list[str]) -> None:
    """Put the text of the file that a page shows in its place, and lead links to such files to their pages."""
    shown = {page: ROOT / file for file, page in SHOWN.items() if page != "index"}.get(docname)
    page, file = HERE / f"{docname}.md", shown or HERE / f"{docname}.md"

    def led(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        if "://" in target or not target:
            return match[0]
        path = os.path.normpath(file.parent / target)
        name = Path(path).relative_to(ROOT).as_posix()
        path = f"{HERE / SHOWN[name]}.md" if name in SHOWN else path
        return f"]({Path(os.path.relpath(path, page.parent)).as_posix()}{anchor})"

    text = shown.read_text("utf-8") if shown else source[0]
    source[0] = re.sub(r"\]\(([^)#\s]*)(#[^)\s]*)?\)", led, text)


def _fields(obj: Any) -> list[str]:
    """The fields of a dataclass or config, each with the comment behind it, which is what documents it."""
    try:
        source = inspect.getsource(obj)
    except (OSError, TypeError):
        return []
    found = re.findall(r"^    (\w+): [^#\n]*  # (?!type:)(.*)$", source, re.MULTILINE)
    return ["", *(f"- `{name}`: {comment}" for name, comment in found), ""] if found else []


def _constants(module: Any, page: str) -> list[str]:
    """Entries for what a module exports that is neither a class nor a function, unless the page has one."""
    found = []
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if not (name.startswith("_") or inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value)):
            comment = re.search(rf"^{name}\b[^=\n]*= [^#\n]*  # (.*)$", inspect.getsource(module), re.MULTILINE)
            has_docstring = re.search(rf"^{name}\b[^=\n]*= .*\n\"\"\"", inspect.getsource(module), re.MULTILINE)
            if not has_docstring and f"py:data:: {name}\n" not in page:
                entry = [f".. py:data:: {name}", f"   :module: {module.__name__}", ""]
                found += ["", *entry, f"   {comment[1]}" if comment else "", ""]
    return found


def _as_rst(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with `code` in single quotes: nothing else in them is markup."""
    if what == "class":
        lines.extend(_fields(obj))
    for i, line in enumerate(lines):
        pieces = re.split(r"`+([^`]+)`+", line)
        plain = [re.sub(r"(\*(?!\w+\*)(?<!\w\*)|\||_(?!\w))", r"\\\1", piece) for piece in pieces[::2]]
        lines[i] = "".join(a + b for a, b in zip(plain, [*(f"``{code}``" for code in pieces[1::2]), ""], strict=True))
    if what == "module":
        lines.extend(_constants(obj, (HERE / f"{app.env.docname}.md").read_text("utf-8")))


def _skip(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Names that the package itself exports stand on its page alone."""
    if what == "module" and app.env.docname != "api/singan_aug" and name in singan_aug.__all__:
        return getattr(singan_aug, name) is obj or None
    return None


def _shorten(app: Any, what: str, name: str, obj: Any, *rest: Any) -> tuple[str, None] | None:
    """A config's signature would be a page of bounds."""
    return ("(**leaves)", None) if what == "class" and issubclass(obj, BaseModel) else None


def setup(app: Any) -> dict[str, bool]:
    """Sphinx calls this."""
    app.connect("source-read", _show_and_link)
    app.connect("autodoc-process-docstring", _as_rst, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", _shorten)
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
