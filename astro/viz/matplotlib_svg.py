"""Convert matplotlib figures to small inline SVG: same figure, same bytes; text stays text; ink follows the page's colour."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from markupsafe import Markup, escape
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK = "#0a0b0c"
"""Colour of ink. The page replaces it by its text colour (`currentColor`), so that dark pages work."""

_STYLE = {
    "svg.hashsalt": "astro",  # ids inside the SVG are hashes, which are random without a salt
    "svg.fonttype": "none",  # text as text: small, selectable
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, so that the layout is the same on every machine
    "font.size": 9.5,
    "text.parse_math": False,  # names of sets are data
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.7,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "lines.linewidth": 1.6,
}

_ID = re.compile(r' id="([^"]*)"')
_REFERENCE = re.compile(r'(?:href="#|url\(#)([^")]+)')
_NO_DATA = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", re.DOTALL)


@contextmanager
def plotting() -> Iterator[None]:
    """Set the report's plot style. Create and write figures inside the block. matplotlib's settings are restored afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc must not change the page
        matplotlib.rcParams.update(_STYLE)  # type: ignore[arg-type]  # its keys are Literals, which a plain dict has not
        yield


def inline(figure: Figure, *, name: str, alt: str) -> Markup:
    """Convert a figure to one `<svg class="plot">` element.

    Args:
        figure: created inside `plotting()`.
        name: unique on the page; prefix of the ids inside (letters, digits, "-").
        alt: description of the plot for screen readers.
    """
    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = _NO_DATA.sub("", buffer.getvalue())
    used = set(_REFERENCE.findall(text))
    text = _ID.sub(lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text)
    text = text.replace('xlink:href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    text = text.replace(INK, "currentColor").replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans'")
    head, body = text[text.index("<svg") :].split(">", 1)
    box = re.search(r'viewBox="([^"]*)"', head)
    assert box is not None
    width = round(float(box[1].split()[2]) * 4 / 3)  # points to px
    body = re.sub(r"\s*\n\s*", "\n", body).strip()
    opening = Markup('<svg class="plot" role="img" aria-label="{}" viewBox="{}" style="max-width:{}px">').format(
        escape(alt), box[1], width
    )
    return opening + Markup(body)
