/** The side bar, by which samples are filtered, and the active filters as chips. */

import { el, icon, put } from "./dom.js";
import { GROUPS, KINDS, MARKS, labelOf, meaningOf, nameOfClass, number, numbersOf, shownValue } from "./tables.js";

const SEARCHED = 12; // choices above which a list has a field to search it
const SHOWN = 300; // choices of a list that are in the page at once
const CHANGES = { better: "Better: right here alone", worse: "Worse: right in the other alone", right: "Right in both", wrong: "Wrong in both" };

/** Return what may have become of samples against the other run, with a label. */
function changesOf({ columns }) {
  return columns["correct.other"] ? CHANGES : { better: "Better: higher score", worse: "Worse: lower score" };
}

/** Return filters with one choice of a list added or taken away. */
export function toggled(filters, name, choice) {
  const chosen = filters[name] || [];
  const next = chosen.includes(choice) ? chosen.filter((one) => one !== choice) : [...chosen, choice];
  const { [name]: _, ...rest } = filters;
  return next.length ? { ...rest, [name]: next } : rest;
}

/** Return filters with a value replaced, or without it where it is empty. */
export function replaced(filters, name, value) {
  const { [name]: _, ...rest } = filters;
  return value === null || value === "" || value === undefined ? rest : { ...rest, [name]: value };
}

/** Return filters with the range of a column replaced; null: without it. */
export function ranged(filters, column, range) {
  const ranges = { ...(filters.ranges || {}) };
  if (range === null || (range[0] === null && range[1] === null)) delete ranges[column];
  else ranges[column] = range;
  return replaced(filters, "ranges", Object.keys(ranges).length ? ranges : null);
}

/** Draw the side bar. `app`: state, set(changes), table, facets, found (texts in the search fields of lists). */
export function drawFilters(side, app) {
  const { facets, table, state } = app;
  if (!table) return put(side);
  const { columns } = table;
  const has = (name) => columns[name] !== undefined;
  return put(
    side,
    textField(app),
    state.other && (has("correct.other") || has("score.other")) && list(app, "Against the other run", "change", Object.entries(changesOf(table))),
    Object.keys(GROUPS).some(has) && list(app, "Groups", "groups", Object.entries(GROUPS).filter(([name]) => has(name)).map(([name, [label, meaning]]) => [name, label, meaning])),
    kindsField(app),
    has("correct") && correctField(app),
    has("target") && list(app, "Truth", "target", classes(app, "target")),
    has("prediction") && list(app, "Predicted", "prediction", classes(app, "prediction")),
    has("findings") && facets.findings?.size > 0 && list(app, "Findings", "findings", [...facets.findings.keys()].sort().map((rule) => [rule, rule.replaceAll("_", " ")])),
    list(app, "Marks", "marks", Object.entries(MARKS)),
    rangeFields(app)
  );
}

/** Of what kinds the suspects are, where there are others than wrong classes. */
function kindsField(app) {
  const known = app.facets.kinds || new Map();
  const chosen = app.state.filters.kinds || [];
  const there = Object.entries(KINDS).filter(([name]) => known.has(name) || chosen.includes(name));
  if (!there.some(([name]) => name !== "label")) return null;
  return list(app, "Kinds of suspects", "kinds", there.map(([name, [label, meaning]]) => [name, label, meaning]));
}

function textField(app) {
  const input = (event) => app.set({ filters: replaced(app.state.filters, "text", event.target.value), page: 0 }, { soon: true });
  const field = el("input", { type: "search", placeholder: "Search ids", "aria-label": "Search ids", "data-key": "text", on: { input }, value: app.state.filters.text || "" });
  return el("section", {}, field);
}

function correctField(app) {
  const { facets, state } = app;
  const button = (value, label) => {
    const count = value ? facets.correct.get(value) || 0 : null;
    const click = () => app.set({ filters: replaced(app.state.filters, "correct", value), page: 0 });
    return el("button", { type: "button", class: "a-button", "aria-pressed": String((state.filters.correct ?? null) === value), "data-key": `correct-${value}`, on: { click } },
      label, count !== null && el("span", { class: "a-soft", title: number(count) }, count < 10_000 ? number(count) : `${Math.round(count / 1000)}k`));
  };
  return el("section", {}, el("h3", {}, "Prediction"), el("div", { class: "a-segments", role: "group", "aria-label": "Right or wrong" },
    button(null, "All"), button("right", "Right"), button("wrong", "Wrong")));
}

function classes({ table, facets, state }, name) {
  const known = facets[name] || new Map();
  const numbers = new Set([...known.keys(), ...(state.filters[name] || [])]);
  if (table.classes) table.classes.forEach((_, number) => numbers.add(number));
  return [...numbers].sort((one, other) => one - other).map((number) => [number, nameOfClass(table, number)]);
}

/** A list of choices, any of which fits, with how many samples each has under the other filters. */
function list(app, title, name, choices) {
  const { facets, state, found } = app;
  const counts = facets[name];
  const chosen = state.filters[name] || [];
  const part = (found.get(name) || "").toLowerCase();
  const fitting = choices.filter(([, label]) => !part || String(label).toLowerCase().includes(part));
  const items = fitting.slice(0, SHOWN).map(([choice, label, meaning]) => {
    const count = counts ? counts.get(choice) || 0 : null;
    const change = () => app.set({ filters: toggled(app.state.filters, name, choice), page: 0 });
    return el("li", {}, el("label", { class: count === 0 ? "none" : "", title: meaning || label },
      el("input", { type: "checkbox", checked: chosen.includes(choice), on: { change }, "data-key": `${name}-${choice}`, "data-filter": name, "data-choice": choice }),
      el("span", { class: "a-cut" }, label), count !== null && el("span", { class: "count" }, number(count))));
  });
  const input = (event) => {
    found.set(name, event.target.value);
    app.drawFilters();
  };
  const toggle = (event) => app.folded[event.target.open ? "delete" : "add"](name);
  return el("details", { open: !app.folded.has(name), on: { toggle } }, el("summary", { "data-key": `fold-${name}` }, title),
    choices.length > SEARCHED && el("input", { type: "search", class: "a-find", value: found.get(name) || "", placeholder: "Search", "aria-label": `Search in ${title}`, "data-key": `find-${name}`, on: { input } }),
    el("ul", { class: "a-choices", "data-scroll": name }, items),
    fitting.length > SHOWN && el("p", { class: "a-note" }, `${number(fitting.length - SHOWN)} more: search for them`));
}

function rangeFields(app) {
  const { table, state } = app;
  const rows = numbersOf(table).filter((name) => !name.endsWith(".other")).map((name) => {
    const range = state.filters.ranges?.[name] || [null, null];
    const field = (end) => {
      const change = (event) => {
        const next = [...(app.state.filters.ranges?.[name] || [null, null])];
        next[end] = event.target.value === "" ? null : Number(event.target.value);
        app.set({ filters: ranged(app.state.filters, name, next), page: 0 });
      };
      return el("input", { type: "number", step: "any", placeholder: end ? "max" : "min", value: range[end] === null ? "" : String(Number(range[end].toPrecision(7))),
        "aria-label": `${labelOf(name)}, ${end ? "largest" : "smallest"}`, "data-key": `range-${name}-${end}`, on: { change } });
    };
    return [el("span", { class: "a-cut", title: meaningOf(name) }, labelOf(name)), field(0), field(1)];
  });
  if (!rows.length) return null;
  const toggle = (event) => app.folded[event.target.open ? "delete" : "add"]("ranges");
  return el("details", { open: !app.folded.has("ranges"), on: { toggle } }, el("summary", { "data-key": "fold-ranges" }, "Ranges"), el("div", { class: "a-ranges" }, rows));
}

/** Return [text, filters without it] of each active filter. */
export function activeFilters(filters, table) {
  const chips = [];
  const drop = (name) => replaced(filters, name, null);
  if (filters.text) chips.push([`id has “${filters.text}”`, drop("text")]);
  for (const kind of filters.change || []) chips.push([changesOf(table)[kind] || kind, toggled(filters, "change", kind)]);
  for (const name of filters.groups || []) chips.push([(GROUPS[name] || [name])[0], toggled(filters, "groups", name)]);
  for (const name of filters.kinds || []) chips.push([(KINDS[name] || [name])[0], toggled(filters, "kinds", name)]);
  if (filters.correct) chips.push([filters.correct, drop("correct")]);
  for (const name of ["target", "prediction"]) {
    const label = name === "target" ? "truth" : "predicted";
    const without = filters[name]?.length > 2 && table.classes?.length - filters[name].length === 1 ? [...table.classes.keys()].find((one) => !filters[name].includes(one)) : null;
    if (without !== null) chips.push([`${label}: not ${nameOfClass(table, without)}`, drop(name)]);
    else if (filters[name]?.length > 4) chips.push([`${label}: ${filters[name].length} classes`, drop(name)]);
    else for (const one of filters[name] || []) chips.push([`${label}: ${nameOfClass(table, one)}`, toggled(filters, name, one)]);
  }
  for (const rule of filters.findings || []) chips.push([`finding: ${rule.replaceAll("_", " ")}`, toggled(filters, "findings", rule)]);
  for (const mark of filters.marks || []) chips.push([`mark: ${MARKS[mark] || mark}`, toggled(filters, "marks", mark)]);
  if (filters.ids) chips.push([`${filters.ids.length} ids`, drop("ids")]);
  for (const [column, range] of Object.entries(filters.ranges || {})) {
    chips.push([`${labelOf(column)} ${rangeText(table, column, range)}`, ranged(filters, column, null)]);
  }
  if (filters.class_score) {
    const { class: of, range } = filters.class_score;
    chips.push([`probability of ${nameOfClass(table, of)} ${rangeText(table, "probability", range)}`, drop("class_score")]);
  }
  return chips;
}

/** Return a range as a text. Whole numbers are named as such, where the ends of a bin lie between them. */
export function rangeText(table, column, [low, high]) {
  const isWhole = table.columns[column] instanceof Int32Array;
  const [from, to] = isWhole ? [low === null ? null : Math.ceil(low), high === null ? null : Math.floor(high)] : [low, high];
  const end = (value) => shownValue({ ...table, classes: null }, column, value);
  if (to === null) return `from ${end(from)}`;
  if (from === null) return `up to ${end(to)}`;
  return end(from) === end(to) ? end(from) : `${end(from)} to ${end(to)}`;
}

/** Draw the active filters; a click removes one. */
export function drawChips(element, app) {
  if (!app.table) return put(element);
  const chips = activeFilters(app.state.filters, app.table);
  return put(
    element,
    chips.map(([text, rest], place) =>
      el("li", {}, el("button", { type: "button", class: "a-chip", title: `Remove the filter: ${text}`, "aria-label": `Remove the filter: ${text}`, "data-key": `chip-${place}`, on: { click: () => app.set({ filters: rest, page: 0 }) } },
        el("span", { class: "a-cut" }, text), icon("close")))),
    chips.length > 1 && el("li", {}, el("button", { type: "button", class: "a-chip all", "data-key": "chip-all", on: { click: () => app.set({ filters: {}, page: 0 }) } }, "remove all"))
  );
}
