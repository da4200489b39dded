"""Bar charts as SVG, readable on light and dark pages."""

from html import escape

COLOURS = {
    "bare loop": "#9aa0a6", "fanline": "#1a73e8", "durable-streams 0.1.5": "#e8710a", "axum 0.8 + broadcast": "#9334e6",
    "nchan 1.3.6": "#12a150", "fastapi-sse-events 0.2": "#d93025",
}
WIDTH, BAR, LEFT, RIGHT = 760, 18, 180, 80


def bars(title, groups, series):
    """Draws horizontal bars: one of each series for each group. A value of None has no bar."""
    values = [value for line in series.values() for value in line if value]
    scale = (WIDTH - LEFT - RIGHT) / max(values, default=1)
    y, shapes = 44, []
    for index, group in enumerate(groups):
        shapes.append(f'<text x="8" y="{y + 12}" font-weight="bold">{escape(group)}</text>')
        y += 22
        for name, line in series.items():
            value = line[index]
            label = "not measured" if value is None else f"{value:.2f}"
            length = max(1, (value or 0) * scale)
            shapes.append(f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
            colour = COLOURS.get(name, "#666")
            shapes.append(f'<rect x="{LEFT}" y="{y + 2}" width="{length:.1f}" height="{BAR - 4}" fill="{colour}"/>')
            shapes.append(f'<text x="{LEFT + length + 6:.1f}" y="{y + 13}">{label}</text>')
            y += BAR
        y += 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" '
        f'font-family="system-ui, sans-serif" font-size="12">\n<rect width="{WIDTH}" height="{y}" fill="#fff"/>\n'
        f'<text x="8" y="24" font-size="15" font-weight="bold">{escape(title)}</text>\n' + "\n".join(shapes) + "\n</svg>\n"
    )
