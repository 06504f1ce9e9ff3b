// The chart of the lines.

function drawBar(context, plot, top, bar) {
  const from = toX(bar.start, plot);
  const width = bar.kind === "learned" ? 2 : Math.max(toX(bar.end, plot) - from, 1);
  const tall = Math.max(LINE - 3, 2);
  context.fillStyle = palette[bar.color];
  context.fillRect(from, top + 1, width, tall);
  if (bar.failed) {
    context.fillStyle = palette.failed;
    const edge = Math.min(4, Math.ceil(tall / 3));
    context.fillRect(from, top + 1 + tall - edge, width, edge);
    context.fillRect(from + Math.max(width - 2, 0), top + 1, Math.min(2, width), tall);
  }
}

function drawLines() {
  const area = prepare($("lines"), Math.max(lines.length, 1) * LINE + AXIS);
  const { context, plot } = area;
  drawAxis(area);
  context.textAlign = "right";
  context.fillStyle = palette.quiet;
  // If lines are thinner than their labels, only some get a label.
  const every = Math.ceil(14 / LINE);
  lines.forEach((line, place) => {
    if (place % every === 0) context.fillText(line.label, GUTTER - 8, place * LINE + LINE / 2, GUTTER - 12);
  });
  clipToPlot(area, () => {
    const visible = (bar) => bar.end >= view.from && bar.start <= view.to;
    lines.forEach((line, place) => {
      context.fillStyle = palette.life;
      for (const life of line.lives.filter(visible)) {
        const from = toX(life.start, plot);
        context.fillRect(from, place * LINE + 1, Math.max(toX(life.end, plot) - from, 1), Math.max(LINE - 3, 2));
      }
      for (const bar of line.bars) if (visible(bar)) drawBar(context, plot, place * LINE, bar);
    });
    drawMarks(area);
  });
}

function drawMarks({ context, plot, height }) {
  if (view.selected) {
    const { bar, line } = view.selected;
    const from = toX(bar.start, plot);
    context.strokeStyle = palette.text;
    context.lineWidth = 2;
    context.strokeRect(from - 1, line * LINE, Math.max(toX(bar.end, plot) - from, 2) + 2, LINE - 1);
    context.lineWidth = 1;
  }
  if (view.drag && Math.abs(view.drag.to - view.drag.from) > 3) {
    context.globalAlpha = 0.2;
    context.fillStyle = palette.focus;
    context.fillRect(Math.min(view.drag.from, view.drag.to), 0, Math.abs(view.drag.to - view.drag.from), height - AXIS);
    context.globalAlpha = 1;
  }
}

let frame = 0;

function redraw() {
  if (!frame) {
    frame = requestAnimationFrame(() => {
      frame = 0;
      drawLoad();
      drawLines();
    });
  }
}

function zoom(from, to) {
  const least = Math.max(data.duration / 1e6, 0.05);
  const span = Math.min(Math.max(to - from, least), Math.max(data.duration, 1));
  view.from = Math.min(Math.max(from, 0), Math.max(data.duration, 1) - span);
  view.to = view.from + span;
  redraw();
}

function zoomBy(factor) {
  const bar = view.selected?.bar;
  const isVisible = bar && bar.end >= view.from && bar.start <= view.to;
  const centre = isVisible ? (bar.start + bar.end) / 2 : (view.from + view.to) / 2;
  const half = ((view.to - view.from) * factor) / 2;
  zoom(centre - half, centre + half);
}

// The bar at a position, or the nearest one within some pixels; else the life behind it.
function find(x, y) {
  const plot = $("lines").clientWidth - GUTTER - 8;
  const place = Math.floor(y / LINE);
  if (x < GUTTER || !lines[place]) return null;
  const distance = (bar) => Math.max(toX(bar.start, plot) - x, x - Math.max(toX(bar.end, plot), toX(bar.start, plot) + 1), 0);
  let nearest = null;
  for (const bar of lines[place].bars) {
    if (distance(bar) <= (nearest ? distance(nearest) : 3)) nearest = bar;
  }
  nearest ??= lines[place].lives.find((life) => distance(life) === 0) ?? null;
  return nearest && { bar: nearest, line: place };
}

function select(found, scroll) {
  view.selected = found;
  if (found) {
    show($("detail"), found.bar);
    const { start, end } = found.bar;
    if (end < view.from || start > view.to) {
      const half = (view.to - view.from) / 2;
      zoom((start + end) / 2 - half, (start + end) / 2 + half);
    }
    if (scroll) {
      const top = $("lines").getBoundingClientRect().top + found.line * LINE;
      if (top < 0 || top > innerHeight - 40) scrollBy(0, top - innerHeight / 3);
    }
  }
  redraw();
}
