// Elements and numbers of the report. Text from data goes in as text, never as markup.

import { visible } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const READ = new Set(["title", "aria-label", "alt"]);

/** Return an element. Attributes that are null are left out; `class` and `text` are short for className and content. */
export function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Return an SVG element, as `el` does. */
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = element.tagName === "STYLE" ? value : visible(value);
    else if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : READ.has(name) ? visible(value) : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(visible(child)));
  }
  return element;
}

/** Return a number as people read it: at most `digits` significant digits; "–" where it is not known. */
export function number(value, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (typeof value === "string") return value;
  if (Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) return Number(value.toPrecision(digits)).toExponential();
  return String(Number(value.toPrecision(digits)));
}

/** Return a share as a percentage. */
export function percent(value) {
  return value === null || value === undefined ? "–" : `${number(100 * value, 4)}%`;
}

/** Return a table. Cells are texts, numbers or elements; the first `texts` columns are left-aligned. */
export function table(headings, rows, { texts = 1, label = null } = {}) {
  const side = (i) => (i < texts ? "text" : "number");
  const head = el("tr", {}, headings.map((heading, i) => el("th", { scope: "col", class: side(i) }, heading)));
  const body = rows.map((row) => el("tr", {}, row.map((cell, i) => el("td", { class: side(i) }, cell))));
  return el("div", { class: "scrolls", tabindex: rows.length ? "0" : null, role: "region", "aria-label": label || headings[0] },
    el("table", {}, el("thead", {}, head), el("tbody", {}, body)));
}

let last = 0;

/** Return a section with a heading, or null where it has no content. */
export function section(title, ...children) {
  const content = children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
  if (!content.length) return null;
  last += 1;
  return el("section", { id: `section-${last}`, "data-title": title, "aria-label": title }, el("h2", { text: title }), content);
}
