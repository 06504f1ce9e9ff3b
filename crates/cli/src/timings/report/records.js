"use strict";

// All external data, such as the names of trees, is shown as text (textContent, fillText),
// never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

// The records of the run.

const FAMILIES = [
  { name: "requirements", color: "requires", test: /^get_requires/ },
  { name: "metadata", color: "metadata", test: /^prepare_metadata/ },
  { name: "wheel", color: "wheel", test: /^build_wheel/ },
  { name: "sdist", color: "sdist", test: /^build_sdist/ },
  { name: "editable", color: "editable", test: /^build_editable/ },
];

const workers = data.workers.map(([number, slot, tree, generation, method, pid, start, ready, end, reason]) => (
  { number, slot, tree: data.trees[tree], generation, method, pid, start, ready, end: end ?? data.duration, reason }));

const hooks = data.hooks.map(([tree, hook, worker, queued, waited, leased, accepted, ran, finished, outcome], index) => {
  const name = data.hookNames[hook];
  const error = outcome === null ? null : data.outcomes[outcome];
  const family = FAMILIES.find((family) => family.test.test(name)) ?? FAMILIES[0];
  return {
    index, tree: data.trees[tree], hook: name, worker: worker === null ? null : workers[worker],
    queued, waited, leased, accepted, ran, finished, error, color: family.color, cost: (leased ?? 0) + (ran ?? 0),
  };
});

const templates = data.templates.map(([number, slot, backend, start, ready, end, learned, reason]) => (
  { number, slot, backend, start, ready, end: end ?? data.duration, learned, reason }));

const intervals = data.intervals.map(([lane, name, start, end]) => ({ lane, name, start, end }));

// Turns numbers and bars into text.

function time(ms) {
  if (ms === null || ms === undefined) return "";
  if (ms === 0) return "0 ms";
  if (ms < 10) return `${ms.toFixed(2)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(2)} s`;
  const seconds = Math.round(ms / 1000);
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const [h, m, s] = parts.map((part) => String(part).padStart(2, "0"));
  return parts[0] ? `${parts[0]}:${m}:${s} h` : `${parts[1]}:${s} min`;
}

const number = (value) => value.toLocaleString("en");

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// The description of a bar: a heading and lines below it.
function describe(bar) {
  const { kind, of } = bar;
  if (kind === "hook") {
    const worker = of.worker ? `worker ${of.worker.number}, process ${of.worker.pid ?? "unknown"}, ${of.worker.method}` : "";
    return [of.tree, `${of.hook}: ${of.error ?? "ok"}`,
      `hook ${time(of.ran)}, start ${time(of.leased)}, waited ${time(of.waited)}; began at ${time(of.accepted)}`, worker];
  }
  if (kind === "start") {
    return [of.tree, `start of worker ${of.number} (${of.method}, generation ${of.generation})`,
      of.ready === null ? `never ready${of.reason ? `: ${of.reason}` : ""}` : `ready after ${time(of.ready - of.start)}`];
  }
  if (kind === "life") {
    return [`worker ${of.number} (${of.method}, generation ${of.generation}), process ${of.pid ?? "unknown"}`,
      `started for ${of.tree}`, `lived ${time(of.end - of.start)}${of.reason ? `; ended: ${of.reason}` : ""}`];
  }
  if (kind === "template") {
    return [of.backend ?? "no backend", `start of template ${of.number}`,
      of.ready === null ? `never ready${of.reason ? `: ${of.reason}` : ""}` : `ready after ${time(of.ready - of.start)}`];
  }
  if (kind === "template life") {
    return [of.backend ?? "no backend", `template ${of.number}`, `lived ${time(of.end - of.start)}`,
      of.reason ? `ended: ${of.reason}` : ""];
  }
  if (kind === "learned") {
    return [of.backend ?? "no backend", `template ${of.number} has learned: ${number(bar.modules)} modules`, `at ${time(bar.start)}`];
  }
  return [of.name, of.lane, `${time(of.end - of.start)}; began at ${time(of.start)}`];
}

function show(target, bar) {
  const [heading, ...lines] = describe(bar);
  target.replaceChildren(element("strong", heading), ...lines.filter(Boolean).map((line) => element("div", line)));
}
