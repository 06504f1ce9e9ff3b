// The charts over time.

// A step function from the times at which things begin and end.
function steps(spans) {
  const changes = [];
  for (const [from, to] of spans) changes.push([from, 1], [to, -1]);
  changes.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const points = [[0, 0]];
  let value = 0;
  for (const [at, change] of changes) {
    value += change;
    if (points.at(-1)[0] === at) points.at(-1)[1] = value;
    else points.push([at, value]);
  }
  return points;
}

const ran = hooks.filter((hook) => hook.accepted !== null);
const strips = [
  {
    label: "running hooks", color: "running", unit: (value) => number(value),
    points: steps(ran.map((hook) => [hook.accepted, hook.finished])),
  },
  {
    label: "waiting", color: "waiting", unit: (value) => number(value),
    points: steps(hooks.map((hook) => [hook.queued, hook.accepted ?? hook.finished])),
  },
];
if (data.cpu.length) {
  strips.push({
    label: data.cpus ? `${data.cpus} processors` : "processors", color: "cpu", most: 100, unit: (value) => `${Math.round(value)} %`,
    // A sample covers the time before it.
    points: data.cpu.map(([at, busy], place) => [place ? data.cpu[place - 1][0] : 0, busy * 100]),
  });
}
for (const strip of strips) {
  strip.most ??= strip.points.reduce((most, point) => Math.max(most, point[1]), 1);
}

// The maximum in each column of pixels.
function columnsOf(points, plot) {
  const tops = new Float64Array(Math.ceil(plot));
  for (let place = 0; place < points.length; place++) {
    const end = place + 1 < points.length ? points[place + 1][0] : view.to;
    const from = Math.floor(toX(points[place][0], plot) - GUTTER);
    const to = Math.ceil(toX(end, plot) - GUTTER);
    if (to < 0 || from >= tops.length) continue;
    for (let x = Math.max(from, 0); x < Math.min(Math.max(to, from + 1), tops.length); x++) {
      tops[x] = Math.max(tops[x], points[place][1]);
    }
  }
  return tops;
}

function drawLoad() {
  const STRIP = 58;
  const area = prepare($("load"), strips.length * STRIP + AXIS);
  const { context, plot } = area;
  drawAxis(area);
  strips.forEach((strip, place) => {
    const base = (place + 1) * STRIP - 2;
    const tall = STRIP - 12;
    context.textAlign = "right";
    context.fillStyle = palette.text;
    context.fillText(strip.label, GUTTER - 8, base - tall / 2 - 7);
    context.fillStyle = palette.quiet;
    context.fillText(`up to ${strip.unit(strip.most)}`, GUTTER - 8, base - tall / 2 + 9);
    context.fillStyle = palette[strip.color];
    columnsOf(strip.points, plot).forEach((value, x) => {
      const height = (value / strip.most) * tall;
      context.globalAlpha = 0.45;
      context.fillRect(GUTTER + x, base - height, 1, height);
      context.globalAlpha = 1;
      if (value) context.fillRect(GUTTER + x, base - height, 1, 1.5);
    });
    context.fillStyle = palette.edge;
    context.fillRect(0, base + 1, area.width, 1);
  });
}
