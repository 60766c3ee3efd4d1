// Classes and samples of one run.

import { el, number, section, table } from "./report_dom.js";
import { pictures } from "./report_sections.js";

/** The tables of classes, the best and worst samples, and pictures of them. */
export function samples(run) {
  return [classes(run), bestAndWorst(run), data(run)];
}

function classes({ sections }) {
  const shown = pictures(sections, "classes");
  return section("Classes", shown.length ? el("div", { class: "pictures" }, shown) : null);
}

function bestAndWorst({ sections }) {
  const shown = pictures(sections, "samples");
  return section("Best and worst samples", worstTable(sections.worst), shown.length ? el("div", { class: "pictures" }, shown) : null);
}

function worstTable(rows) {
  if (!rows.length) return null;
  const columns = ["loader", "epoch", "score", "rank", "sample_id", "value", "target", "prediction"];
  const cells = rows.map((row) => columns.map((name) => (name === "value" ? number(Number(row[name]), 6) : row[name] ?? "")));
  return el("details", {}, el("summary", { text: `The ${rows.length} worst samples as a table` }), table(columns, cells, { texts: 8 }));
}

function data({ sections }) {
  const shown = pictures(sections, "data");
  return section("Data", shown.length ? el("div", { class: "pictures" }, shown) : null);
}
