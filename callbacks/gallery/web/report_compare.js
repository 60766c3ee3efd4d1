// Several runs side by side: metrics, settings, and what became of the same samples.

import { lineChart } from "./report_charts.js";
import { el, number, percent, section, table } from "./report_dom.js";
import { card, numbersOf, thumbnailsOf } from "./report_samples.js";

// Of which less is better; of other names it is not known unless a run chooses its best epoch by it.
const LESS = /(^|_)(loss|mae|mse|rmse|error|false_positive_rate|false_negative_rate|ece)$/;
const MORE = /(^|_)(accuracy|f1|iou|dice|precision|recall|r2|roc_auc|map|auc)(_\w+)?$/;

/** The sections of a comparison; none of a single run. */
export function comparison({ runs, comparison: pairs }) {
  if (runs.length < 2) return [];
  return [section("Side by side", legend(runs), bestTable(runs), el("div", { class: "charts" }, charts(runs))), differences(runs), classesOf(runs), ...(pairs || []).map((pair) => samePair(pair, runs))];
}

function legend(runs) {
  return el("ol", {}, runs.map((run) => el("li", {}, run.run)));
}

function directionOf(name, runs) {
  for (const { sections } of runs) {
    const chosen = sections.summary.monitors.find((one) => one.name === name);
    if (chosen) return chosen.minimize ? -1 : 1;
  }
  const metric = name.slice(name.indexOf("/") + 1);
  return LESS.test(metric) ? -1 : MORE.test(metric) ? 1 : 0;
}

function valuesOf(run, name) {
  const found = run.sections.metrics.find((one) => `${one.loader}/${one.name}` === name);
  return found ? found.values.filter((value) => typeof value === "number") : [];
}

function bestTable(runs) {
  const names = [...new Set(runs.flatMap((run) => run.sections.metrics.map((one) => `${one.loader}/${one.name}`)))];
  if (!names.length) return el("p", { class: "soft", text: "No run has metrics." });
  const rows = names.filter((name) => !name.endsWith("_bound")).map((name) => {
    const sign = directionOf(name, runs);
    const last = runs.map((run) => valuesOf(run, name).at(-1));
    const best = runs.map((run) => {
      const values = valuesOf(run, name);
      return values.length && sign ? values.reduce((a, b) => (sign * b > sign * a ? b : a)) : undefined;
    });
    return [name, ...last.map((value) => number(value, 6)), ...highlighted(best, sign)];
  });
  const heads = (what) => runs.map((_, i) => `${what} ${i + 1}`);
  return table(["metric", ...heads("last epoch, run"), ...heads("best epoch, run")], rows, { label: "metrics of the runs" });
}

function highlighted(values, sign, text = (value) => number(value, 6)) {
  const known = values.filter((value) => value !== undefined);
  const winner = known.length > 1 && sign ? known.reduce((a, b) => (sign * b > sign * a ? b : a)) : null;
  const isAlone = known.filter((value) => value === winner).length === 1;
  return values.map((value) => (isAlone && value === winner ? el("strong", { class: "good", text: text(value) }) : text(value)));
}

function charts(runs) {
  const names = [...new Set(runs.flatMap((run) => run.sections.metrics.map((one) => one.name)))].filter((name) => !name.endsWith("_bound"));
  const loaders = [...new Set(runs.flatMap((run) => run.sections.metrics.map((one) => one.loader)))];
  return names.slice(0, 6).map((name) => lineChart({ title: name, lines: runs.flatMap((run, i) => run.sections.metrics
    .filter((one) => one.name === name)
    .map((one) => ({ name: `run ${i + 1}, ${one.loader}`, steps: one.steps, values: one.values, colour: 1 + (i % 8), dash: loaders.indexOf(one.loader) % 4 }))) }));
}

function differences(runs) {
  const told = runs.map((run) => new Map(run.sections.settings));
  const names = [...new Set(told.flatMap((one) => [...one.keys()]))];
  const rows = names.map((name) => [name, ...told.map((one) => one.get(name) ?? "–")]).filter(([, ...values]) => new Set(values).size > 1);
  if (!rows.length) return section("Settings that differ", el("p", { class: "soft", text: "None of config.yaml." }));
  return section("Settings that differ", table(["setting", ...runs.map((_, i) => `run ${i + 1}`)], rows, { texts: 1 + runs.length }));
}

function classesOf(runs) {
  const told = runs.map((run) => new Map((run.sections.classes || []).map((one) => [one.loader, one])));
  const loaders = [...new Set(told.flatMap((of) => [...of.keys()]))].filter((loader) => told.filter((of) => of.has(loader)).length > 1);
  return section("Classes side by side", loaders.map((loader) => {
    const f1 = told.map((of) => new Map((of.get(loader)?.rows || []).map(([name, , , value]) => [name, value])));
    const names = [...new Set(f1.flatMap((of) => [...of.keys()]))];
    const rows = names.map((name) => [name, ...highlighted(f1.map((of) => of.get(name)), 1, percent)]);
    const epochs = told.map((of, i) => (of.has(loader) ? `run ${i + 1}, epoch ${of.get(loader).epoch}` : `run ${i + 1}`));
    return [el("h3", { text: `F1 of ${loader}` }), table(["class", ...epochs], rows, { label: `F1 of classes of ${loader}` })];
  }));
}

function samePair(pair, runs) {
  const [first, other] = [pair.run, pair.other].map((name) => runs.findIndex((run) => run.run === name) + 1);
  const url = thumbnailsOf(runs[other - 1]);
  const before = thumbnailsOf(runs[first - 1]);
  const lists = [["better", "good"], ["worse", "bad"]].map(([which, tone]) => [
    el("h3", { class: tone, text: headingOf(pair, which) }),
    el("div", { class: "samples", "data-changed": `${which} ${pair.loader}` }, pair[which].map((sample) => changed(sample, url(pair.loader, sample.other.index) || before(pair.loader, sample.index), pair.task))),
  ]);
  return section(`Same samples: ${pair.loader}, run ${first} to run ${other}`, el("p", { text: countsOf(pair) }), lists);
}

function headingOf({ counts, better, worse }, which) {
  const listed = (which === "better" ? better : worse).length;
  const all = counts ? counts[which] : listed;
  const what = counts ? (which === "better" ? "wrong before, right now" : "right before, wrong now") : `${which} than before`;
  return `${which}: ${all} ${what}${listed < all ? `, the ${listed} that changed most` : ""}`;
}

function countsOf({ both, only_run, only_other, counts, epoch, other_epoch }) {
  const there = `${both} samples are in both runs (epochs ${epoch} and ${other_epoch}); ${only_run} are only in the first and ${only_other} only in the other.`;
  if (!counts) return there;
  return `${there} Right in both: ${counts.right_right}. Wrong in both: ${counts.wrong_wrong}. Got better: ${counts.better}. Got worse: ${counts.worse}.`;
}

function changed(sample, url, task) {
  const was = sample.prediction === undefined ? null : el("div", { class: "soft", text: `before: predicted ${sample.prediction ?? "unknown"}` });
  const by = numbersOf(sample, task).map((text) => el("div", { class: "soft", text: `before: ${text}` }));
  return card({ ...sample.other, id: sample.id }, url, { more: [was, by], task });
}
