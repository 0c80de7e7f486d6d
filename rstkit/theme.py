"""The colours of the diagram in JupyterLab's light and dark themes.

plotly knows nothing of themes, so a figure carries the light colours, and `STYLE` puts the dark
ones in their place while the page is dark. It finds the parts of a figure by the class that
plotly gives each trace: ``trace`` and the trace's uid, which begins with `UID` and the colour's name.
"""

from typing import NamedTuple

UID = "rstkit-"
NARROWEST = 715  # pixels


class Colour(NamedTuple):
    """One colour in both themes."""

    light: str
    dark: str


# After Okabe and Ito's palette, darkened or lightened until text has a contrast of 4.5:1.
# Line style tells retransmissions and keepalives apart as well, weight the RST.
TEXTS = {
    "text": Colour("#1F2933", "#E8EAED"),
    "muted": Colour("#59636F", "#A7B0BA"),
    "ACK": Colour("#59636F", "#A7B0BA"),
    "SYN": Colour("#0067A5", "#62B8EC"),
    "data": Colour("#00735A", "#3CC9A2"),
    "FIN": Colour("#875700", "#E9B44C"),
    "RST": Colour("#C2112B", "#FF7A75"),
    "retransmission": Colour("#96307F", "#E796D3"),
    "keepalive": Colour("#5546B5", "#AFA6F7"),
}
BANDS = {
    "listening": Colour("#E3E6EA", "#3A414A"),
    "opening": Colour("#CBE0F2", "#1D4263"),
    "open": Colour("#C6E9DC", "#11503F"),
    "closing": Colour("#F7E3AF", "#574311"),
    "closed": Colour("#EFCB6F", "#75560D"),
    "waiting": Colour("#F6D2BD", "#693B20"),
}
SURFACES = {
    "lifeline": Colour("#A3ABB5", "#59636F"),
    "highlight": Colour("#FDECEC", "#331A1C"),
    "paper": Colour("#FFFFFF", "#111111"),
}
COLOURS = TEXTS | BANDS | SURFACES

_DARK = 'body[data-jp-theme-light="false"]'
_PAPER = "var(--jp-layout-color0, transparent)"
_OURS = f':has([class*="trace{UID}"])'
_FIGURE = f".js-plotly-plot{_OURS}"


def _style() -> str:
    rules = [
        f"{_FIGURE} .main-svg {{background: transparent !important}}",
        # Where the page is narrower than the texts need, the output scrolls sideways.
        f".jp-RenderedPlotly{_OURS} {{min-width: {NARROWEST}px}}",
        f".jp-OutputArea-child:has(> .jp-RenderedPlotly{_OURS}) {{overflow-x: auto}}",
        # Lines end before a text; where the page is narrow, its halo hides what is left of them.
        f'[class*="trace{UID}"][class*="-text"] text {{paint-order: stroke; stroke: {_PAPER}; stroke-width: 4px}}',
        f'[class*="trace{UID}"][class*="-bar"] text {{stroke: none !important}}',
        # The output that brings this style takes no room of its own.
        ".jp-OutputArea-child:has(> .jp-OutputArea-output > style.rstkit) {display: none}",
    ]
    for name, colour in COLOURS.items():
        part = f'{_DARK} [class*="trace{UID}{name}-"]'
        rules += [
            f"{part} .js-line {{stroke: {colour.dark} !important}}",
            f"{part} :is(.point, .js-fill, text) {{fill: {colour.dark} !important}}",
        ]
    text, muted, paper = TEXTS["text"].dark, TEXTS["muted"].dark, SURFACES["paper"].dark
    rules += [
        f"{_DARK} {_FIGURE} .annotation text {{fill: {text} !important}}",
        f"{_DARK} {_FIGURE} .hoverlayer text {{fill: {text} !important}}",
        f"{_DARK} {_FIGURE} .hoverlayer path {{fill: {paper} !important; stroke: {muted} !important}}",
    ]
    return f'<style class="rstkit">\n{chr(10).join(rules)}\n</style>'


STYLE = _style()
