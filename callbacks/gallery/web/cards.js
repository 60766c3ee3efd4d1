/** The grid of samples: a card for each, with picture, truth, prediction and the loss over epochs. */

import { spark } from "./charts.js";
import { el, put } from "./dom.js";
import { KINDS, MARKS, isKnown, kindOf, labelOf, nameOfClass, number, shown, suspectedOf } from "./tables.js";

const CURVES = ["loss", "target_probability", "score"];

/** Draw the cards of a page. `app`: table (of the page), state, curves, marks, open(place), mark(place, mark). */
export function drawCards(grid, app) {
  const { page: table } = app;
  const cards = Array.from({ length: table.count }, (_, place) => card(app, place));
  put(grid, cards);
  grid.setAttribute("aria-label", `${table.count} samples`);
  if (app.curves) drawSparks(grid, app);
}

/** Draw the curves of a page into its cards, once they are there. */
export function drawSparks(grid, app) {
  const most = highest(app);
  for (const room of grid.querySelectorAll(".a-spark-room")) put(room, sparkOf(app, Number(room.dataset.of), most));
}

/** The curves of a page have one scale, so that they can be compared. */
function highest({ curves, otherCurves }) {
  const name = curveOf(curves);
  if (name !== "loss") return 1;
  const values = [curves, otherCurves].flatMap((of) => of?.loss || []).flatMap((line) => line || []).filter(Number.isFinite);
  return values.reduce((most, value) => Math.max(most, value), 1e-6);
}

/** Return the curve that a card shows: the loss, or what there is. */
export function curveOf(curves) {
  return CURVES.find((name) => curves?.[name]?.some((line) => line?.some(Number.isFinite))) || null;
}

function card(app, place) {
  const { page: table, state, marks } = app;
  const { columns } = table;
  const id = columns.id[place];
  const mark = marks.get(id);
  const outcome = columns.correct ? ["wrong", "right"][columns.correct[place]] || "" : "";
  const rank = columns.suspect_rank?.[place] ?? -1;
  return el(
    "article",
    { class: `a-card ${outcome}`, tabIndex: place === 0 ? 0 : -1, role: "button", "data-key": `card-${id}`, "data-place": place, "data-id": id,
      "aria-label": spoken(table, place), on: { click: () => app.open(place) } },
    shot(app, table, place),
    el("div", { class: "a-badges" },
      rank > 0 && el("span", { class: "a-badge", title: "Rank among the suspects" }, `suspect ${rank}`),
      mark && el("span", { class: "a-badge mark" }, MARKS[mark.mark] || mark.mark)),
    el("div", { class: "a-facts" }, facts(app, place), rank > 0 && suspicion(table, place), el("div", { class: "a-spark-room", "data-of": place }),
      el("div", { class: "a-small a-cut", title: id }, id),
      sortedBy(table, state, place))
  );
}

function spoken(table, place) {
  const { columns } = table;
  const parts = [`sample ${columns.id[place]}`];
  for (const name of ["target", "prediction", "probability", "score", "loss"]) {
    if (columns[name]) parts.push(`${labelOf(name)} ${shown(table, name, place)}`);
  }
  return parts.join(", ");
}

/** Return the picture, or words where there is none. */
export function shot(app, table, place, kind = null) {
  const { state, source } = app;
  const [index, pictured] = [table.columns.index[place], table.columns.pictured?.[place] === 1];
  const box = el("div", { class: "a-shot" });
  const said = el("span", {}, "no picture");
  if (!pictured) return put(box, said);
  const kinds = kind ? [kind] : table.task === "segmentation" || table.task === "detection" ? ["drawn", "image"] : ["image", "drawn"];
  const next = () => {
    const address = kinds.length ? source.thumbnailUrl(state.run, state.loader, index, kinds.shift()) : null;
    if (address) picture.src = address;
    else if (kinds.length) next();
    else put(box, said);
  };
  const load = () => picture.naturalWidth < 64 && (picture.style.imageRendering = "pixelated");
  const picture = el("img", { alt: "", loading: kind ? "eager" : "lazy", decoding: "async", on: { error: next, load } });
  put(box, picture);
  next();
  return box;
}

function facts(app, place) {
  const { page: table } = app;
  const { columns } = table;
  if (!columns.target) return [numberLine(table, place, columns.score ? "score" : "wrong_labels")];
  const truth = nameOfClass(table, columns.target[place]);
  const line = (other, title) => {
    const shares = columns[`probability${other}`];
    const guess = nameOfClass(table, columns[`prediction${other}`][place]);
    const kind = { 0: "a-wrong", 1: "a-right" }[columns[`correct${other}`]?.[place]] || "";
    return el("div", { class: "a-pair", title }, el("span", { class: `a-cut ${kind}` }, `${kind === "a-wrong" ? "✕" : kind ? "✓" : "·"} ${guess}`),
      isKnown(shares, place) && el("span", { class: "value" }, number(shares[place], 2)));
  };
  return [
    el("div", { class: "a-pair", title: `Truth: ${truth}` }, el("b", { class: "a-cut" }, truth)),
    columns.prediction && line("", "Prediction and its probability"),
    columns["prediction.other"] && line(".other", `Prediction of ${app.state.other}`),
  ];
}

/** What is probably wrong, and what is right. */
function suspicion(table, place) {
  const kind = kindOf(table, place);
  const [label, likely] = suspectedOf(table, place);
  const [title, meaning] = KINDS[kind] || ["Suspect", ""];
  // The card shows the truth of a sample with one class already.
  const text = kind === "label" || kind === null ? likely && `likely ${likely}` : `${title}${label || likely ? ": " : ""}${[label, likely].filter(Boolean).join(" → ")}`;
  return text && el("div", { class: "a-small a-cut a-suspicion", title: `${meaning}${meaning ? ": " : ""}${text}` }, text);
}

function numberLine(table, place, name) {
  if (!table.columns[name]) return null;
  return el("div", { class: "a-pair" }, el("span", { class: "a-soft" }, labelOf(name)), el("b", { class: "value" }, shown(table, name, place)));
}

function sparkOf({ curves, otherCurves, page: table }, place, most) {
  const name = curveOf(curves);
  if (!name) return null;
  const lines = [{ values: curves[name][place] || [], kind: "" }];
  if (otherCurves?.[name]) {
    // Both runs on the epochs of this one.
    const values = new Map(otherCurves.epochs.map((epoch, at) => [epoch, otherCurves[name][place]?.[at] ?? null]));
    lines.unshift({ values: curves.epochs.map((epoch) => values.get(epoch) ?? null), kind: "other" });
  }
  return spark(curves.epochs, lines, most, table.epoch, `${labelOf(name)} over epochs, 0 to ${number(most, 2)}`);
}

/** The number by which the page is sorted, where the card does not show it already. */
function sortedBy(table, { sort }, place) {
  if (!sort || ["suspect_rank", "probability", "id", "index"].includes(sort) || !table.columns[sort] || (sort === "score" && !table.columns.target)) return null;
  return el("div", { class: "a-small a-pair" }, el("span", { class: "a-cut" }, labelOf(sort)), el("span", { class: "value" }, shown(table, sort, place)));
}

/** Move in the grid by keys; return whether the key was used. */
export function moveInGrid(grid, event) {
  const cards = [...grid.querySelectorAll(".a-card")];
  const at = cards.indexOf(document.activeElement);
  if (at < 0) return false;
  const across = cards.filter((one) => one.offsetTop === cards[0].offsetTop).length;
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across, Home: -at, End: cards.length - 1 - at }[event.key];
  if (step === undefined) return false;
  const next = cards[at + step];
  if (next) {
    cards.forEach((one) => (one.tabIndex = one === next ? 0 : -1));
    next.focus();
    next.scrollIntoView({ block: "nearest" });
  }
  return true;
}
