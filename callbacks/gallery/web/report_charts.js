// Curves with their values under the mouse or the arrow keys, and a map of numbers in colours.

import { el, number, svg } from "./report_dom.js";

const WIDTH = 460;
const HEIGHT = 210;
const LEFT = 52;
const RIGHT = 10;
const TOP = 8;
const BOTTOM = 24;
const DASHES = [null, "6 4", "2 3", "10 3 2 3"];

export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/**
 * Return a chart. `lines`: [{name, steps, values, colour (1 to 8), dash (0 to 3)}]; values are numbers, or texts and
 * null where there is no number. `mark`: {step, text} of a vertical line, or null. `step`: what a step is called.
 */
export function lineChart({ title, lines, mark = null, step = "epoch" }) {
  const kept = lines.filter((line) => line.steps.length);
  const steps = [...new Set(kept.flatMap((line) => line.steps))].sort((a, b) => a - b);
  const y = valueScale(kept.flatMap((line) => line.values).filter(isNumber));
  const x = stepScale(steps);
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", tabindex: "0",
    "aria-label": `${title}: curves; arrow keys show the values` });
  drawing.append(...grid(x, y, steps, step));
  if (mark && steps.length) {
    drawing.append(svg("line", { x1: x(mark.step), x2: x(mark.step), y1: TOP, y2: HEIGHT - BOTTOM, stroke: "var(--r-soft)",
      "stroke-dasharray": "2 3" }, svg("title", { text: mark.text })));
  }
  for (const line of kept) drawing.append(...curve(line, x, y));
  const figure = el("figure", { class: "chart", "data-chart": title },
    el("figcaption", {}, title, y.isLog ? el("span", { class: "soft", text: " (log scale)" }) : null), drawing, legend(kept));
  readable(figure, drawing, kept, steps, x, y, step);
  return figure;
}

function valueScale(values) {
  if (!values.length) return Object.assign(() => HEIGHT - BOTTOM, { ticks: [], isLog: false });
  let low = values[0];
  let high = values[0];
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  const isLog = low > 0 && high / low > 1000;
  const map = isLog ? Math.log10 : (value) => value;
  let [from, to] = [map(low), map(high)];
  if (from === to) [from, to] = [from - (Math.abs(from) || 1) / 10, to + (Math.abs(to) || 1) / 10];
  const room = (to - from) * 0.05;
  [from, to] = [from - room, to + room];
  const scale = (value) => TOP + (1 - (map(value) - from) / (to - from)) * (HEIGHT - TOP - BOTTOM);
  const ticks = isLog ? powers(from, to) : rounds(from, to);
  return Object.assign(scale, { ticks, isLog });
}

function rounds(from, to) {
  const rough = (to - from) / 4;
  const size = 10 ** Math.floor(Math.log10(rough));
  const unit = [1, 2, 5, 10].map((factor) => factor * size).find((step) => step >= rough);
  const found = [];
  for (let i = Math.ceil(from / unit); i * unit <= to; i += 1) found.push(Number((i * unit).toPrecision(12)));
  return found;
}

function powers(from, to) {
  const every = Math.max(1, Math.ceil((to - from) / 5));
  const found = [];
  for (let power = Math.ceil(from); power <= to; power += every) found.push(10 ** power);
  return found;
}

function stepScale(steps) {
  const [first, last] = [steps[0], steps[steps.length - 1]];
  const width = WIDTH - LEFT - RIGHT;
  return (step) => (first === last ? LEFT + width / 2 : LEFT + ((step - first) / (last - first)) * width);
}

function grid(x, y, steps, step) {
  const found = y.ticks.map((tick) => [
    svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(tick), y2: y(tick), stroke: "var(--r-grid)" }),
    svg("text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end", text: number(tick) }),
  ]).flat();
  const shown = steps.length <= 8 ? steps : [0, 1, 2, 3, 4].map((i) => steps[Math.round((i * (steps.length - 1)) / 4)]);
  for (const one of new Set(shown)) {
    found.push(svg("text", { x: x(one), y: HEIGHT - 8, "text-anchor": "middle", text: number(one) }));
  }
  found.push(svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM, stroke: "var(--r-line)" },
    svg("title", { text: step })));
  return found;
}

function curve(line, x, y) {
  const stroke = `var(--r-${line.colour})`;
  const path = [];
  const points = [];
  let pen = "M";
  line.steps.forEach((step, i) => {
    if (!isNumber(line.values[i])) {
      pen = "M";
      return;
    }
    path.push(`${pen}${x(step).toFixed(2)} ${y(line.values[i]).toFixed(2)}`);
    pen = "L";
    const isAlone = !isNumber(line.values[i - 1]) && !isNumber(line.values[i + 1]);
    if (isAlone || line.steps.length <= 30) points.push(svg("circle", { cx: x(step), cy: y(line.values[i]), r: 2, fill: stroke }));
  });
  return [svg("path", { d: path.join(""), fill: "none", stroke, "stroke-width": 1.8, "stroke-linejoin": "round",
    "stroke-dasharray": DASHES[line.dash || 0] }), ...points];
}

function legend(lines) {
  return el("div", { class: "legend" }, lines.map((line) => el("span", {},
    svg("svg", { viewBox: "0 0 22 8", "aria-hidden": "true" }, svg("line", { x1: 0, x2: 22, y1: 4, y2: 4, "stroke-width": 2,
      stroke: `var(--r-${line.colour})`, "stroke-dasharray": DASHES[line.dash || 0] })), line.name)));
}

function readable(figure, drawing, lines, steps, x, y, name) {
  const tip = el("div", { class: "tip", role: "status", hidden: true });
  const cursor = svg("g", {});
  figure.append(tip);
  drawing.append(cursor);
  let at = -1;
  const show = (place) => {
    at = Math.max(0, Math.min(steps.length - 1, place));
    const step = steps[at];
    const rows = lines.map((line) => ({ line, value: line.values[line.steps.indexOf(step)] })).filter(({ value }) => value !== undefined);
    tip.replaceChildren(el("strong", { text: `${name} ${number(step)}` }), ...rows.map(({ line, value }) =>
      el("div", { style: `color: var(--r-${line.colour})`, text: `${line.name} ${number(value, 6)}` })));
    tip.hidden = false;
    cursor.replaceChildren(svg("line", { x1: x(step), x2: x(step), y1: TOP, y2: HEIGHT - BOTTOM, stroke: "var(--r-soft)" }),
      ...rows.filter(({ value }) => isNumber(value)).map(({ line, value }) => svg("circle", { cx: x(step), cy: y(value), r: 4,
        fill: `var(--r-${line.colour})`, stroke: "var(--r-card)" })));
    const box = drawing.getBoundingClientRect();
    const left = (x(step) / WIDTH) * box.width;
    tip.style.top = `${drawing.offsetTop || 24}px`;
    tip.style.left = left > box.width / 2 ? "" : `${left + 12}px`;
    tip.style.right = left > box.width / 2 ? `${box.width - left + 12}px` : "";
  };
  const hide = () => {
    tip.hidden = true;
    cursor.replaceChildren();
  };
  drawing.addEventListener("pointermove", (event) => {
    if (!steps.length) return;
    const box = drawing.getBoundingClientRect();
    const wanted = ((event.clientX - box.left) / box.width) * WIDTH;
    show(steps.reduce((best, step, i) => (Math.abs(x(step) - wanted) < Math.abs(x(steps[best]) - wanted) ? i : best), 0));
  });
  drawing.addEventListener("pointerleave", hide);
  drawing.addEventListener("blur", hide);
  drawing.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || !steps.length) return;
    event.preventDefault();
    show(at < 0 ? (by > 0 ? 0 : steps.length - 1) : at + by);
  });
}
