// The visible part of the time, and what all charts share.

const view = { from: 0, to: Math.max(data.duration, 1), selected: null, drag: null };
const GUTTER = 108;
const AXIS = 22;
// The height of a canvas is limited; many lines get thinner.
const LINE = Math.max(3, Math.min(18, Math.floor(9000 / Math.max(lines.length, 1))));
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function colors() {
  const names = ["page", "text", "quiet", "edge", "raised", "life", "start", "failed", "running", "waiting", "cpu",
    "focus", "interval", "learned", ...FAMILIES.map((family) => family.color)];
  return Object.fromEntries(names.map((name) => [name, css(name)]));
}

let palette = colors();

function prepare(canvas, height) {
  const width = canvas.clientWidth;
  const ratio = Math.min(window.devicePixelRatio || 1, 32000 / Math.max(height, 1));
  canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = palette.page;
  context.fillRect(0, 0, width, height);
  context.font = "12px system-ui, sans-serif";
  context.textBaseline = "middle";
  return { context, width, plot: Math.max(width - GUTTER - 8, 10), height };
}

const toX = (ms, plot) => GUTTER + ((ms - view.from) / (view.to - view.from)) * plot;
const toTime = (x, plot) => view.from + ((x - GUTTER) / plot) * (view.to - view.from);

function ticks(plot) {
  const span = view.to - view.from;
  const wanted = span / Math.max(plot / 110, 1);
  const power = 10 ** Math.floor(Math.log10(wanted));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= wanted);
  const found = [];
  for (let at = Math.ceil(view.from / step) * step; at <= view.to; at += step) found.push(at);
  return { found, step };
}

function tickLabel(ms, step) {
  if (step < 1) return `${ms.toFixed(2)} ms`;
  if (step < 1000 && view.to < 10_000) return `${Math.round(ms)} ms`;
  if (view.to < 120_000) return `${(ms / 1000).toFixed(step < 1000 ? 2 : 0)} s`;
  return time(ms).replace(/ (min|h)$/, "");
}

function drawAxis({ context, plot, height }) {
  const { found, step } = ticks(plot);
  context.textAlign = "center";
  for (const at of found) {
    const x = Math.round(toX(at, plot)) + 0.5;
    context.strokeStyle = palette.edge;
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, height - AXIS);
    context.stroke();
    context.fillStyle = palette.quiet;
    context.fillText(tickLabel(at, step), x, height - AXIS / 2);
  }
}

function clipToPlot({ context, plot, height }, draw) {
  context.save();
  context.beginPath();
  context.rect(GUTTER, 0, plot, height);
  context.clip();
  draw();
  context.restore();
}
