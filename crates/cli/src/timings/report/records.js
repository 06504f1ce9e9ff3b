"use strict";

// Everything that comes from outside, names of trees above all, reaches the page as text
// (textContent, fillText), never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

// What happened.

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
