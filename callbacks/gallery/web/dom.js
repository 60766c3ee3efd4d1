/** Elements made of data: each string becomes text or an attribute, never markup. */

const SVG = "http://www.w3.org/2000/svg";
const HIDDEN =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
const READ = new Set(["title", "aria-label", "aria-valuetext", "alt", "placeholder"]);

/** Return a text with characters that nobody sees, or that turn the text around, made visible. */
export function visible(text) {
  return String(text).replace(HIDDEN, (one) => `[U+${one.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}]`);
}

/**
 * Return an element.
 * `attributes`: `on` is an object of listeners; `value`, `checked`, `disabled`, `selected`, `hidden` are properties;
 * null, undefined and false leave an attribute out. `children`: elements, texts, arrays of them, or null.
 */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Return an element of a drawing. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (["value", "checked", "disabled", "selected", "hidden", "tabIndex"].includes(name)) {
      element[name] = value;
    } else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : READ.has(name) ? visible(value) : String(value));
    }
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(element, child);
    else if (child instanceof Node) element.append(child);
    else if (child !== null && child !== undefined && child !== false) element.append(visible(child));
  }
}

/** Replace what an element holds. */
export function put(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/** Return a small drawing from a fixed set; it is decoration, and not read aloud. */
export function icon(name) {
  const path = svg("path", { d: ICONS[name] });
  return svg("svg", { class: "a-icon", viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" }, path);
}

const ICONS = {
  left: "M10 3 5 8l5 5",
  right: "M6 3l5 5-5 5",
  close: "M4 4l8 8M12 4l-8 8",
  up: "M8 13V3M4 7l4-4 4 4",
  down: "M8 3v10M4 9l4 4 4-4",
  moon: "M13 9.5A5.5 5.5 0 0 1 6.5 3 5.5 5.5 0 1 0 13 9.5z",
  sun: "M8 5.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6zM8 1v1.6M8 13.4V15M1 8h1.6M13.4 8H15M3 3l1.2 1.2M11.8 11.8 13 13M3 13l1.2-1.2M11.8 4.2 13 3",
  flag: "M4 14V2.5M4 3h8l-2 3 2 3H4",
  download: "M8 2v8M4.5 7 8 10.5 11.5 7M3 13.5h10",
  filters: "M2 4h12M4.5 8h7M7 12h2",
  chart: "M2.5 13.5h11M4.5 13V8M8 13V3M11.5 13V6",
};

/** Offer a text as a file. */
export function download(name, text, type = "text/csv;charset=utf-8") {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = el("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
