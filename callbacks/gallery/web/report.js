// The report of one or several runs: `mountReport(element, data)`; docs/report.md says what data holds.

import { mount } from "./gallery.js";
import { comparison } from "./report_compare.js";
import { el, section } from "./report_dom.js";
import { bestAndWorst, classes, data as dataOf } from "./report_samples.js";
import { curves, environment, findings, gradients, settings, summary, time } from "./report_sections.js";
import { CSS } from "./report_style.js";
import { LocalSource } from "./sources.js";

/** Draw the report into an element. */
export function mountReport(element, data) {
  document.head.append(el("style", { text: CSS }));
  const several = data.runs.length > 1;
  const room = galleryRoom(data);
  const parts = data.runs.map((run) => el("div", { "data-run": run.run },
    el("h1", { text: run.run }), several ? null : el("p", { class: "soft", text: `report made ${data.made}` }),
    runSections(run, room && ((loader, filters) => room.show(run.run, loader, filters)), several ? null : room)));
  const compared = several
    ? [el("div", { "data-compared": true }, el("h1", { text: `${data.runs.length} runs` }), el("p", { class: "soft", text: `report made ${data.made}` }), comparison(data), room && room.section)]
    : [];
  const body = el("main", {}, compared, parts);
  element.classList.add("report");
  element.replaceChildren(navigation(body, several), body);
}

function runSections(run, show, room) {
  const told = run.sections;
  return [summary(told), findings(told), curves(told), classes(run, show), bestAndWorst(run, show), room && room.section,
    gradients(told), time(told), dataOf(run), settings(told), environment(told)];
}

/** Return the section with the gallery and a function that shows samples in it; null where no run has samples. */
function galleryRoom(data) {
  if (!data.runs.some((run) => run.loaders.length)) return null;
  const element = el("div", { class: "gallery-room" });
  let gallery = null;
  const begin = () => {
    gallery ??= mount(element, new LocalSource(data), { height: "min(860px, 92vh)", address: null });
    return gallery;
  };
  // It is made when it is first seen, so that the page is there at once.
  const watcher = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    watcher.disconnect();
    begin();
  }, { rootMargin: "400px" });
  watcher.observe(element);
  const held = data.runs.flatMap((run) => run.loaders.map(({ document: told }) => ({ run: run.run, ...told }))).filter((told) => told.left_out)
    .map((told) => el("p", { class: "soft", text: `${data.runs.length > 1 ? `${told.run}, ` : ""}${told.loader}: ${told.count.toLocaleString("en")} of ${(told.count + told.left_out).toLocaleString("en")} samples are here, and numbers of the gallery are of these alone.` }));
  const room = section("Samples", held, element);
  const show = async (run, loader, filters) => {
    const { ready } = begin();
    await ready;
    room.scrollIntoView({ block: "start" });
    await gallery.set({ run, loader, filters, page: 0, open: null });
  };
  return { section: room, show };
}

function navigation(body, several) {
  // Of several runs one place each, beside those of the comparison.
  const places = several ? "[data-run], [data-compared] section" : "section";
  return el("nav", { "aria-label": "sections" }, [...body.querySelectorAll(places)].map((one) =>
    el("button", { type: "button", text: one.dataset.run ?? one.dataset.title, click: () => one.scrollIntoView({ behavior: "smooth" }) })));
}
