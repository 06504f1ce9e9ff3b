// The table of hooks.

const COLUMNS = [
  { label: "tree", value: (hook) => hook.tree, className: "tree" },
  { label: "hook", value: (hook) => hook.hook },
  { label: "outcome", value: (hook) => hook.error ?? "ok" },
  { label: "waited", value: (hook) => hook.waited, isTime: true },
  { label: "start", value: (hook) => hook.leased, isTime: true },
  { label: "hook time", value: (hook) => hook.ran, isTime: true },
  { label: "cost", value: (hook) => hook.cost, isTime: true, title: "start and hook together" },
  { label: "began at", value: (hook) => hook.accepted, isTime: true },
  { label: "worker", value: (hook) => hook.worker?.number ?? null, className: "number" },
];
const PAGE = 200;
const table = { column: COLUMNS.findIndex((column) => column.label === "cost"), down: true, shown: PAGE, filter: "" };

function sorted() {
  const { value } = COLUMNS[table.column];
  const sign = table.down ? -1 : 1;
  const words = table.filter.toLowerCase();
  const matches = (hook) => `${hook.tree}\n${hook.hook}\n${hook.error ?? "ok"}`.toLowerCase().includes(words);
  const compare = (a, b) => {
    const [left, right] = [value(a), value(b)];
    // Unknown values come last in both directions.
    if (left === null || right === null) return (left === null) - (right === null) || a.index - b.index;
    const order = typeof left === "string" ? (left < right ? -1 : left > right ? 1 : 0) : left - right;
    return sign * order || a.index - b.index;
  };
  return (words ? hooks.filter(matches) : [...hooks]).sort(compare);
}

function rowOf(hook) {
  const row = element("tr");
  for (const { value, isTime, className } of COLUMNS) {
    const content = value(hook);
    const cell = element("td", isTime ? time(content) : content ?? "", isTime ? "number" : className);
    if (className === "tree") cell.title = hook.tree;
    row.append(cell);
  }
  if (hook.error) row.cells[2].classList.add("bad");
  row.addEventListener("click", () => {
    const line = lines.findIndex((line) => line.bars.includes(hook.bar));
    if (line >= 0) select({ bar: hook.bar, line }, true);
  });
  return row;
}

function fillTable() {
  const found = sorted();
  $("rows").replaceChildren(...found.slice(0, table.shown).map(rowOf));
  $("count").textContent = `${number(Math.min(table.shown, found.length))} of ${number(hooks.length)}`;
  const more = found.length - table.shown;
  $("more").hidden = more <= 0;
  $("more").textContent = `Show ${number(Math.min(more, 5 * PAGE))} more`;
  [...$("columns").children].forEach((cell, place) => {
    const direction = table.down ? "descending" : "ascending";
    cell.setAttribute("aria-sort", place === table.column ? direction : "none");
  });
}

COLUMNS.forEach((column, place) => {
  const cell = element("th", undefined, column.isTime ? "number" : column.className);
  const button = element("button", column.label);
  button.type = "button";
  if (column.title) button.title = column.title;
  button.addEventListener("click", () => {
    table.down = place === table.column ? !table.down : Boolean(column.isTime);
    table.column = place;
    fillTable();
  });
  cell.append(button);
  cell.scope = "col";
  $("columns").append(cell);
});
$("more").addEventListener("click", () => { table.shown += 5 * PAGE; fillTable(); });
$("filter").addEventListener("input", (event) => {
  table.filter = event.target.value;
  table.shown = PAGE;
  fillTable();
});
