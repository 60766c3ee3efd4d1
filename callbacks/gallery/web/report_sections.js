// The sections of one run that need no samples: each returns an element, or null where the run has nothing to show.

import { lineChart } from "./report_charts.js";
import { gradientMap } from "./report_gradients.js";
import { el, number, section, table } from "./report_dom.js";

const FIRST_CHARTS = 6;
const UNITS = { "9_time/samples_per_s": "samples per s", "9_memory/peak_mib": "MiB" };

/** What was trained on what. */
export function summary({ summary: told, notes }) {
  const facts = [
    ["experiment", told.experiment],
    ["started", told.started],
    ["command", told.command && el("code", { text: told.command })],
    ["run folder", told.folder],
    ["data", dataText(told)],
    ["epochs", epochsText(told)],
    ...told.monitors.map((one) => [`best ${one.name}`, bestText(one)]),
  ];
  return section("Summary", factList(facts), (notes || []).map((note) => el("p", { class: "soft", text: note })));
}

function dataText({ data, generated, loaders }) {
  const counts = (loaders || []).map((one) => `${one.loader}: ${one.samples} samples`).join(", ");
  const place = data || (generated === false ? "the experiment's own" : null);
  return [place, generated ? "generated, not real" : null, counts || null].filter(Boolean).join("; ") || null;
}

function epochsText({ epochs, last_epoch, planned }) {
  if (!epochs) return "none has ended";
  if (!Number.isInteger(planned)) return `${last_epoch}`;
  if (last_epoch >= planned) return `${last_epoch} of ${planned}`;
  return `${last_epoch} of ${planned}: the run was ended early, or has not ended`;
}

function bestText({ epoch, value, minimize }) {
  if (epoch === null) return "no finite value so far";
  return `${number(value, 6)} in epoch ${epoch} (${minimize ? "less" : "more"} is better)`;
}

function factList(facts) {
  const known = facts.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return known.length ? el("dl", { class: "facts" }, known.map(([name, value]) => [el("dt", { text: name }), el("dd", {}, value)])) : null;
}

/** The settings, in the order of the fields. */
export function settings({ settings: fields }) {
  if (!fields.length) return section("Settings", el("p", { class: "soft", text: "The run holds no config.yaml." }));
  return section("Settings", el("dl", { class: "settings" }, fields.map(([name, value]) =>
    el("div", {}, el("dt", { text: name }), el("dd", { text: value })))));
}

/** The metrics by epoch. */
export function curves({ metrics, summary: told }) {
  if (!metrics.length) return section("Curves", el("p", { class: "soft", text: "No epoch has ended, so there are no metrics." }));
  const best = told.monitors.find((one) => one.epoch !== null);
  const mark = best ? { step: best.epoch, text: `best epoch by ${best.name}` } : null;
  const charts = chartsOf(metrics, mark);
  const note = best ? el("p", { class: "soft", text: `The dotted line is epoch ${best.epoch}, the best one by ${best.name}.` }) : null;
  return section("Curves", note, el("div", { class: "charts" }, charts.slice(0, FIRST_CHARTS)), more(charts.slice(FIRST_CHARTS)), lastValues(metrics));
}

function chartsOf(series, mark = null, rename = (name) => name) {
  const names = [...new Set(series.map((one) => one.name))];
  const loaders = [...new Set(series.map((one) => one.loader))];
  return names.map((name) => lineChart({ title: rename(name), mark, lines: series.filter((one) => one.name === name).map((one) => ({
    name: one.loader, steps: one.steps, values: one.values, colour: 1 + (loaders.indexOf(one.loader) % 8), dash: loaders.indexOf(one.loader) % 4,
  })) }));
}

function more(charts) {
  if (!charts.length) return null;
  return el("details", {}, el("summary", { text: `${charts.length} more` }), el("div", { class: "charts" }, charts));
}

function lastValues(metrics) {
  const loaders = [...new Set(metrics.map((one) => one.loader))];
  const names = [...new Set(metrics.map((one) => one.name))];
  const last = (name, loader) => metrics.find((one) => one.name === name && one.loader === loader)?.values.at(-1);
  const rows = names.map((name) => [name, ...loaders.map((loader) => number(last(name, loader), 6))]);
  return el("details", {}, el("summary", { text: "Values of the last epoch" }), table(["metric", ...loaders], rows));
}

/** What assay found wrong. */
export function findings({ findings: found }) {
  if (found === null) return section("Findings", el("p", { class: "soft", text: "Nothing looked for faults in this run." }));
  if (!found.length) return section("Findings", el("p", { class: "good", text: "Nothing found." }));
  return section("Findings", found.map((one) => el("div", { class: `finding ${one.severity === "error" || one.severity === "warning" ? one.severity : ""}` },
    el("strong", { text: `${one.severity} (${one.rule})` }), one.epoch ? el("span", { class: "soft", text: ` after epoch ${one.epoch}` }) : null,
    el("div", { text: `${one.what}: ${one.do}.` }),
    place(one))));
}

function place({ where, evidence }) {
  const told = [...Object.entries(where || {}), ...Object.entries(evidence || {})];
  if (!told.length) return null;
  const text = (value) => (typeof value === "string" || typeof value === "number" ? number(value, 6) : JSON.stringify(value));
  return el("details", {}, el("summary", { text: "where and by what" }), factList(told.map(([name, value]) => [name, text(value)])));
}

/** Pictures of a section of the run's results. */
export function pictures({ figures }, name) {
  return figures.filter((one) => one.section === name).map((one) => el("figure", {},
    el("figcaption", { text: `${one.title}, ${one.loader}, ${one.epoch} epoch` }),
    el("img", { src: `data:${one.type};base64,${one.data}`, alt: `${one.title}, ${one.loader}` })));
}

/** Gradients by layer and epoch, and what the optimizer did. */
export function gradients(sections) {
  const maps = sections.gradients.map(gradientMap);
  const shown = pictures(sections, "gradients");
  // Where the numbers are there, their picture says nothing more.
  const kept = maps.length ? shown.filter((one) => !one.textContent.startsWith("gradients by epoch")) : shown;
  const charts = chartsOf(sections.optimizer, null, (name) => name.replace("9_optimizer/", ""));
  return section("Gradients", maps, kept.length ? el("div", { class: "pictures" }, kept) : null,
    charts.length ? el("h3", { text: "Optimizer" }) : null, charts.length ? el("div", { class: "charts" }, charts) : null);
}

/** Time of each phase of a step, throughput and memory. */
export function time({ time: series }) {
  if (!series.length) return null;
  const loaders = [...new Set(series.map((one) => one.loader))];
  const names = [...new Set(series.map((one) => one.name))];
  const last = (name, loader) => series.find((one) => one.name === name && one.loader === loader)?.values.at(-1);
  const rows = names.map((name) => [phase(name), ...loaders.map((loader) => number(last(name, loader)))]);
  const charts = chartsOf(series, null, phase);
  return section("Time and memory", el("p", { class: "soft", text: "Means over the steps of the last epoch." }),
    table(["", ...loaders], rows, { label: "time and memory" }), el("details", {}, el("summary", { text: "By epoch" }), el("div", { class: "charts" }, charts)));
}

function phase(name) {
  if (UNITS[name]) return name === "9_memory/peak_mib" ? "peak memory, MiB" : UNITS[name];
  return name.startsWith("9_time/") ? `${name.slice(7)}, ms per step` : name.replace(/^9_/, "");
}

/** Versions, machine and commit. */
export function environment({ environment: told }) {
  const facts = flat(told).filter(([name]) => !["command", "started", "experiment"].includes(name));
  if (!facts.length) return section("Environment", el("p", { class: "soft", text: "The run holds no environment.json." }));
  return section("Environment", el("dl", { class: "settings" }, facts.map(([name, value]) =>
    el("div", {}, el("dt", { text: name }), el("dd", { text: value })))));
}

function flat(value, name = "") {
  if (value === null) return [[name, "–"]];
  if (Array.isArray(value)) return [[name, value.map(String).join(", ") || "none"]];
  if (typeof value === "object") {
    return Object.entries(value).flatMap(([key, part]) => flat(part, name && name !== "packages" ? `${name} ${key}` : key));
  }
  return [[name, String(value)]];
}
