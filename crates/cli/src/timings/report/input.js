// Pointer and keyboard on the chart of the lines.

const canvas = $("lines");
const tip = $("tip");

canvas.addEventListener("pointerdown", (event) => {
  if (event.offsetX < GUTTER || event.pointerType === "touch") return;
  view.drag = { from: event.offsetX, to: event.offsetX };
  canvas.setPointerCapture(event.pointerId);
});

canvas.addEventListener("pointermove", (event) => {
  if (view.drag) {
    view.drag.to = Math.max(event.offsetX, GUTTER);
    tip.hidden = true;
    redraw();
    return;
  }
  const found = find(event.offsetX, event.offsetY);
  tip.hidden = !found;
  if (!found) return;
  show(tip, found.bar);
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(Math.min(event.clientX + 14, innerWidth - width - 8), 4)}px`;
  tip.style.top = `${event.clientY + 18 + height > innerHeight ? event.clientY - height - 10 : event.clientY + 18}px`;
});

canvas.addEventListener("pointerup", (event) => {
  const { drag } = view;
  view.drag = null;
  if (drag && Math.abs(drag.to - drag.from) > 3) {
    const plot = canvas.clientWidth - GUTTER - 8;
    zoom(toTime(Math.min(drag.from, drag.to), plot), toTime(Math.max(drag.from, drag.to), plot));
  } else {
    select(find(event.offsetX, event.offsetY), false);
  }
});

canvas.addEventListener("pointercancel", () => { view.drag = null; redraw(); });
canvas.addEventListener("pointerleave", () => { tip.hidden = true; });

// The next bar on a line, or the one nearest in time on another.
function neighbour(key) {
  const first = lines.findIndex((line) => line.bars.length);
  if (first < 0) return null;
  if (!view.selected) return { bar: lines[first].bars[0], line: first };
  const { bar, line } = view.selected;
  if (key === "ArrowLeft" || key === "ArrowRight") {
    const { bars } = lines[line];
    const place = bars.indexOf(bar);
    if (place < 0) return { bar: bars[0], line };
    return { bar: bars[Math.min(Math.max(place + (key === "ArrowLeft" ? -1 : 1), 0), bars.length - 1)], line };
  }
  const step = key === "ArrowUp" ? -1 : 1;
  let other = line + step;
  while (lines[other] && !lines[other].bars.length) other += step;
  if (!lines[other]) return view.selected;
  const nearer = (a, b) => (Math.abs(b.start - bar.start) < Math.abs(a.start - bar.start) ? b : a);
  return { bar: lines[other].bars.reduce(nearer), line: other };
}

canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key.startsWith("Arrow")) select(neighbour(event.key), true);
  else if (event.key === "+" || event.key === "=") zoomBy(0.5);
  else if (event.key === "-") zoomBy(2);
  else if (event.key === "0") zoom(0, data.duration);
  else if (event.key === "Escape") select(null);
  else return;
  event.preventDefault();
});

$("zoom-in").addEventListener("click", () => zoomBy(0.5));
$("zoom-out").addEventListener("click", () => zoomBy(2));
$("zoom-all").addEventListener("click", () => zoom(0, data.duration));
