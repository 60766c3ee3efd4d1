// The report of one or several runs: `mountReport(element, data)`; docs/report.md says what data holds.

import { el } from "./report_dom.js";
import { samples } from "./report_samples.js";
import { curves, environment, findings, gradients, settings, summary, time } from "./report_sections.js";
import { CSS } from "./report_style.js";

/** Draw the report into an element. */
export function mountReport(element, data) {
  document.head.append(el("style", { text: CSS }));
  const runs = data.runs.filter((run) => run.sections);
  const several = runs.length > 1;
  const parts = runs.map((run) => el("div", { "data-run": run.run },
    el("h1", { text: run.run }), several ? null : el("p", { class: "soft", text: `report made ${data.made}` }), runSections(run)));
  const body = el("main", {}, parts);
  element.classList.add("report");
  element.replaceChildren(navigation(body, several), body);
}

function runSections(run) {
  const told = run.sections;
  return [summary(told), findings(told), curves(told), samples(run), gradients(told), time(told), settings(told), environment(told)];
}

function navigation(body, several) {
  const sections = [...body.querySelectorAll("section")];
  return el("nav", { "aria-label": "sections" }, sections.map((one) => {
    const run = several ? one.closest("[data-run]")?.dataset.run : null;
    return el("button", { type: "button", title: run, text: one.dataset.title, click: () => one.scrollIntoView({ behavior: "smooth" }) });
  }));
}
