/** What the charts show, counted in the browser from a table; the server counts the same for tables too large for it. */

import { classScores, isBinary, matching } from "./query.js";
import { floatBelow, unknownOf } from "./tables.js";

const MOST_CLASSES = 50;
const MOST_POINTS = 200;
// What is a probability, or the deviation of one, has a scale that all epochs and runs share.
const SCALES = { probability: [0, 1], target_probability: [0, 1], confidence: [0, 1], score: [0, 1], variability: [0, 0.5] };

/** Return the counts of a kind; `options` and what is returned are those of the route "aggregate". */
export function aggregate(table, kind, options, filters, marks) {
  const kinds = { confusion, distribution, precision_recall: precisionRecall, scatter };
  if (!kinds[kind]) throw new Error(`there is no chart ${kind}`);
  return kinds[kind](table, matching(table, filters, marks), options || {});
}

/** Return {rows, columns, counts, left_out}: of classes in the data and predicted ones. */
function confusion(table, rows) {
  const { target, prediction } = table.columns;
  let width = table.classes?.length || 0;
  for (let place = 0; place < rows.length; place += 1) {
    const [truth, guess] = [target[rows[place]], prediction[rows[place]]];
    if (truth >= 0 && guess >= 0) width = Math.max(width, truth + 1, guess + 1);
  }
  const errors = new Float64Array(width);
  const told = rows.filter((row) => target[row] >= 0 && prediction[row] >= 0);
  for (let place = 0; place < told.length; place += 1) {
    const [truth, guess] = [target[told[place]], prediction[told[place]]];
    if (truth !== guess) {
      errors[truth] += 1;
      errors[guess] += 1;
    }
  }
  const classes = [...errors.keys()].sort((one, other) => errors[other] - errors[one] || one - other).slice(0, MOST_CLASSES);
  classes.sort((one, other) => one - other);
  const where = new Int32Array(width).fill(-1);
  classes.forEach((number, at) => (where[number] = at));
  const counts = classes.map(() => new Array(classes.length).fill(0));
  for (let place = 0; place < told.length; place += 1) {
    const [up, over] = [where[target[told[place]]], where[prediction[told[place]]]];
    if (up >= 0 && over >= 0) counts[up][over] += 1;
  }
  return { rows: classes, columns: classes, counts, left_out: width - classes.length };
}

/** Return {edges, ranges, right, wrong, unknown}: of a column; a bin includes its lower edge, the last one both. */
function distribution(table, rows, { column = "probability", bins = 20 }) {
  const values = table.columns[column];
  const edges = edgesOf(values, column, bins);
  const [right, wrong, unknown] = [0, 1, 2].map(() => new Array(edges.length - 1).fill(0));
  const { correct } = table.columns;
  const missing = unknownOf(values);
  for (let place = 0; place < rows.length; place += 1) {
    const [row, value] = [rows[place], values[rows[place]]];
    const bin = value === missing ? -1 : binOf(edges, value);
    if (bin >= 0) (correct?.[row] === 1 ? right : correct?.[row] === 0 ? wrong : unknown)[bin] += 1;
  }
  return { edges, ranges: rangesOf(edges, values), right, wrong, unknown };
}

/** Return the edges of bins: of all samples, so that a filter does not move them, and of numbers the column can hold. */
function edgesOf(values, column, bins) {
  if (values === undefined || Array.isArray(values)) throw new Error(`there is no column of numbers ${column}`);
  let [low, high] = SCALES[column] || [Infinity, -Infinity];
  if (low > high) {
    const missing = unknownOf(values);
    for (let row = 0; row < values.length; row += 1) {
      const value = values[row];
      // NaN is neither below nor above anything.
      if (value === missing || value === Infinity || value === -Infinity) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  if (low > high) [low, high] = [0, 1];
  if (!(values instanceof Float32Array)) {
    // Each whole number is in the middle of its bin, or in a bin with its neighbours.
    const width = Math.max(1, Math.ceil((high - low + 1) / bins));
    return Array.from({ length: Math.ceil((high - low + 1) / width) + 1 }, (_, at) => low - 0.5 + width * at);
  }
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const step = (high - low) / bins;
  const edges = Array.from({ length: bins + 1 }, (_, at) => Math.fround(at === bins ? high : at * step + low));
  return [...new Set(edges)].sort((one, other) => one - other);
}

function binOf(edges, value) {
  const bins = edges.length - 1;
  if (!(value >= edges[0] && value <= edges[bins])) return -1;
  let bin = Math.max(0, Math.min(bins - 1, Math.floor(((value - edges[0]) / (edges[bins] - edges[0])) * bins)));
  // The division rounds; the edges decide.
  while (bin > 0 && value < edges[bin]) bin -= 1;
  while (bin < bins - 1 && value >= edges[bin + 1]) bin += 1;
  return bin;
}

/** Return the lowest and highest value of each bin, which a filter includes. */
function rangesOf(edges, values) {
  const below = values instanceof Float32Array ? floatBelow : (edge) => edge;
  return edges.slice(1).map((edge, bin) => [edges[bin], bin === edges.length - 2 ? edge : below(edge)]);
}

/** Return {x_edges, y_edges, x_ranges, y_ranges, counts}: counts[y][x]. */
function scatter(table, rows, { x = "variability", y = "confidence", bins = 60 }) {
  const [xs, ys] = [table.columns[x], table.columns[y]];
  const [xEdges, yEdges] = [edgesOf(xs, x, bins), edgesOf(ys, y, bins)];
  const counts = yEdges.slice(1).map(() => new Array(xEdges.length - 1).fill(0));
  const [missingX, missingY] = [unknownOf(xs), unknownOf(ys)];
  for (let place = 0; place < rows.length; place += 1) {
    const [valueX, valueY] = [xs[rows[place]], ys[rows[place]]];
    if (valueX === missingX || valueY === missingY) continue;
    const [over, up] = [binOf(xEdges, valueX), binOf(yEdges, valueY)];
    if (over >= 0 && up >= 0) counts[up][over] += 1;
  }
  return { x_edges: xEdges, y_edges: yEdges, x_ranges: rangesOf(xEdges, xs), y_ranges: rangesOf(yEdges, ys), counts };
}

/**
 * Return {points, positives, least, over_epochs}: points of {threshold, precision, recall} of a class in this epoch,
 * thresholds descending, with the samples of at least a threshold taken for the class. With more than two classes
 * thresholds are above `least`, as below it not every probability is stored.
 */
function precisionRecall(table, rows, options) {
  const [of, { target }] = [options.class ?? 1, table.columns];
  const scores = classScores(table, of);
  const least = isBinary(table) ? 0 : 0.5;
  if (!target || !scores) return { points: [], positives: 0, least, over_epochs: false };
  const told = Array.from(rows).filter((row) => target[row] >= 0);
  const positives = told.filter((row) => target[row] === of && scores[row] === scores[row]).length;
  const found = told.filter((row) => scores[row] > least || (least === 0 && scores[row] === 0)).sort((one, other) => scores[other] - scores[one]);
  const points = [];
  let hits = 0;
  found.forEach((row, place) => {
    hits += target[row] === of ? 1 : 0;
    if (place + 1 < found.length && scores[found[place + 1]] === scores[row]) return;
    points.push({ threshold: scores[row], precision: hits / (place + 1), recall: hits / positives });
  });
  return { points: positives ? thinned(points) : [], positives, least, over_epochs: false };
}

function thinned(points) {
  if (points.length <= MOST_POINTS) return points;
  const step = (points.length - 1) / (MOST_POINTS - 1);
  return Array.from({ length: MOST_POINTS }, (_, place) => points[Math.round(place * step)]);
}
