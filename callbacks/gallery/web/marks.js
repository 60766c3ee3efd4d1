/** Marks that people give to samples: kept in the browser where the server may not save them, and as CSV. */

export const HEADER = "loader,sample_id,mark,label";

/** Return marks as CSV (RFC 4180), as the run's own file marks.csv. */
export function csvOf(marks) {
  // A spreadsheet would run what looks like a formula: an apostrophe before it, which the reader takes away, keeps it a text.
  const safe = (text) => (/^'*[=+\-@\t\r\n]/.test(text) && !/^-?\d+$/.test(text) ? `'${text}` : text);
  const field = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = marks.map(({ loader, sample_id: id, mark, label }) => [loader, id, mark, label ?? ""].map(String).map(safe).map(field));
  return [HEADER, ...lines.map((line) => line.join(","))].join("\n") + "\n";
}

/** Return what holds of marks in their order: the last of a sample counts, and an empty one takes it back. */
export function lasting(marks) {
  const found = new Map();
  for (const one of marks) {
    const key = JSON.stringify([one.loader, one.sample_id]);
    found.delete(key);
    if (one.mark) found.set(key, one);
  }
  return [...found.values()];
}

/** Return a map from id to mark, of the samples of a loader. */
export function ofLoader(marks, loader) {
  return new Map(marks.filter((one) => one.loader === loader).map((one) => [one.sample_id, one]));
}

/** Marks of runs that nobody else sees, in the browser's storage or, where there is none, in memory. */
export class OwnMarks {
  constructor(name) {
    this.name = name;
    this.memory = new Map();
  }

  read(run) {
    try {
      const found = JSON.parse(localStorage.getItem(this.keyOf(run)) || "[]");
      return Array.isArray(found) ? found : [];
    } catch {
      return this.memory.get(run) || [];
    }
  }

  /** Keep more marks of a run. Those that take one back stay: they may take back one that is saved in a file. */
  add(run, marks) {
    const found = new Map();
    for (const one of [...this.read(run), ...marks]) {
      const key = JSON.stringify([one.loader, one.sample_id]);
      found.delete(key);
      found.set(key, one);
    }
    this.memory.set(run, [...found.values()]);
    try {
      localStorage.setItem(this.keyOf(run), JSON.stringify([...found.values()]));
    } catch {
      // A page in a notebook has no storage: memory serves until it is closed.
    }
  }

  /** Where the browser stores the marks of a run. */
  keyOf(run) {
    return `assay-marks ${this.name} ${run}`;
  }
}
