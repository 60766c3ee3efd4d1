// Classes and samples of one run.

import { el, number, percent, section, table } from "./report_dom.js";
import { pictures } from "./report_sections.js";

const SCORES = { segmentation: "IoU", detection: "AP" };
const DRAWN = ["segmentation", "detection"]; // tasks whose prediction is seen in a picture alone

/** Return a function that gives the URL of a thumbnail of a run's samples: (loader, index, kinds) => text or null. */
export function thumbnailsOf({ loaders }) {
  const found = new Map();
  for (const { document: told, thumbnails } of loaders) {
    thumbnails.index.forEach((index, i) => found.set(JSON.stringify([told.loader, index, thumbnails.kind[i]]), thumbnails.jpeg[i]));
  }
  return (loader, index, kinds = ["drawn", "image"]) => {
    const jpeg = kinds.map((kind) => found.get(JSON.stringify([loader, index, kind]))).find(Boolean);
    return jpeg ? `data:image/jpeg;base64,${jpeg}` : null;
  };
}

/** The tables of classes and the confusion matrices. `show(loader, filters)` shows samples in the gallery, null: there is none. */
export function classes({ sections }, show) {
  const told = sections.classes || [];
  const shown = pictures(sections, "classes").filter((one) => !told.length || !one.textContent.startsWith("confusion matrix"));
  const reports = sections.class_reports || [];
  return section("Classes", told.map((one) => classesOf(one, show)), reports.map(reportOf), shown.length ? el("div", { class: "pictures" }, shown) : null);
}

/** A table of classes that a diagnostic has written. */
function reportOf({ loader, title, epoch, header, rows, left_out: out }) {
  const cells = rows.map(([name, ...values]) => [name, ...values.map((value) => (typeof value === "string" ? value : number(value)))]);
  return el("div", { "data-class-report": loader, "data-kind": title }, el("h3", { text: `${loader}, epoch ${epoch}: ${title}` }),
    el("div", { class: "wide" }, table(header, cells, { label: `${title} of ${loader}` })),
    out ? el("p", { class: "soft", text: `${out} further rows are left out.` }) : null);
}

function classesOf(told, show) {
  const unknown = told.unknown ? `; ${told.unknown} more have no known class or prediction` : "";
  const rows = told.rows.map(([name, precision, recall, f1, support]) => [name, percent(precision), percent(recall), percent(f1), support]);
  return el("div", { "data-classes": told.loader },
    el("h3", { text: `${told.loader}, epoch ${told.epoch}: ${percent(told.accuracy)} of ${told.samples} samples right${unknown}` }),
    el("div", { class: "sides" },
      el("div", {}, table(["class", "precision", "recall", "F1", "samples"], rows, { label: `classes of ${told.loader}` }),
        told.left_out ? el("p", { class: "soft", text: `${told.left_out} further classes, with a higher F1, are left out.` }) : null),
      confusion(told, show)));
}

function confusion({ loader, confusion: { classes: names, numbers, counts, left_out } }, show) {
  const head = el("tr", {}, el("td", {}), names.map((name) => el("th", { scope: "col", title: name, text: name })));
  const rows = counts.map((row, i) => {
    const sum = row.reduce((a, b) => a + b, 0);
    return el("tr", {}, el("th", { scope: "row", title: names[i], text: names[i] }), row.map((count, j) => {
      const title = `${names[i]} predicted as ${names[j]}: ${count} of ${sum} samples`;
      const strength = sum && count ? 0.12 + (0.78 * count) / sum : 0;
      const ink = i === j ? "var(--r-heat)" : "var(--r-heat-bad)";
      const style = count ? `background: rgba(${ink}, ${strength.toFixed(3)}); color: ${strength > 0.55 ? "var(--r-on-heat)" : "inherit"}` : null;
      const filters = { target: [numbers[i]], prediction: [numbers[j]] };
      const cell = count && show ? el("button", { type: "button", "aria-label": title, text: count, click: () => show(loader, filters) }) : count || "";
      return el("td", { title, style }, cell);
    }));
  });
  return el("figure", {}, el("figcaption", { text: "truth in rows, prediction in columns" }),
    el("div", { class: "scrolls confusion", tabindex: "0", role: "region", "aria-label": `confusion matrix of ${loader}` },
      el("table", {}, el("thead", {}, head), el("tbody", {}, rows))),
    left_out ? el("p", { class: "soft", text: `Of ${left_out + names.length} classes these ${names.length} have the most errors.` }) : null);
}

/** The best and worst samples of each loader. */
export function bestAndWorst(run, show) {
  const { sections } = run;
  const url = thumbnailsOf(run);
  const ranked = sections.ranked || [];
  // Cards show the same samples as the pictures of the results, but masks and boxes only where they are drawn.
  const isPictured = ranked.some(({ loader, task, worst }) =>
    worst.some((sample) => url(loader, sample.index, DRAWN.includes(task) ? ["drawn"] : undefined)));
  const shown = pictures(sections, "samples").filter((one) => !isPictured || !/^(worst|best) samples/.test(one.textContent));
  const cards = ranked.map((one) => ["worst", "best"].map((which) => [
    el("h3", { text: `${which} of ${one.loader} by ${one.by === "score" ? SCORES[one.task] || "score" : one.by}, epoch ${one.epoch}` }),
    el("div", { class: "samples", "data-ranked": `${which} ${one.loader}` }, one[which].map((sample) => card(sample, url(one.loader, sample.index), { task: one.task, open: show && (() => show(one.loader, { ids: [sample.id] })) }))),
  ]));
  return section("Best and worst samples", cards, worstTable(sections.worst), shown.length ? el("div", { class: "pictures" }, shown) : null);
}

/** Return loss and score of a sample as texts, as far as they are known. */
export function numbersOf(sample, task) {
  const names = { loss: "loss", score: SCORES[task] || "score" };
  return Object.keys(names).filter((name) => sample[name] !== undefined && sample[name] !== null).map((name) => `${names[name]} ${number(sample[name], 4)}`);
}

/** A sample: picture, id, truth, prediction, numbers and `more`. `open` shows it in the gallery. */
export function card(sample, url, { open = null, more = null, task = null } = {}) {
  const isRight = sample.target !== undefined && sample.target === sample.prediction;
  const truth = sample.target === undefined ? null : el("div", { text: `truth ${sample.target ?? "unknown"}` });
  const share = sample.probability === undefined || sample.probability === null ? "" : `, ${percent(sample.probability)}`;
  const predicted = sample.prediction === undefined ? null
    : el("div", { class: sample.target === null || sample.prediction === null ? "soft" : isRight ? "good" : "bad", text: `predicted ${sample.prediction ?? "unknown"}${share}` });
  const told = numbersOf(sample, task).map((text) => el("div", { class: "soft", text }));
  return el("div", { class: "sample" }, url ? picture(url, sample.id) : null,
    open ? el("button", { type: "button", class: "link", title: "show in the gallery", text: sample.id, click: open }) : el("strong", { text: sample.id }),
    truth, predicted, told, more);
}

function picture(url, name) {
  const image = el("img", { src: url, alt: name });
  // Of few pixels each one is to be seen.
  image.addEventListener("load", () => image.parentElement?.classList.toggle("small", image.naturalWidth < 64));
  return image;
}

function worstTable(rows) {
  if (!rows.length) return null;
  const columns = ["loader", "epoch", "score", "rank", "sample_id", "value", "target", "prediction"];
  const cells = rows.map((row) => columns.map((name) => (name === "value" ? number(Number(row[name]), 6) : row[name] ?? "")));
  return el("details", {}, el("summary", { text: `The ${rows.length} worst samples of the best epoch as a table` }), table(columns, cells, { texts: 8 }));
}

/** Pictures of the data. */
export function data({ sections }) {
  const shown = pictures(sections, "data");
  return section("Data", shown.length ? el("div", { class: "pictures" }, shown) : null);
}
