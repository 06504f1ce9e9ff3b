// The head of the page; then draws everything.

function fillHead() {
  $("title").textContent = data.command;
  document.title = `${data.command}: timings`;
  $("subtitle").textContent = `${new Date(data.started).toLocaleString()}, ${time(data.duration)}, --jobs ${number(data.jobs)}`;
  $("footer").textContent = `Made by ${data.program}. Times are from the start of the run. "Waited" is the time until a worker was `
    + "assigned, \"start\" the time until it accepted the request, including its own start, \"hook time\" the time of the hook. "
    + (data.cpu.length ? "The load of the processors is that of the whole machine." : "");
  if (data.cut) {
    $("cut").textContent = `The run is not shown completely: only the first ${number(hooks.length)} of ${number(data.total)} hooks, up to ${time(data.duration)}.`;
    $("cut").hidden = false;
  }
  const failed = hooks.filter((hook) => hook.error !== null).length;
  const busy = ran.reduce((sum, hook) => sum + (hook.ran ?? 0), 0);
  const starts = workers.reduce((sum, worker) => sum + ((worker.ready ?? worker.end) - worker.start), 0);
  const cpu = data.cpu.reduce(([sum, before], [at, busy]) => [sum + busy * (at - before), at], [0, 0]);
  const facts = [
    ["duration", time(data.duration)],
    ["hooks", number(hooks.length)],
    ["failed", number(failed), failed ? "bad" : ""],
    ["total hook time", time(busy)],
    ["average concurrent hooks", (busy / Math.max(data.duration, 1)).toFixed(2)],
    ["workers started", number(workers.length)],
    ["total start time", time(starts)],
  ];
  for (const wanted of ["kept answers", "some kept answers"]) {
    const sources = data.intervals.filter(([lane]) => lane === wanted).length;
    if (sources) facts.push([`sources by ${wanted}`, number(sources)]);
  }
  if (cpu[1] > 0) facts.push(["processors in use", `${Math.round((cpu[0] / cpu[1]) * 100)} %`]);
  for (const [term, value, className] of facts) {
    const fact = element("div", undefined, className);
    fact.append(element("dt", term), element("dd", value));
    $("summary").append(fact);
  }
}

function fillLegend() {
  const used = new Set(hooks.map((hook) => hook.color));
  const entries = FAMILIES.filter((family) => used.has(family.color)).map((family) => [family.name, family.color]);
  entries.push(["start", "start"], ["idle", "life"]);
  if (templates.some((template) => template.learned.length)) entries.push(["learned", "learned"]);
  if (intervals.length) entries.push(["other work", "interval"]);
  if (hooks.some((hook) => hook.error !== null)) entries.push(["failed", "failed"]);
  for (const [name, color] of entries) {
    const entry = element("li", name);
    const patch = element("i");
    patch.style.background = `var(--${color})`;
    entry.prepend(patch);
    $("legend").append(entry);
  }
}

fillHead();
fillLegend();
fillTable();
redraw();
addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { palette = colors(); redraw(); });
