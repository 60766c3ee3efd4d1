// The report of one or several runs: `mountReport(element, data)`; see docs/report.md for what data holds.

import { el } from "./report_dom.js";

/** Draw the report into an element. */
export function mountReport(element, data) {
  element.replaceChildren(el("p", { text: JSON.stringify(data) }));
}
