"""Settings of Sphinx. `docs/build.py` calls it, on a copy that has notebooks and README beside."""

from __future__ import annotations

import inspect
import re
from typing import Any, Literal

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.addnodes import desc_content, pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.writers.html5 import HTML5Translator

import fusionlib
from fusionlib.card import MethodSpec

project = "fusionlib"
author = "The fusionlib maintainers"
version = release = fusionlib.__version__
html_title = f"fusionlib {release}"

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
]
templates_path = ["_templates"]

# Notebooks are shown as they were committed. What their outputs need must be in the page: no
# widgets, which run scripts from the net; the picture or text beside a widget is shown instead.
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, dict[str, str]] = {}
nb_mime_priority_overrides = [
    ("html", "application/vnd.jupyter.widget-view+json", None),
    ("html", "application/javascript", None),
]
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
myst_ref_domains = ["std", "py"]  # a link that is found nowhere is one warning, not three

# A name between single backticks links to its description, where it has one.
default_role = "py:obj"
autodoc_member_order = "bysource"
autosummary_generate = True
numpydoc_show_class_members = False
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
toc_object_entries_show_parents = "hide"
suppress_warnings = [
    "toc.not_included",  # files that README links to need no place in the menu
    "ref.citation",  # a module's references are a list to read; its functions name them in words
    "ref.python",  # a hint that only type checkers resolve is looked up by its last name
]

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_copyright = False
html_math_renderer = "mathml"


def _facts(spec: MethodSpec) -> list[str]:
    """Tell what a method's `METHOD` says, in reStructuredText."""
    lines = [
        "",
        ".. rubric:: Published facts",
        "",
        f"- paper: {spec.paper}, doi `{spec.doi} <https://doi.org/{spec.doi}>`__",
        f"- kind: {spec.kind}",
        f"- licence of the authors' code: {spec.licence}",
    ]
    for name, configuration in spec.configurations.items():
        lines.append(f"- {spec.axis} ``{name}``: {configuration.summary}")
        if configuration.weights:
            lines.append("")
        lines += [
            f"  - weights ``{file.name}``: {file.parameters:,} values; {file.trained}; "
            f"licence: {file.licence}"
            for file in configuration.weights
        ]
        lines.append("")
    return lines


def _add_facts(
    app: Sphinx, what: str, name: str, module: Any, options: Any, lines: list[str]
) -> None:
    """Add to a module's text the facts of its `METHOD`, and what it has from other modules."""
    if what != "module":
        return
    if isinstance(spec := getattr(module, "METHOD", None), MethodSpec):
        lines += _facts(spec)
    things = [getattr(module, public) for public in getattr(module, "__all__", ())]
    others = [f"`~{it.__module__}.{it.__name__}`" for it in things if _is_of_other(it, name)]
    if others:
        lines += ["", f"Also here: {', '.join(others)}.", ""]


def _is_of_other(thing: Any, module: str) -> bool:
    return (inspect.isclass(thing) or inspect.isfunction(thing)) and thing.__module__ != module


def _mend_signature(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, arguments: str, returns: str
) -> tuple[str, str]:
    """Write defaults that are no Python when printed, ``<factory>``, in a way Sphinx can read."""
    if arguments:
        arguments = re.sub(r"<class '([\w.]+)'>", r"\1", arguments)
        arguments = re.sub(r"<[^>]*>", "...", arguments)
    return arguments, returns


def _skip(
    app: Sphinx, what: str, name: str, thing: Any, skip: bool, options: Any
) -> Literal[True] | None:
    """Skip what says nothing new: names that a package has from its modules, tuples' fields."""
    elsewhere = _is_of_other(thing, app.env.current_document.autodoc_module)
    alias = (thing.__doc__ or "").startswith("Alias for field number")
    return True if alias or (what == "module" and elsewhere) else None


def _drop_value(app: Sphinx, domain: str, kind: str, content: desc_content) -> None:
    """Leave out the value of a constant where it would fill the page, or cannot be written."""
    signature = content.parent[0]
    value = signature[-1].astext()
    if kind == "data" and (len(value) > 500 or " at 0x" in value):
        del signature[-1]


def _find(
    app: Sphinx, environment: BuildEnvironment, node: pending_xref, text: nodes.TextElement
) -> nodes.reference | None:
    """Find what a docstring names without its module, and `fusionlib.NAME` where it is at home."""
    name = node["reftarget"]
    python = environment.domains.python_domain
    if name.removeprefix("fusionlib.") in fusionlib.__all__:
        public = getattr(fusionlib, name.removeprefix("fusionlib."))
        found = [f"{public.__module__}.{public.__name__}"]
    elif name[0].isupper() or "." in name:  # a small word alone is a parameter
        found = [known for known in python.objects if known.endswith(f".{name}")]
    else:
        return None
    if node.get("reftype") != "obj" or len(found) != 1:
        return None
    page = node["refdoc"]
    return python.resolve_xref(environment, page, app.builder, "obj", found[0], node, text)


def _visit_math(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _visit_math_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(tex2mathml(node.astext(), as_block=True))
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", _add_facts)
    app.connect("autodoc-process-signature", _mend_signature)
    app.connect("autodoc-skip-member", _skip)
    app.connect("object-description-transform", _drop_value)
    app.connect("missing-reference", _find)
    # Browsers show MathML themselves; MathJax would be fetched from the net.
    app.add_html_math_renderer("mathml", (_visit_math, None), (_visit_math_block, None))
