/** Charts that are doors: a click on a cell, a bin, a point or a region shows the samples in it. */

import { density, histogram, matrix, tradeOff } from "./charts.js";
import { el, put } from "./dom.js";
import { isBinary } from "./query.js";
import { rangeText, ranged, replaced } from "./filters.js";
import { floatBelow, labelOf, meaningOf, nameOfClass, number, numbersOf } from "./tables.js";

const BINS = 20;
const CELLS = 60;
const KINDS = { false: "False positives", missed: "Missed", found: "Found" };

/** Return the charts that a table has data for, from name to title. */
export function doorsOf(table) {
  const has = (...names) => names.every((name) => table.columns[name] !== undefined);
  const found = {};
  if (has("correct", "correct.other") || has("score", "score.other")) found.change = "Both runs";
  if (has("target", "prediction")) found.confusion = "Confusion";
  if (numbersOf(table).length) found.distribution = "Distribution";
  if (has("target", "prediction", "probability", "target_probability")) found.precision_recall = "PR curve";
  if (numbersOf(table).length > 1) found.scatter = "Scatter";
  return found;
}

/** Draw the open chart. `app`: state, set, table, facets, view (aggregate), charts (settings of the charts). */
export async function drawDoors(element, app) {
  const { table, state } = app;
  const found = table ? doorsOf(table) : {};
  if (!table || !Object.keys(found).length) return put(element);
  const open = found[state.door] ? state.door : Object.keys(found)[0];
  const turn = (event) => {
    const names = Object.keys(found);
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) app.set({ door: names[(names.indexOf(open) + step + names.length) % names.length] });
  };
  const tabs = Object.entries(found).map(([name, title]) => el("button", {
    type: "button", class: "a-tab", role: "tab", "aria-selected": String(name === open), tabIndex: name === open ? 0 : -1,
    "data-key": name === open ? "door-open" : `door-${name}`, "data-door": name, on: { click: () => app.set({ door: name }), keydown: turn },
  }, title));
  const told = el("p", { class: "a-told", "aria-live": "polite" });
  const tell = (one, hint) => put(told, one === null ? hint : [el("b", {}, one.what), one.count === null ? "" : `: ${number(one.count)} ${one.count === 1 ? "sample" : "samples"}`, el("br"), one.more]);
  const parts = await DRAWN[open](app, tell);
  return put(element, el("div", { class: "a-tabs", role: "tablist", "aria-label": "Charts" }, tabs), parts, told);
}

/** Return filters without what a chart itself filters by, so that a click does not shrink the chart to its answer. */
function without(filters, names, columns = []) {
  let rest = names.reduce((some, name) => replaced(some, name, null), filters);
  rest = columns.reduce((some, column) => ranged(some, column, null), rest);
  return rest;
}

function choice(label, key, options, value, onChange) {
  const change = (event) => onChange(event.target.value);
  return el("label", {}, label, el("select", { "data-key": key, "aria-label": label, on: { change } },
    options.map(([of, text]) => el("option", { value: of, selected: String(of) === String(value) }, text))));
}

async function drawConfusion(app, tell) {
  const { table, state } = app;
  const rest = without(state.filters, ["target", "prediction", "correct"]);
  const counts = await app.view.aggregate("confusion", {}, rest);
  const hint = "A cell shows its samples.";
  tell(null, hint);
  if (!counts.rows.length) return el("p", { class: "a-note" }, "No sample has both a truth and a prediction.");
  const one = (name) => (state.filters[name]?.length === 1 ? state.filters[name][0] : null);
  const chosen = one("target") !== null && one("prediction") !== null ? [one("target"), one("prediction")] : null;
  const open = (truth, guess) => {
    const isOpen = chosen && chosen[0] === truth && chosen[1] === guess;
    app.set({ filters: isOpen ? rest : { ...rest, target: [truth], prediction: [guess] }, page: 0 });
  };
  return [
    matrix(counts, { name: (number) => nameOfClass(table, number), chosen, told: (part) => tell(part, hint), open }),
    counts.left_out > 0 && el("p", { class: "a-note" }, `The ${counts.rows.length} classes with the most errors; ${counts.left_out} others are left out.`),
    el("div", { class: "a-key" }, el("span", {}, el("i", { class: "right" }), "right"), el("span", {}, el("i", { class: "wrong" }), "wrong"), el("span", {}, "shade: share of the row")),
  ];
}

async function drawDistribution(app, tell) {
  const { table, state, charts } = app;
  const names = numbersOf(table);
  const column = names.includes(charts.column) ? charts.column : ["target_probability", "score", "loss"].find((name) => names.includes(name)) || names[0];
  const counts = await app.view.aggregate("distribution", { column, bins: BINS }, without(state.filters, [], [column]));
  const hint = meaningOf(column);
  tell(null, hint);
  const open = (bin) => {
    const [low, high] = counts.ranges[bin];
    const [now, then] = state.filters.ranges?.[column] || [];
    const isOpen = now === low && then === high;
    app.set({ filters: ranged(state.filters, column, isOpen ? null : [low, high]), page: 0 });
  };
  const range = state.filters.ranges?.[column];
  const chosen = range ? [range[0] ?? counts.edges[0], range[1] ?? counts.edges[counts.edges.length - 1]] : null;
  return [
    el("div", { class: "a-options" }, choice("Of", "chart-column", names.map((name) => [name, labelOf(name)]), column, (value) => app.chart({ column: value }))),
    histogram(counts, { named: (range) => rangeText(table, column, range), chosen, told: (part) => tell(part, hint), open }),
    table.columns.correct && el("div", { class: "a-key" }, el("span", {}, el("i", { class: "right" }), "right"), el("span", {}, el("i", { class: "wrong" }), "wrong")),
  ];
}

async function drawPrecisionRecall(app, tell) {
  const { table, state, charts } = app;
  const rest = without(state.filters, ["target", "prediction", "correct", "class_score"]);
  const numbers = table.classes ? [...table.classes.keys()] : [...new Set([...(app.facets.target?.keys() || table.columns.target)])].filter((one) => one >= 0).sort((one, other) => one - other);
  const now = state.filters.class_score;
  const of = now?.class ?? charts.class ?? (isBinary(table) ? numbers[numbers.length - 1] : numbers[0]);
  const counts = await app.view.aggregate("precision_recall", { class: of }, rest);
  const hint = counts.over_epochs
    ? "By the mean probability over epochs. A point shows its samples."
    : counts.least > 0
      ? "Thresholds above 0.5: below, the probability of this class is not stored for every sample. A point shows its samples."
      : "A point shows the samples that this threshold makes false positives, missed or found.";
  tell(null, hint);
  const filtered = (threshold, what) => ({ ...rest,
    target: what === "false" ? numbers.filter((one) => one !== of) : [of],
    class_score: { class: of, range: what === "missed" ? [null, floatBelow(threshold)] : [threshold, null] } });
  const open = (threshold) => app.chart({ threshold, class: of }, { filters: filtered(threshold, charts.kind), page: 0 });
  const chosen = now ? now.range[0] ?? charts.threshold : null;
  const pick = (what) => app.chart({ kind: what }, chosen === null ? null : { filters: filtered(chosen, what), page: 0 });
  const buttons = Object.entries(KINDS).map(([what, label]) => el("button", {
    type: "button", class: "a-button", "aria-pressed": String(what === charts.kind),
    "data-key": `pr-${what}`, "data-kind": what, on: { click: () => pick(what) } }, label));
  return [
    el("div", { class: "a-options" },
      choice("Class", "chart-class", numbers.map((one) => [one, nameOfClass(table, one)]), of, (value) => app.chart({ class: Number(value), threshold: null }, { filters: rest, page: 0 })),
      el("div", { class: "a-segments", role: "group", "aria-label": "Which samples a point shows" }, buttons)),
    counts.points.length ? tradeOff(counts.points, { chosen, told: (part) => tell(part, hint), open }) : el("p", { class: "a-note" }, "No sample is predicted so."),
  ];
}

async function drawScatter(app, tell) {
  const { table, state, charts } = app;
  const names = numbersOf(table);
  const pick = (asked, usual, but) => [asked, ...usual, ...names].find((name) => names.includes(name) && name !== but);
  const x = pick(charts.x, ["variability", "score", "loss"], null);
  const y = pick(charts.y, ["confidence", "loss", "score"], x);
  const counts = await app.view.aggregate("scatter", { x, y, bins: CELLS }, without(state.filters, [], [x, y]));
  const hint = x === "variability" && y === "confidence"
    ? "Drag over a region. Sure ones are at the top left, ambiguous ones at the right, wrong or hard ones at the bottom left."
    : "Drag over a region to see its samples.";
  tell(null, hint);
  const open = ([x0, x1], [y0, y1]) => {
    const filters = ranged(state.filters, x, [counts.x_ranges[x0][0], counts.x_ranges[x1][1]]);
    app.set({ filters: ranged(filters, y, [counts.y_ranges[y0][0], counts.y_ranges[y1][1]]), page: 0 });
  };
  const whole = (column, edges) => {
    const range = state.filters.ranges?.[column];
    return [range?.[0] ?? edges[0], range?.[1] ?? edges[edges.length - 1]];
  };
  const isChosen = state.filters.ranges?.[x] || state.filters.ranges?.[y];
  const chosen = isChosen ? [whole(x, counts.x_edges), whole(y, counts.y_edges)] : null;
  const options = names.map((name) => [name, labelOf(name)]);
  return [
    el("div", { class: "a-options" }, choice("Across", "chart-x", options, x, (value) => app.chart({ x: value })), choice("Up", "chart-y", options, y, (value) => app.chart({ y: value }))),
    density(counts, { names: [labelOf(x), labelOf(y)], chosen, told: (part) => tell(part, hint), open }),
  ];
}

function drawChange(app, tell) {
  const { facets, state } = app;
  const chosen = state.filters.change || [];
  const isRight = app.table.columns.correct !== undefined && app.table.columns["correct.other"] !== undefined;
  tell(null, isRight ? "Of the samples that both runs saw." : "Of the samples that both runs saw; the others' scores differ by at most 0.05.");
  const quad = (kind, title, text) => {
    const isOpen = chosen.length === 1 && chosen[0] === kind;
    const click = () => app.set({ filters: replaced(state.filters, "change", isOpen ? null : [kind]), page: 0 });
    return el("button", { type: "button", class: "a-button", "aria-pressed": String(isOpen), "data-key": `quad-${kind}`, "data-change": kind, on: { click } },
      el("strong", { class: { better: "a-right", worse: "a-wrong" }[kind] }, number(facets.change.get(kind) || 0)), el("span", {}, title), el("span", { class: "a-soft" }, text));
  };
  return [
    el("p", { class: "a-options" }, el("span", {}, el("b", {}, state.run), " (solid curves, first prediction) against ", el("b", {}, state.other), " (dashed, second)")),
    el("div", { class: "a-quads" }, quad("better", "Better", isRight ? "right here alone" : "score higher by more than 0.05"), quad("worse", "Worse", isRight ? "right there alone" : "score lower by more than 0.05"),
      isRight && [quad("right", "Right", "in both"), quad("wrong", "Wrong", "in both")]),
  ];
}

const DRAWN = { change: drawChange, confusion: drawConfusion, distribution: drawDistribution, precision_recall: drawPrecisionRecall, scatter: drawScatter };
