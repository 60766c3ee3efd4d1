/** Tables of samples: decoded from a document, cut to rows, and what their columns are called. */

const TYPES = { int32: Int32Array, float32: Float32Array, uint8: Uint8Array, int8: Int8Array, int16: Int16Array, uint16: Uint16Array };

/** Return a table: the members of the document, with typed arrays or texts as columns. */
export function decodeTable(document) {
  const columns = {};
  for (const [name, column] of Object.entries(document.columns)) columns[name] = decodeColumn(column);
  return { ...document, columns };
}

/** Return a column as an array of the type that it has in a table, also where it came in fewer bytes. */
export function decodeColumn({ type, data }) {
  if (type === "text") return data;
  if (type === "float16") return Float32Array.from(new Uint16Array(bytesOf(data).buffer), ofHalf);
  const values = new TYPES[type](bytesOf(data).buffer);
  return type === "int8" || type === "int16" ? Int32Array.from(values) : values;
}

/** Return the number that 16 bits stand for (IEEE 754, binary16). */
function ofHalf(bits) {
  const [sign, power, rest] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (power === 0) return sign * rest * 2 ** -24;
  if (power === 31) return rest ? NaN : sign * Infinity;
  return sign * (1 + rest / 1024) * 2 ** (power - 15);
}

function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let place = 0; place < text.length; place += 1) bytes[place] = text.charCodeAt(place);
  return bytes;
}

/** Return a table of some rows. */
export function takeRows(table, rows) {
  const columns = {};
  for (const [name, column] of Object.entries(table.columns)) {
    const taken = Array.isArray(column) ? new Array(rows.length) : new column.constructor(rows.length);
    for (let place = 0; place < rows.length; place += 1) taken[place] = column[rows[place]];
    columns[name] = taken;
  }
  return { ...table, count: rows.length, columns };
}

// Label, what it means, digits after the point (whole numbers: 0).
const LABELS = {
  index: ["number", "Number of the sample in the run's files", 0],
  id: ["id", "Name of the sample", 0],
  target: ["truth", "Class in the data", 0],
  prediction: ["prediction", "Class with the largest probability", 0],
  correct: ["right", "Whether the prediction is the class in the data", 0],
  probability: ["probability", "Probability of the predicted class, 0 to 1", 3],
  target_probability: ["probability of the truth", "Probability of the class in the data, 0 to 1", 3],
  margin: ["margin", "Logit of the class in the data less the largest other; below 0: wrong", 2],
  el2n: ["EL2N", "Distance of the probabilities from a sure and right prediction, 0 to 1.41 (Paul 2021)", 3],
  loss: ["loss", "Loss of the sample in this epoch", 4],
  score: ["score", "IoU of a mask, or average precision of boxes, 0 to 1", 3],
  seen: ["epochs seen", "Number of epochs in which the sample was seen", 0],
  aum: ["mean margin (AUM)", "Area under the margin; lowest for wrong labels (Pleiss 2020)", 2],
  mean_el2n: ["mean EL2N", "EL2N, mean over epochs", 3],
  confidence: ["confidence", "Probability of the truth, mean over epochs", 3],
  variability: ["variability", "Probability of the truth, standard deviation over epochs (Swayamdipta 2020)", 3],
  learned: ["first right in epoch", "First epoch in which the prediction was right", 0],
  forgetting: ["times forgotten", "Right in one epoch and wrong in the next (Toneva 2019)", 0],
  suspect_rank: ["suspect rank", "1: the label that is most surely wrong", 0],
  likely: ["likely label", "Class that the sample probably is", 0],
  suspect_score: ["suspect score", "How sure it is that the label is wrong, 0 to 1; of classes the mean probability of the likely one less that of the truth", 3],
  suspect_kind: ["kind of suspect", "What is probably wrong with the label", 0],
  suspect_label: ["suspected label", "Class of the label that is probably wrong", 0],
  wrong_labels: ["wrong labels", "Number of labels that are predicted wrongly", 0],
  boxes: ["boxes", "Boxes in the data", 0],
  found: ["found boxes", "Boxes of the data that are found", 0],
  missed: ["missed boxes", "Boxes of the data that are not found", 0],
  false: ["false boxes", "Boxes found where the data has none", 0],
  findings: ["findings", "Findings that name the sample", 0],
  change: ["change", "Probability of the truth, or score, less that of the other run", 3],
};

export const GROUPS = {
  suspect: ["Suspects", "The label is probably wrong"],
  stuck: ["Stuck", "Wrong from the start"],
  newly_wrong: ["Newly wrong", "Right in the epoch before, wrong now"],
  forgotten: ["Forgotten", "Was right, and is wrong now"],
  unstable: ["Unstable", "Changes between right and wrong"],
  easy: ["Easy", "Learned in the first epochs, and redundant"],
};

/** What may be wrong with a label, in the order of their numbers, with a meaning. */
export const KINDS = {
  label: ["Wrong label", "The class is probably another one"],
  missing_label: ["Missing label", "A label is probably missing"],
  false_label: ["False label", "A label probably should not be there"],
  region: ["Wrong region", "A region of the mask probably has another class"],
  missing_box: ["Missing box", "Something that is found has no box in the data"],
  false_box: ["False box", "A box of the data is never found"],
  swapped_box: ["Swapped box", "A box is found as another class"],
  duplicate: ["Duplicate", "The same picture has another label elsewhere"],
};
const KIND_NAMES = Object.keys(KINDS);

/** Return the name of the kind of the surest suspect of a row; null: it is no suspect, or of a kind not known here. */
export function kindOf(table, row) {
  return KIND_NAMES[table.columns.suspect_kind?.[row]] || null;
}

/** Return what is suspect of a row as [label, likely label], names of classes or null. */
export function suspectedOf(table, row) {
  const of = (name) => (table.columns[name]?.[row] >= 0 ? nameOfClass(table, table.columns[name][row]) : null);
  return [of("suspect_label"), of("likely")];
}

export const MARKS = { wrong_label: "Wrong label", skip: "Skip", look_again: "Look again" };

const FLAGS = new Set(["suspect", "stuck", "newly_wrong", "forgotten", "unstable", "easy", "pictured", "correct"]);
const CLASSES = new Set(["target", "prediction", "likely", "suspect_label"]);

// What it means that a column has no value, where that is known.
const ABSENT = { learned: "never", suspect_rank: "none", suspect_kind: "none", suspect_label: "none" };

const own = (name) => name.replace(/\.other$/, "");

/** Return the value of a column that stands for "not known": NaN among fractions, -1 among numbers, 255 among flags. */
export function unknownOf(column) {
  return column instanceof Int32Array ? -1 : column instanceof Uint8Array ? 255 : NaN;
}

/** Return whether a row of a column has a value. */
export function isKnown(column, row) {
  const value = column?.[row];
  return value !== undefined && value === value && value !== unknownOf(column);
}

export function labelOf(name) {
  const label = (LABELS[own(name)] || [own(name).replaceAll("_", " ")])[0];
  return name.endsWith(".other") ? `${label} of the other run` : label;
}

export function meaningOf(name) {
  return (LABELS[own(name)] || [])[1] || "";
}

export function nameOfClass(table, number) {
  if (number < 0) return "unknown";
  const names = table.classes;
  return names && number < names.length ? names[number] : String(number);
}

/** Return the value of a row as a text for people. */
export function shown(table, name, row) {
  if (!isKnown(table.columns[name], row)) return ABSENT[own(name)] || "not known";
  return shownValue(table, name, table.columns[name][row]);
}

/** Return a known value of a column as a text for people. */
export function shownValue(table, name, value) {
  if (typeof value === "string") return value;
  if (own(name) === "suspect_kind") return KINDS[KIND_NAMES[value]]?.[0] || String(value);
  if (CLASSES.has(own(name))) return nameOfClass(table, value);
  if (FLAGS.has(own(name))) return value ? "yes" : "no";
  return number(value, (LABELS[own(name)] || [0, 0, 3])[2]);
}

/** Return a number with so many digits after the point; very small and large ones by their power of ten. */
export function number(value, digits = 3) {
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  return (size < 10 ** -digits / 2 || size >= 1e6) ? value.toExponential(1) : value.toFixed(digits);
}

/** Return the columns that a table can be sorted by, or cut to a range: those of numbers that are there. */
export function numbersOf(table) {
  return Object.keys(table.columns).filter(
    (name) => !Array.isArray(table.columns[name]) && !FLAGS.has(own(name)) && !CLASSES.has(own(name)) && own(name) !== "suspect_kind" && name !== "index" && name !== "index.other"
  );
}

/** Return the largest float32 below a number: columns hold float32, and ranges include their ends. */
export function floatBelow(value) {
  const one = new Float32Array([value]);
  if (one[0] < value) return one[0];
  const bits = new Int32Array(one.buffer);
  if (one[0] === 0) bits[0] = -0x7fffffff;
  else bits[0] += one[0] > 0 ? -1 : 1;
  return one[0];
}
