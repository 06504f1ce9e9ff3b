// The head of the page; at last everything is drawn.

function fillHead() {
  $("title").textContent = data.command;
  document.title = `${data.command}: timings`;
  $("subtitle").textContent = `${new Date(data.started).toLocaleString()}, ${time(data.duration)}, --jobs ${number(data.jobs)}`;
  $("footer").textContent = `Made by ${data.program}. Times are from the start of the run. "Waited" is the time until a worker was `
    + "there to be asked, \"start\" that until it had accepted, its own start included, \"hook time\" the hook itself. "
    + (data.cpu.length ? "The use of processors is that of the whole machine." : "");
  if (data.cut) {
    $("cut").textContent = `This run was long: only its first ${number(hooks.length)} of ${number(data.total)} hooks are here, up to ${time(data.duration)}.`;
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
    ["hook time, all together", time(busy)],
    ["hooks at once, on average", (busy / Math.max(data.duration, 1)).toFixed(2)],
    ["workers started", number(workers.length)],
    ["time of their starts", time(starts)],
  ];
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
