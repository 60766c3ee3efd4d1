// Gradients by parameter and epoch: a map of one number of them, what went wrong, and the curve of one parameter.

import { isNumber, lineChart } from "./report_charts.js";
import { el, number } from "./report_dom.js";

const CELL = 15;
const NAMES = { norm: "mean norm", zeros: "share of zeros", std: "standard deviation", update_ratio: "update ratio" };
const SCALES = { zeros: [0, 1] }; // others are by their logarithm
// Letter in a cell, and what it stands for.
const TROUBLES = {
  vanished: ["v", "vanished: the norm is far below the others"], exploded: ["e", "exploded: the norm is far above the others"],
  dead: ["0", "died: all gradients are zero"], missing: ["–", "no gradient"], broken: ["!", "NaN or infinite gradients"],
};

/**
 * Return a figure of {loader, parameters [P], epochs [E], norms [P][E], others {name: [P][E]}, troubles [[parameter, epoch,
 * names]], left_out, epochs_left_out}. Stronger colour is larger, red is not finite.
 */
export function gradientMap(told) {
  const { loader, parameters, epochs, left_out: out, epochs_left_out: fewer } = told;
  const kinds = { norm: told.norms, ...told.others };
  const went = new Map(told.troubles.map(([name, epoch, text]) => [JSON.stringify([name, epoch]), text]));
  const troubleOf = (row, column) => went.get(JSON.stringify([parameters[row], epochs[column]])) || "";
  const width = Math.max(4, Math.min(48, Math.floor(720 / Math.max(1, epochs.length))));
  const state = { kind: "norm", row: 0, column: epochs.length - 1 };
  const canvas = el("canvas", { width: width * epochs.length, height: CELL * parameters.length, role: "img", tabindex: "0" });
  const tip = el("p", { class: "soft", role: "status", text: "Point at a cell, or move by the arrow keys, to read its values; a click or Enter shows the parameter over the epochs." });
  const chart = el("div", { class: "charts" });
  const draw = () => {
    canvas.setAttribute("aria-label", `${NAMES[state.kind] || state.kind} of the gradients of ${loader}; the values are shown under the mouse`);
    paint(canvas, kinds[state.kind], { width, scale: SCALES[state.kind], troubleOf });
  };
  const tell = (row, column) => {
    if (row < 0 || column < 0 || row >= parameters.length || column >= epochs.length) return;
    Object.assign(state, { row, column });
    const values = Object.entries(kinds).map(([kind, of]) => `${NAMES[kind] || kind} ${number(of[row][column], 6)}`);
    const trouble = troubleOf(row, column).split(" ").filter(Boolean).map((one) => (TROUBLES[one] || ["", one])[1]);
    tip.textContent = `${parameters[row]}, epoch ${epochs[column]}: ${[...values, ...trouble].join("; ")}`;
  };
  const open = () => chart.replaceChildren(...Object.entries(kinds).map(([kind, of], at) => lineChart({ title: `${NAMES[kind] || kind} of ${parameters[state.row]}`,
    lines: [{ name: loader, steps: epochs, values: of[state.row].map((value) => (value === null ? undefined : value)), colour: 1 + at, dash: 0 }] })));
  canvas.addEventListener("pointermove", (event) => tell(Math.floor(event.offsetY / CELL), Math.floor(event.offsetX / width)));
  canvas.addEventListener("click", open);
  canvas.addEventListener("keydown", (event) => {
    const [down, over] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] || [0, 0];
    if (event.key === "Enter") open();
    else if (down || over) tell(state.row + down, state.column + over);
    else return;
    event.preventDefault();
  });
  const choose = (event) => {
    state.kind = event.target.value;
    draw();
  };
  // Colours of a canvas do not follow the theme by themselves.
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", draw);
  new MutationObserver(draw).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  requestAnimationFrame(draw);
  return el("figure", { "data-map": loader }, el("figcaption", {}, `gradients by parameter and epoch, ${loader}: `,
    el("select", { "aria-label": "number of the gradients", change: choose }, Object.keys(kinds).map((kind) => el("option", { value: kind, text: NAMES[kind] || kind })))),
    whatWentWrong(told), tip,
    el("div", { class: "heat" }, el("ol", {}, parameters.map((name) => el("li", { title: name, text: name }))), canvas),
    el("p", { class: "soft", text: `epochs ${epochs[0]} to ${epochs[epochs.length - 1]}, from left to right` }),
    out ? el("p", { class: "soft", text: `${out} further parameters are left out.` }) : null,
    fewer ? el("p", { class: "soft", text: `${fewer} further epochs are left out, evenly.` }) : null, chart);
}

/** Say which parameters went wrong in which epochs, the letters of the cells among it. */
function whatWentWrong({ troubles }) {
  if (!troubles.length) return null;
  const found = new Map();
  for (const [name, epoch, text] of troubles) {
    for (const kind of text.split(" ")) {
      const of = found.get(kind) || new Map();
      of.set(name, [...(of.get(name) || []), epoch]);
      found.set(kind, of);
    }
  }
  return el("ul", { class: "troubles" }, [...found].map(([kind, of]) => {
    const [letter, meaning] = TROUBLES[kind] || ["?", kind];
    const names = [...of].map(([name, epochs]) => `${name} (${epochs.length > 1 ? `${epochs.length} epochs from ${Math.min(...epochs)}` : `epoch ${epochs[0]}`})`);
    const more = names.length > 6 ? ` and ${names.length - 6} more` : "";
    return el("li", { "data-trouble": kind }, el("strong", { text: `${letter} ` }), `${meaning}: ${names.slice(0, 6).join(", ")}${more}`);
  }));
}

function paint(canvas, rows, { width, scale, troubleOf }) {
  const pen = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  const ink = style.getPropertyValue("--r-heat").trim() || "11, 92, 173";
  const bad = style.getPropertyValue("--r-bad").trim() || "#b3261e";
  const map = scale ? (value) => value : Math.log10;
  const known = rows.flat().filter((value) => isNumber(value) && (scale || value > 0)).map(map);
  const [low, high] = scale || [known.reduce((a, b) => Math.min(a, b), Infinity), known.reduce((a, b) => Math.max(a, b), -Infinity)];
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.font = "bold 11px sans-serif";
  pen.textAlign = "center";
  rows.forEach((row, r) => row.forEach((value, c) => {
    const trouble = troubleOf(r, c).split(" ")[0];
    if (value !== null) {
      const share = !isNumber(value) || (!scale && value <= 0) ? 0 : high > low ? (map(value) - low) / (high - low) : 1;
      pen.fillStyle = isNumber(value) ? `rgba(${ink}, ${0.08 + 0.92 * share})` : bad;
      pen.fillRect(c * width, r * CELL, width - (width > 6 ? 1 : 0), CELL - 1);
    }
    if (!trouble) return;
    pen.fillStyle = bad;
    if (width >= 9) {
      // On a ground of its own, as a letter on a strong colour is not read.
      pen.fillStyle = style.getPropertyValue("--r-card").trim() || "#fff";
      pen.fillRect(c * width + width / 2 - 6, r * CELL + 1, 11, CELL - 3);
      pen.fillStyle = bad;
      pen.fillText((TROUBLES[trouble] || ["?"])[0], c * width + width / 2 - 0.5, r * CELL + 11);
    } else pen.fillRect(c * width, r * CELL, width, 4);
  }));
}
