/** The line at the top: which run, loader and epoch; the line above the samples: how many, in which order. */

import { el, icon, put } from "./dom.js";
import { switchTheme, isDark } from "./style.js";
import { labelOf, number, numbersOf } from "./tables.js";

function select(label, key, options, value, onChange) {
  const change = (event) => onChange(event.target.value);
  return el("select", { "aria-label": label, "data-key": key, title: label, on: { change } },
    options.map(([of, text]) => el("option", { value: of, selected: of === value }, text)));
}

/** Draw the top line. */
export function drawHead(head, app) {
  const { state, runs, info } = app;
  const others = app.others();
  return put(
    head,
    runs.length > 0 && el("label", {}, "Run", select("Run", "run", runs.map(({ run }) => [run, run]), state.run, (run) => app.choose({ run, epoch: null, filters: {}, sort: null, other: null }))),
    info && el("label", {}, "Loader", select("Loader", "loader", loadersOf(app), state.loader, (loader) => app.choose({ loader, epoch: null, filters: {}, sort: null }))),
    info && epochSlider(app),
    others.length > 0 && el("label", {}, "Against", select("Compare with another run", "other", [["", "no other run"], ...others.map((run) => [run, run])], state.other || "",
      (other) => app.choose({ other: other || null, epoch: null, sort: null, door: other ? "change" : null, filters: {} }))),
    el("span", { class: "a-space" }),
    el("span", { class: "a-tools" }, marksButton(app), pane(app, "no-side", "filters", "Filters"), pane(app, "no-door", "chart", "Charts"), themeButton(app))
  );
}

function loadersOf({ runs, state }) {
  const { loaders } = runs.find((one) => one.run === state.run);
  return loaders.map(({ loader, count }) => [loader, `${loader} (${number(count)})`]);
}

function epochSlider(app) {
  const { state, info } = app;
  const { epochs } = info;
  const at = state.epoch === null || state.other ? epochs.length - 1 : epochs.indexOf(state.epoch);
  const text = (place) => (epochs.length === 1 ? `epoch ${epochs[0]}` : `epoch ${epochs[place]} of ${epochs[epochs.length - 1]}`);
  const output = el("output", {}, text(at));
  // The last place means the newest epoch, also of a run that goes on.
  const change = (event) => app.set({ epoch: Number(event.target.value) === epochs.length - 1 ? null : epochs[event.target.value], page: 0 });
  const input = (event) => put(output, text(Number(event.target.value)));
  return el("span", { class: "a-epoch" }, el("label", {}, epochs.length > 1 && el("input", {
    type: "range", min: 0, max: epochs.length - 1, step: 1, value: String(at), disabled: Boolean(state.other), "aria-label": "Epoch", "aria-valuetext": text(at), "data-key": "epoch", on: { change, input },
  }), output));
}

function marksButton(app) {
  const count = app.allMarks?.length || 0;
  return count > 0 && el("button", { type: "button", class: "a-button plain", title: "Download the marks as CSV", "data-key": "download", on: { click: () => app.downloadMarks() } },
    icon("download"), `${number(count)} ${count === 1 ? "mark" : "marks"}`);
}

function pane(app, kind, name, label) {
  const isShown = !app.root.classList.contains(kind);
  const click = () => {
    app.root.classList.toggle(kind);
    app.drawHead();
  };
  return el("button", { type: "button", class: "a-button plain", "aria-label": label, title: label, "aria-pressed": String(isShown), "data-key": kind, on: { click } }, icon(name));
}

function themeButton(app) {
  const label = isDark() ? "Light colours" : "Dark colours";
  const click = () => {
    switchTheme();
    app.drawHead();
  };
  return el("button", { type: "button", class: "a-button plain", "aria-label": label, title: label, "data-key": "theme", on: { click } }, icon(isDark() ? "sun" : "moon"));
}

/** Draw the line above the samples. */
export function drawBar(bar, app) {
  const { total, facets, table, ordered } = app;
  const text = total === facets.all ? `${number(total)} ${total === 1 ? "sample" : "samples"}` : `${number(total)} of ${number(facets.all)} samples`;
  const names = [...numbersOf(table), "id"];
  if (ordered.sort && !names.includes(ordered.sort)) names.push(ordered.sort);
  const click = () => app.set({ sort: ordered.sort, descending: !ordered.descending, page: 0 });
  const label = ordered.descending ? "Largest first" : "Smallest first";
  return put(
    bar,
    el("h2", { "aria-live": "polite" }, text), app.info.thumbnails === 0 && el("span", { class: "a-soft" }, "without thumbnails"), el("span", { class: "a-soft a-thinned" }), el("span", { class: "a-space" }),
    el("label", {}, el("span", {}, "Sort by"), select("Sort by", "sort", names.map((name) => [name, labelOf(name)]), ordered.sort, (sort) => app.set({ sort, page: 0 }))),
    el("button", { type: "button", class: "a-button", "aria-label": label, title: label, "data-key": "direction", on: { click } }, icon(ordered.descending ? "down" : "up"))
  );
}

/** Say of how many epochs the curves are, where some are left out. */
export function drawThinned(bar, { curves, info }) {
  const { epochs, epochs_left_out: out } = curves;
  const { count, left_out: missing, epochs: there, epochs_left_out: fewer } = info;
  const told = [
    missing > 0 && `${number(count)} of ${number(count + missing)} samples are in this page`,
    fewer > 0 && `${number(there.length)} of ${number(there.length + fewer)} epochs are in this page`,
    out > 0 && `curves show ${number(epochs.length)} of ${number(epochs.length + out)} epochs`,
  ];
  put(bar.querySelector(".a-thinned"), told.filter(Boolean).join("; "));
}

/** Draw the line below the samples. */
export function drawFoot(foot, app, size) {
  const { total, state } = app;
  foot.hidden = total <= size;
  const pages = Math.ceil(total / size);
  const step = (by, name, label) => el("button", { type: "button", class: "a-button", "aria-label": label, disabled: state.page + by < 0 || state.page + by >= pages, "data-key": `page-${name}`,
    on: { click: () => app.set({ page: state.page + by }).then(() => (app.parts.grid.scrollTop = 0)) } }, icon(name));
  const first = state.page * size;
  return put(foot, step(-1, "left", "Page before"), `${number(first + 1)}–${number(Math.min(first + size, total))} of ${number(total)}`, step(1, "right", "Next page"));
}
