/** The gallery of documents that are in the page, as in a notebook. */

import { mount } from "./gallery.js";
import { LocalSource } from "./sources.js";

/** Show the samples of a report's data; returns what `mount` returns. */
export function mountLocal(element, data, options = {}) {
  document.body.style.margin = "0";
  return mount(element, new LocalSource(data), options);
}
