/** What the charts show, counted in the browser from a table; the server counts the same for tables too large for it. */

import { matching } from "./query.js";
import { floatBelow, floatFrom, isKnown } from "./tables.js";

const MOST_CLASSES = 50;
const MOST_POINTS = 200;
const SHARES = new Set(["probability", "target_probability", "confidence", "score"]); // from 0 to 1

/** Return the counts of a kind; `options` and what is returned are those of the route "aggregate". */
export function aggregate(table, kind, options, filters, marks) {
  const rows = matching(table, filters, marks);
  const kinds = { confusion, distribution, precision_recall: precisionRecall, scatter };
  if (!kinds[kind]) throw new Error(`there is no chart ${kind}`);
  return kinds[kind](table, rows, options || {});
}

/** Return {rows, columns, counts, left_out}: of classes in the data and predicted ones. */
function confusion(table, rows) {
  const { target, prediction } = table.columns;
  if (!target || !prediction) return { rows: [], columns: [], counts: [], left_out: 0 };
  const counts = new Map();
  const errors = new Map();
  for (const row of rows) {
    const [truth, guess] = [target[row], prediction[row]];
    if (truth < 0 || guess < 0) continue;
    const key = truth * 1e6 + guess;
    counts.set(key, (counts.get(key) || 0) + 1);
    for (const one of [truth, guess]) errors.set(one, (errors.get(one) || 0) + (truth === guess ? 0 : 1));
  }
  const present = [...errors.keys()].sort((one, other) => errors.get(other) - errors.get(one) || one - other);
  const classes = present.slice(0, MOST_CLASSES).sort((one, other) => one - other);
  const cells = classes.map((truth) => classes.map((guess) => counts.get(truth * 1e6 + guess) || 0));
  return { rows: classes, columns: classes, counts: cells, left_out: present.length - classes.length };
}

/** Return {edges, right, wrong, unknown}: of a column; a bin includes its lower edge, the last one both. */
function distribution(table, rows, { column = "probability", bins = 20 }) {
  const values = table.columns[column];
  const edges = edgesOf(table, rows, column, bins);
  const [right, wrong, unknown] = [0, 1, 2].map(() => new Array(edges.length - 1).fill(0));
  const { correct } = table.columns;
  for (const row of rows) {
    if (!isKnown(column, values[row])) continue;
    const bin = binOf(edges, values[row]);
    (correct?.[row] === 1 ? right : correct?.[row] === 0 ? wrong : unknown)[bin] += 1;
  }
  return { edges, right, wrong, unknown };
}

function edgesOf(table, rows, column, bins) {
  const values = table.columns[column];
  if (values === undefined || Array.isArray(values)) throw new Error(`there is no column of numbers ${column}`);
  let [low, high] = SHARES.has(column) ? [0, 1] : [Infinity, -Infinity];
  if (low > high) {
    for (const row of rows) {
      if (Number.isFinite(values[row]) && isKnown(column, values[row])) {
        low = Math.min(low, values[row]);
        high = Math.max(high, values[row]);
      }
    }
  }
  if (low > high) [low, high] = [0, 1];
  if (low === high) high = low + 1;
  return Array.from({ length: bins + 1 }, (_, place) => (place === bins ? high : low + ((high - low) * place) / bins));
}

function binOf(edges, value) {
  const bins = edges.length - 1;
  let bin = Math.floor(((value - edges[0]) / (edges[bins] - edges[0])) * bins);
  bin = Math.max(0, Math.min(bins - 1, bin));
  // The division rounds; the edges decide.
  while (bin > 0 && value < edges[bin]) bin -= 1;
  while (bin < bins - 1 && value >= edges[bin + 1]) bin += 1;
  return bin;
}

/** Return the range of a bin as a filter, both ends of which are included. */
export function rangeOfBin(edges, first, last = first) {
  const isLast = last === edges.length - 2;
  return [floatFrom(edges[first]), isLast ? null : floatBelow(edges[last + 1])];
}

/** Return {x_edges, y_edges, counts}: counts[y][x]. */
function scatter(table, rows, { x = "variability", y = "confidence", bins = 60 }) {
  const [xs, ys] = [table.columns[x], table.columns[y]];
  const [xEdges, yEdges] = [edgesOf(table, rows, x, bins), edgesOf(table, rows, y, bins)];
  const counts = yEdges.slice(1).map(() => new Array(bins).fill(0));
  for (const row of rows) {
    if (isKnown(x, xs[row]) && isKnown(y, ys[row])) counts[binOf(yEdges, ys[row])][binOf(xEdges, xs[row])] += 1;
  }
  return { x_edges: xEdges, y_edges: yEdges, counts };
}

/**
 * Return {points, least}: points of {threshold, precision, recall} of a class, of this epoch, thresholds descending.
 * The table holds the probability of the truth and of the prediction. With two classes that is that of each class. With
 * more, that of a class which is neither is unknown, but at most 0.5: so thresholds begin there (`least`).
 */
function precisionRecall(table, rows, options) {
  const of = options.class ?? 1;
  const { target, prediction, probability, target_probability: ofTruth } = table.columns;
  if (!target || !prediction || !probability || !ofTruth) return { points: [], least: null };
  const isBinary = table.task === "binary" || table.classes?.length === 2;
  const found = [];
  let positives = 0;
  for (const row of rows) {
    if (target[row] < 0 || prediction[row] < 0 || !isKnown("probability", ofTruth[row])) continue;
    const isOf = target[row] === of;
    positives += isOf ? 1 : 0;
    const score = isOf ? ofTruth[row] : isBinary ? 1 - ofTruth[row] : prediction[row] === of ? probability[row] : 0;
    if (isBinary || score > 0.5) found.push([score, isOf]);
  }
  found.sort((one, other) => other[0] - one[0]);
  const points = [];
  let hits = 0;
  found.forEach(([score, isOf], place) => {
    hits += isOf ? 1 : 0;
    if (place + 1 < found.length && found[place + 1][0] === score) return;
    points.push({ threshold: score, precision: hits / (place + 1), recall: positives ? hits / positives : 0 });
  });
  return { points: thinned(points), least: isBinary ? 0 : 0.5 };
}

function thinned(points) {
  if (points.length <= MOST_POINTS) return points;
  const step = (points.length - 1) / (MOST_POINTS - 1);
  return Array.from({ length: MOST_POINTS }, (_, place) => points[Math.round(place * step)]);
}
