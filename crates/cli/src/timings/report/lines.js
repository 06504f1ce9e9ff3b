// Puts the bars on lines.

// The bars of a line do not overlap and are in order of time; lives are drawn behind them.
const lines = [];

function lineOf(map, key, label) {
  if (!map.has(key)) {
    map.set(key, { label, bars: [], lives: [] });
    lines.push(map.get(key));
  }
  return map.get(key);
}

// Intervals of a lane may overlap: each goes to the first free line.
function addIntervals() {
  const lanes = new Map();
  for (const of of [...intervals].sort((a, b) => a.start - b.start)) {
    if (!lanes.has(of.lane)) lanes.set(of.lane, []);
    const rows = lanes.get(of.lane);
    let row = rows.find((row) => row.bars.at(-1).end <= of.start);
    if (!row) {
      row = { label: rows.length ? "" : of.lane, bars: [], lives: [] };
      rows.push(row);
    }
    row.bars.push({ kind: "interval", start: of.start, end: of.end, color: "interval", of });
  }
  for (const rows of lanes.values()) lines.push(...rows);
}

function addTemplates() {
  const slots = new Map();
  for (const of of [...templates].sort((a, b) => a.slot - b.slot || a.start - b.start)) {
    const line = lineOf(slots, of.slot, `template line ${of.slot + 1}`);
    line.lives.push({ kind: "template life", start: of.start, end: of.end, of });
    line.bars.push({ kind: "template", start: of.start, end: of.ready ?? of.end, color: "start", of });
    for (const [at, modules] of of.learned) {
      line.bars.push({ kind: "learned", start: at, end: at, color: "learned", modules, of });
    }
  }
}

function addWorkers() {
  const slots = new Map();
  for (const of of [...workers].sort((a, b) => a.slot - b.slot || a.start - b.start)) {
    const line = lineOf(slots, of.slot, `worker line ${of.slot + 1}`);
    line.lives.push({ kind: "life", start: of.start, end: of.end, of });
    line.bars.push({ kind: "start", start: of.start, end: of.ready ?? of.end, color: "start", of });
  }
  for (const of of hooks) {
    if (of.accepted === null || of.worker === null) continue;
    const end = of.ran === null ? of.finished : of.accepted + of.ran;
    of.bar = { kind: "hook", start: of.accepted, end, color: of.color, failed: of.error !== null, of };
    slots.get(of.worker.slot).bars.push(of.bar);
  }
}

addIntervals();
addTemplates();
addWorkers();
for (const line of lines) line.bars.sort((a, b) => a.start - b.start);
