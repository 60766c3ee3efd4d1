/** One sample, large: its picture, what the model makes of it, its history, all that is known, and marks. */

import { shot } from "./cards.js";
import { curves } from "./charts.js";
import { el, icon, put } from "./dom.js";
import { KINDS as SUSPICIONS, MARKS, isKnown, labelOf, meaningOf, nameOfClass, number, shown } from "./tables.js";

const KINDS = { image: "Picture", drawn: "Truth and prediction", grad_cam: "Grad-CAM" };
const FEW = 10; // classes that are shown before the others are asked for
const KEYS = { w: "wrong_label", s: "skip", l: "look_again" };

/**
 * Draw the sample at a place of the page. `details`: as the source's `sample`; null while it is loaded.
 * `app`: page, state, marks, source, mark(place, mark, label), open(place), close().
 */
export function drawSheet(dialog, app, place, details) {
  const { page: table } = app;
  const id = table.columns.id[place];
  const step = (by, name, label) => el("button", { type: "button", class: "a-button plain", "aria-label": label, disabled: !(place + by in table.columns.id), "data-key": `sheet-${name}`, on: { click: () => app.open(place + by) } }, icon(name));
  dialog.setAttribute("aria-label", `Sample ${id}`);
  put(dialog, el("div", { class: "a-sheet", "data-id": id },
    el("header", {}, el("h2", { class: "a-cut", title: id }, id), step(-1, "left", "Sample before"), step(1, "right", "Next sample"),
      el("button", { type: "button", class: "a-button plain", "aria-label": "Close", "data-key": "sheet-close", on: { click: () => app.close() } }, icon("close"))),
    el("div", { class: "a-stage" }), el("div", { class: "a-story", "data-scroll": "story", tabIndex: 0, role: "region", "aria-label": "What is known of the sample" }), el("footer")));
  drawDetails(dialog, app, place, details);
  drawMarks(dialog, app, place);
}

/** Draw the picture and what is known, and leave the rest as it is: someone may be clicking there. */
export function drawDetails(dialog, app, place, details) {
  drawStage(dialog.querySelector(".a-stage"), app, place, details);
  put(dialog.querySelector(".a-story"), verdict(app, place), details?.error && el("p", { class: "a-wrong" }, details.error),
    suspicions(details), classBars(app, place, details), history(app, place, details), known(app.page, place, details));
}

function drawStage(element, app, place, details) {
  const { page: table } = app;
  const kinds = details?.kinds || [];
  const open = kinds.includes(app.kind) ? app.kind : kinds[0] || null;
  const buttons = kinds.map((kind) => el("button", { type: "button", class: "a-button", "aria-pressed": String(kind === open), "data-key": `kind-${kind}`, "data-kind": kind,
    on: { click: () => app.showKind(kind) } }, KINDS[kind] || kind.replaceAll("_", " ")));
  put(element, shot(app, table, place, open), kinds.length > 1 && el("div", { class: "a-segments", role: "group", "aria-label": "Kind of picture" }, buttons));
}

function verdict(app, place) {
  const { page: table } = app;
  const { columns } = table;
  const lines = [];
  const add = (label, ...value) => lines.push(el("dt", {}, label), el("dd", {}, value));
  if (columns.target) add("Truth", nameOfClass(table, columns.target[place]));
  for (const other of ["", ".other"]) {
    if (!columns[`prediction${other}`]) continue;
    const kind = { 0: "a-wrong", 1: "a-right" }[columns[`correct${other}`]?.[place]];
    const shares = columns[`probability${other}`];
    add(other ? `Prediction of ${app.state.other}` : "Prediction", el("span", { class: kind }, `${kind === "a-wrong" ? "✕ " : kind ? "✓ " : ""}${nameOfClass(table, columns[`prediction${other}`][place])}`),
      isKnown(shares, place) && ` ${number(shares[place], 3)}`);
  }
  if (columns.suspect_rank?.[place] > 0) {
    add("Suspect", `rank ${columns.suspect_rank[place]}`, columns.likely?.[place] >= 0 && `, likely ${nameOfClass(table, columns.likely[place])}`);
  }
  return el("dl", { class: "a-verdict" }, lines);
}

/** All that is probably wrong with the label, the surest first. */
function suspicions(details) {
  const told = details?.suspects;
  if (!told?.length) return null;
  const items = told.map(({ kind, label, likely_label: likely, score, where }) => {
    const [title, meaning] = SUSPICIONS[kind] || [kind, ""];
    const place = where && `x ${number(where[0], 0)} to ${number(where[2], 0)}, y ${number(where[1], 0)} to ${number(where[3], 0)}`;
    return el("li", { title: meaning, "data-suspicion": kind }, el("b", {}, title), [label, likely].some((one) => one !== null) && `: ${[label, likely].filter((one) => one !== null).join(" → ")}`,
      el("span", { class: "a-soft" }, score !== null && `, score ${number(score, 2)}`, place && `, at ${place} of the picture that the model saw`));
  });
  return el("section", {}, el("h3", {}, "Probably wrong"), el("ul", { class: "a-suspicions" }, items));
}

function classBars(app, place, details) {
  const shares = details?.mean_probability;
  if (!shares?.length) return null;
  const { page: table } = app;
  const numbers = details.mean_classes || shares.map((_, number) => number);
  const [truth, guess] = [table.columns.target?.[place], table.columns.prediction?.[place]];
  const order = [...numbers.keys()].filter((at) => shares[at] !== null).sort((one, other) => shares[other] - shares[one]);
  const rows = order.filter((at, rank) => app.allClasses || rank < FEW || [truth, guess].includes(numbers[at]));
  const bars = rows.map((at) => {
    const kind = numbers[at] === truth ? "right" : numbers[at] === guess ? "wrong" : "";
    const name = nameOfClass(table, numbers[at]);
    return [el("span", { class: "a-cut", title: name }, name), el("span", { class: "bar" }, el("i", { class: kind, style: `width: ${(shares[at] * 100).toFixed(2)}%` })), el("span", { class: "value" }, number(shares[at], 3))];
  });
  const click = () => app.showAllClasses();
  return el("section", {}, el("h3", {}, "Probability of each class, mean over epochs"), el("div", { class: "a-bars" }, bars),
    rows.length < order.length && el("button", { type: "button", class: "a-button plain", "data-key": "all-classes", on: { click } }, `all ${order.length} classes`));
}

function history(app, place, details) {
  const { page: table, otherCurves } = app;
  const told = details?.curves;
  if (!told?.epochs?.length) return null;
  const panels = [["target_probability", "own", 1], ["score", "own", 1], ["loss", "loss", undefined]].map(([name, kind, high]) => {
    const values = told[name]?.[0];
    if (!values?.some(Number.isFinite)) return null;
    const lines = [{ values, kind, name: labelOf(name) }];
    const theirs = otherCurves?.[name]?.[place];
    if (theirs) {
      const of = new Map(otherCurves.epochs.map((epoch, at) => [epoch, theirs[at]]));
      lines.push({ values: told.epochs.map((epoch) => of.get(epoch) ?? null), kind: "other", name: app.state.other });
    }
    const caption = el("span", { class: "a-soft" });
    const onEpoch = (at) => {
      const guess = at === null ? null : told.prediction?.[0]?.[at];
      put(caption, at === null ? "" : ` epoch ${told.epochs[at]}: ${values[at] === null ? "not known" : number(values[at], 4)}${guess === null || guess === undefined || guess < 0 ? "" : `, predicted ${nameOfClass(table, guess)}`}`);
    };
    return el("div", {}, el("div", { class: "a-key" }, lines.map((line) => el("span", {}, el("i", { class: line.kind }), line.name)), caption),
      curves(told.epochs, lines, { at: table.epoch, high, onEpoch }));
  });
  const out = told.epochs_left_out;
  return el("section", {}, el("h3", {}, "History"), out > 0 && el("p", { class: "a-note" }, `${number(out)} epochs in between are left out, as reading them would take long.`), panels);
}

function known(table, place, details) {
  const rows = [];
  if (details?.file) rows.push(["file", "", el("span", { class: "a-mono" }, details.file)]);
  for (const [name, column] of Object.entries(table.columns)) {
    if (name === "id" || (name === "findings" && !column[place])) continue;
    rows.push([labelOf(name), meaningOf(name), shown(table, name, place)]);
  }
  return el("section", {}, el("h3", {}, `All that is known, epoch ${table.epoch}`),
    el("dl", { class: "a-known" }, rows.map(([label, meaning, value]) => el("div", {}, el("dt", { title: meaning }, label), el("dd", {}, value)))));
}

/** Draw the buttons by which a sample is marked. */
export function drawMarks(dialog, app, place) {
  const { page: table, marks } = app;
  const now = marks.get(table.columns.id[place]);
  const buttons = Object.entries(MARKS).map(([mark, label]) => {
    const isOn = now?.mark === mark;
    const key = Object.keys(KEYS).find((one) => KEYS[one] === mark);
    const click = () => app.mark(place, isOn ? "" : mark, mark === "wrong_label" && !isOn ? app.label : "");
    return el("button", { type: "button", class: "a-button", "aria-pressed": String(isOn), "data-key": `mark-${mark}`, "data-mark": mark, on: { click } }, label, el("kbd", {}, key.toUpperCase()));
  });
  put(dialog.querySelector("footer"), buttons, labelChooser(app, place, now), el("span", { class: "a-soft", style: "margin-left: auto" }, app.source.mayMark ? "saved to marks.csv of the run" : "kept in this browser: download the marks"));
}

/** The right class of a wrong label. Nothing is chosen beforehand: what is not known stays empty. */
function labelChooser(app, place, now) {
  const { page: table } = app;
  const { columns } = table;
  if (!columns.target) return null;
  const last = table.classes ? table.classes.length : Math.max(...columns.target, ...(columns.prediction || []), 0) + 1;
  const near = [["likely", "likely"], ["prediction", "predicted"]].filter(([name]) => columns[name]?.[place] >= 0).map(([name, label]) => [columns[name][place], label]);
  const change = (event) => {
    app.label = event.target.value;
    if (now?.mark === "wrong_label") app.mark(place, "wrong_label", app.label);
  };
  const value = now?.mark === "wrong_label" ? now.label : app.label;
  const option = (of, text) => el("option", { value: of, selected: of === value }, text);
  // Of two classes with one name only the number tells which.
  const nameFor = (of) => (table.classes && table.classes.filter((name) => name === table.classes[of]).length === 1 ? table.classes[of] : String(of));
  return el("label", { class: "a-soft" }, "right class ", el("select", { "aria-label": "Right class", "data-key": "label", on: { change } },
    option("", "not known"),
    near.length > 0 && el("optgroup", { label: "Suggested" }, near.map(([of, label]) => el("option", { value: nameFor(of) }, `${nameOfClass(table, of)} (${label})`))),
    el("optgroup", { label: "All classes" }, Array.from({ length: last }, (_, of) => option(nameFor(of), nameOfClass(table, of))))));
}

/** Mark by a key; return whether the key was used. */
export function markByKey(app, place, event) {
  const mark = KEYS[event.key.toLowerCase()];
  if (!mark || event.ctrlKey || event.metaKey || event.altKey) return false;
  const now = app.marks.get(app.page.columns.id[place]);
  app.mark(place, now?.mark === mark ? "" : mark, mark === "wrong_label" && now?.mark !== mark && app.openPlace === place ? app.label : "");
  return true;
}
