/** Filters and orders a table in the browser; the server does the same for tables too large for it. */

import { GROUPS, KINDS, unknownOf } from "./tables.js";

const MOST_NUMBERS = 100_000; // between the least and the largest class number, to count them in an array

/**
 * Return how a table fits filters, which are joined by "and": [n] numbers of filters that a row fails, and [n] which one
 * (of a row that fails one), as a place in `names`.
 * `marks`: from id to mark.
 */
export function fit(table, filters, marks = new Map()) {
  const tests = testsOf(table, filters || {}, marks);
  const fails = new Uint8Array(table.count);
  const failing = new Uint8Array(table.count);
  tests.forEach(([, test], place) => {
    for (let row = 0; row < table.count; row += 1) {
      if (!test(row)) {
        fails[row] += 1;
        failing[row] = place;
      }
    }
  });
  return { fails, failing, names: tests.map(([name]) => name) };
}

/** Return the rows that fit, ascending. */
export function matching(table, filters, marks) {
  const { fails } = fit(table, filters, marks);
  const rows = new Uint32Array(table.count);
  let count = 0;
  for (let row = 0; row < table.count; row += 1) {
    rows[count] = row;
    count += fails[row] === 0 ? 1 : 0;
  }
  return rows.slice(0, count);
}

/** Return {total, rows}: all that fit, and the rows of the page in their order. */
export function query(table, asked, marks) {
  const { sort = null, descending = false, offset = 0, limit = 60 } = asked;
  const rows = sorted(table, matching(table, asked.filters, marks), sort, descending);
  return { total: rows.length, rows: rows.slice(offset, offset + limit) };
}

function testsOf(table, filters, marks) {
  const { columns } = table;
  const tests = [];
  if (filters.text) {
    const [part, ids] = [filters.text.toLowerCase(), lowered(table)];
    tests.push(["text", (row) => ids[row].includes(part)]);
  }
  for (const name of ["target", "prediction"]) {
    if (filters[name]?.length) tests.push([name, among(columns[name], filters[name])]);
  }
  if (filters.correct) {
    const wanted = filters.correct === "right" ? 1 : 0;
    tests.push(["correct", (row) => columns.correct !== undefined && columns.correct[row] === wanted]);
  }
  if (filters.groups?.length) {
    const groups = filters.groups.map((name) => columns[name]).filter(Boolean);
    tests.push(["groups", (row) => groups.some((group) => group[row] === 1)]);
  }
  if (filters.kinds?.length) {
    const names = Object.keys(KINDS);
    tests.push(["kinds", among(columns.suspect_kind, filters.kinds.map((kind) => names.indexOf(kind)).filter((code) => code >= 0))]);
  }
  if (filters.findings?.length) {
    const rules = new Set(filters.findings);
    const found = columns.findings || [];
    tests.push(["findings", (row) => Boolean(found[row]) && found[row].split(" ").some((rule) => rules.has(rule))]);
  }
  if (filters.marks?.length) {
    const wanted = new Set(filters.marks);
    tests.push(["marks", (row) => wanted.has(marks.get(columns.id[row])?.mark)]);
  }
  if (filters.ids) tests.push(["ids", among(columns.id, filters.ids)]);
  if (filters.change?.length) tests.push(["change", changed(columns, new Set(filters.change))]);
  for (const [name, range] of Object.entries(filters.ranges || {})) {
    tests.push([`ranges.${name}`, within(columns[name], range)]);
  }
  if (filters.class_score) tests.push(["class_score", within(classScores(table, filters.class_score.class), filters.class_score.range)]);
  return tests;
}

function among(column, values) {
  const wanted = new Set(values);
  return (row) => column !== undefined && wanted.has(column[row]);
}

/**
 * Return the probability of a class for each sample in this epoch, NaN where it is not stored. The table has that of the
 * truth and of the prediction. With two classes each is known. With more, that of a class which is neither is at most 0.5.
 */
export function classScores(table, of) {
  const { target, prediction, probability, target_probability: ofTruth } = table.columns;
  if (!prediction || !probability) return undefined;
  return Float32Array.from(prediction, (guess, row) => {
    if (guess < 0) return NaN;
    if (guess === of) return probability[row];
    if (isBinary(table)) return 1 - probability[row];
    return target?.[row] === of && ofTruth ? ofTruth[row] : NaN;
  });
}

export function isBinary(table) {
  return table.task === "binary" || table.classes?.length === 2;
}

function within(column, [low, high]) {
  const least = low ?? -Infinity;
  const most = high ?? Infinity;
  const unknown = unknownOf(column);
  // NaN is within nothing.
  return (row) => column !== undefined && column[row] !== unknown && column[row] >= least && column[row] <= most;
}

const CLEARLY = 0.05; // by which a score must differ, as it hardly ever stays the same

/**
 * Of two runs: better (right here alone), worse (right there alone), right or wrong in both. Where there is no right and
 * wrong: better or worse by the score of masks and boxes.
 */
export function changed(columns, wanted) {
  const [mine, theirs] = [columns.correct, columns["correct.other"]];
  if (mine === undefined || theirs === undefined) {
    const [here, there] = [columns.score, columns["score.other"]];
    const is = (row) => (wanted.has("better") && here[row] - there[row] > CLEARLY) || (wanted.has("worse") && there[row] - here[row] > CLEARLY);
    return (row) => here !== undefined && there !== undefined && is(row);
  }
  const kinds = { "1,0": "better", "0,1": "worse", "1,1": "right", "0,0": "wrong" };
  return (row) => wanted.has(kinds[`${mine[row]},${theirs[row]}`]);
}

/** Return the ids in lower case; they are made once, which takes as long as a query. */
export function lowered(table) {
  table.lowered ??= table.columns.id.map((id) => id.toLowerCase());
  return table.lowered;
}

/** Return rows in the order of a column: equal values as they were, unknown ones last. */
export function sorted(table, rows, name, descending) {
  const column = name === "id" ? placesOfIds(table) : table.columns[name];
  if (column === undefined || Array.isArray(column)) return rows;
  const [keys, whole, unknown] = [new Float64Array(rows.length), !(column instanceof Float32Array), unknownOf(column)];
  const value = new Float32Array(1);
  const bits = new Int32Array(value.buffer);
  for (let place = 0; place < rows.length; place += 1) {
    const cell = column[rows[place]];
    const isMissing = cell !== cell || cell === unknown;
    let key = cell;
    if (!whole) {
      // The bits of floats are in the order of their values once negative ones are turned; -0 equals 0.
      value[0] = cell === 0 ? 0 : cell;
      key = bits[0] >= 0 ? bits[0] : -2147483648 - bits[0];
    }
    key = isMissing ? 2147483648 : descending ? -key : key;
    // 33 bits of the value and 20 of the place are a whole number that a double holds: no comparing function is called.
    keys[place] = key * 1048576 + place;
  }
  if (rows.length > 1048576) throw new Error("a table of more than 1,048,576 rows is sorted by the server");
  keys.sort();
  const ordered = new Uint32Array(rows.length);
  for (let place = 0; place < rows.length; place += 1) {
    ordered[place] = rows[keys[place] - Math.floor(keys[place] / 1048576) * 1048576];
  }
  return ordered;
}

function placesOfIds(table) {
  if (!table.places) {
    const { id } = table.columns;
    const order = [...id.keys()].sort((one, other) => (id[one] < id[other] ? -1 : id[one] > id[other] ? 1 : 0));
    table.places = new Int32Array(id.length);
    order.forEach((row, place) => (table.places[row] = place));
  }
  return table.places;
}

/**
 * Return how many samples each choice of a filter has, given the other filters:
 * {total, all, correct: {right, wrong}, groups, kinds, target, prediction, findings, marks, change}, each from choice to count.
 */
export function facets(table, filters, marks = new Map()) {
  const { fails, failing, names } = fit(table, filters, marks);
  const { columns, count: size } = table;
  // Rows that fit but for the filter of a name.
  const opened = (name) => {
    const place = names.indexOf(name);
    return (row) => fails[row] === 0 || (fails[row] === 1 && failing[row] === place);
  };
  const counts = (name, choices) => {
    const [found, open] = [new Map(), opened(name)];
    for (let row = 0; row < size; row += 1) {
      if (open(row)) for (const choice of choices(row)) found.set(choice, (found.get(choice) || 0) + 1);
    }
    return found;
  };
  // Of columns with whole numbers, which need no list per row.
  const numbers = (name, column, label = (number) => number) => {
    const [found, open, tally] = [new Map(), opened(name), new Map()];
    if (!column) return found;
    let least = 0;
    let most = 0;
    for (let row = 0; row < size; row += 1) {
      if (column[row] > most) most = column[row];
      if (column[row] < least) least = column[row];
    }
    if (most - least > MOST_NUMBERS) return counts(name, (row) => [label(column[row])]);
    const sums = new Uint32Array(most - least + 1);
    for (let row = 0; row < size; row += 1) if (open(row)) sums[column[row] - least] += 1;
    sums.forEach((sum, place) => sum && tally.set(place + least, sum));
    for (const [number, sum] of tally) if (label(number) !== null) found.set(label(number), sum);
    return found;
  };
  const groups = new Map();
  const inGroups = opened("groups");
  for (const name of Object.keys(GROUPS)) {
    const column = columns[name];
    let sum = 0;
    if (column) for (let row = 0; row < size; row += 1) if (column[row] === 1 && inGroups(row)) sum += 1;
    if (sum) groups.set(name, sum);
  }
  const changes = ["better", "worse", "right", "wrong"];
  const isBoth = columns["correct.other"] || columns["score.other"];
  const change = isBoth ? changes.map((kind) => [kind, changed(columns, new Set([kind]))]) : [];
  let total = 0;
  for (let row = 0; row < size; row += 1) total += fails[row] === 0 ? 1 : 0;
  return {
    total,
    all: size,
    correct: numbers("correct", columns.correct, (value) => ["wrong", "right"][value] || null),
    groups,
    kinds: numbers("kinds", columns.suspect_kind, (code) => Object.keys(KINDS)[code] || null),
    target: numbers("target", columns.target),
    prediction: numbers("prediction", columns.prediction),
    findings: columns.findings ? counts("findings", (row) => (columns.findings[row] ? columns.findings[row].split(" ") : [])) : new Map(),
    marks: marks.size ? counts("marks", (row) => (marks.has(columns.id[row]) ? [marks.get(columns.id[row]).mark] : [])) : new Map(),
    change: isBoth ? counts("change", (row) => change.filter(([, is]) => is(row)).map(([kind]) => kind)) : new Map(),
  };
}
