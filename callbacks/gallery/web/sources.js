/** Where the gallery gets samples from: documents that are in the page, or the server of TensorBoard. */

import { aggregate } from "./aggregates.js";
import { OwnMarks, lasting, ofLoader } from "./marks.js";
import { facets, lowered, query } from "./query.js";
import { decodeTable, takeRows } from "./tables.js";

const MOST_HERE = 200_000; // samples whose whole table the browser takes
const KEPT_TABLES = 4; // of one epoch each

/** What both sources do in the browser. */
class Source {
  constructor(name) {
    this.own = new OwnMarks(name);
    this.mayMark = false;
    this.whyNotMark = "";
  }

  /** Return {total, table}: how many samples fit, and the table of the page that is asked for. */
  async query(run, loader, epoch, asked) {
    const table = await this.table(run, loader, epoch);
    const { total, rows } = query(table, asked, await this.marksOf(run, loader));
    return { total, table: takeRows(table, rows) };
  }

  async aggregate(run, loader, epoch, kind, options, filters) {
    return aggregate(await this.table(run, loader, epoch), kind, options, filters, await this.marksOf(run, loader));
  }

  async facets(run, loader, epoch, filters) {
    return facets(await this.table(run, loader, epoch), filters, await this.marksOf(run, loader));
  }

  /** Return the marks that hold: saved ones, and those that only this browser has. */
  async marks(run) {
    return lasting([...(await this.savedMarks(run)), ...this.own.read(run)]);
  }

  async marksOf(run, loader) {
    return ofLoader(await this.marks(run), loader);
  }

  /** Add marks; without the right to save them they are kept in the browser. */
  async mark(run, marks) {
    this.own.add(run, marks);
  }

  async savedMarks() {
    return [];
  }
}

/** Documents of a report: `data.runs[].loaders[]` of {document, curves, samples, thumbnails}. */
export class LocalSource extends Source {
  constructor(data) {
    super(typeof location === "undefined" ? "" : location.pathname);
    this.data = data;
    this.isLive = false;
    this.whyNotMark = "this page is a file: download the marks and put them beside the run";
    this.decoded = new Map();
  }

  async runs() {
    const runs = this.data.runs.map(({ run, loaders }) => ({
      run,
      loaders: (loaders || []).map(({ document, thumbnails }) => ({
        loader: document.loader,
        task: document.task,
        count: document.count,
        // Only the last epoch's table is in the page.
        epochs: [document.epoch],
        classes: document.classes,
        thumbnails: thumbnails ? thumbnails.index.length : 0,
      })),
    }));
    return { may_mark: false, why_not: this.whyNotMark, runs };
  }

  async table(run, loader) {
    const key = JSON.stringify([run, loader]);
    if (!this.decoded.has(key)) {
      const { document, thumbnails } = this.#of(run, loader);
      const table = decodeTable(document);
      table.epochs = [document.epoch];
      // Of the run's thumbnails the page may hold some.
      const pictured = new Set(thumbnails ? thumbnails.index : []);
      table.columns.pictured = Uint8Array.from(table.columns.index, (index) => (pictured.has(index) ? 1 : 0));
      this.decoded.set(key, table);
      // Ready before somebody types.
      setTimeout(() => lowered(table), 300);
    }
    return this.decoded.get(key);
  }

  async curves(run, loader, indices) {
    return takeCurves(this.#of(run, loader).curves, indices);
  }

  async sample(run, loader, index) {
    const { samples, thumbnails } = this.#of(run, loader);
    const kinds = [];
    (thumbnails?.index || []).forEach((of, place) => {
      if (of === index) kinds.push(thumbnails.kind[place]);
    });
    const told = samples?.[index] || { id: null, file: null, mean_probability: null, mean_classes: null };
    return { ...told, kinds, curves: await this.curves(run, loader, [index]) };
  }

  thumbnailUrl(run, loader, index, kind = "image") {
    const entry = this.#of(run, loader);
    if (!entry.thumbnails) return null;
    entry.pictures ??= new Map(
      entry.thumbnails.index.map((of, place) => [`${of} ${entry.thumbnails.kind[place]}`, entry.thumbnails.jpeg[place]])
    );
    const jpeg = entry.pictures.get(`${index} ${kind}`);
    return jpeg ? `data:image/jpeg;base64,${jpeg}` : null;
  }

  async compare(run, other, loader) {
    return joined(await this.table(run, loader), await this.table(other, loader));
  }

  #of(run, loader) {
    const found = this.data.runs.find((one) => one.run === run)?.loaders.find((one) => one.document.loader === loader);
    if (!found) throw new Error(`there are no samples of ${loader} of ${run} in this page`);
    return found;
  }
}

/** The routes of the plug-in below an address. */
export class ServerSource extends Source {
  constructor(base) {
    super(typeof location === "undefined" ? base : location.pathname);
    this.base = base.endsWith("/") ? base : `${base}/`;
    this.isLive = true;
    this.tables = new Map();
    this.saved = new Map();
    this.counts = new Map();
    this.tasks = new Map();
  }

  async runs() {
    const found = await this.#get("runs");
    this.mayMark = Boolean(found.may_mark);
    this.whyNotMark = found.why_not || "";
    for (const { run, loaders } of found.runs) {
      for (const { loader, count, task } of loaders) {
        this.counts.set(JSON.stringify([run, loader]), count);
        this.tasks.set(JSON.stringify([run, loader]), task);
      }
    }
    return found;
  }

  table(run, loader, epoch) {
    const key = JSON.stringify([run, loader, epoch]);
    if (!this.tables.has(key)) {
      const loaded = this.#get("table", { run, loader, epoch }).then(decodeTable);
      // Ready before somebody types.
      loaded.then((table) => setTimeout(() => lowered(table), 300), () => {});
      loaded.catch(() => this.tables.delete(key));
      this.tables.set(key, loaded);
      if (this.tables.size > KEPT_TABLES) this.tables.delete(this.tables.keys().next().value);
    }
    return this.tables.get(key);
  }

  /** Forget what a run that goes on may have changed. */
  forget() {
    this.tables.clear();
    this.saved.clear();
  }

  async query(run, loader, epoch, asked) {
    if (!this.#isForServer(run, loader, asked.filters)) return super.query(run, loader, epoch, asked);
    const q = JSON.stringify({ ...asked, filters: await this.#withIds(run, loader, asked.filters) });
    const { total, table } = await this.#get("query", { run, loader, epoch, q });
    return { total, table: decodeTable(table) };
  }

  async aggregate(run, loader, epoch, kind, options, filters) {
    // The table does not hold the probability of every class.
    const isOfClass = kind === "precision_recall" && this.tasks.get(JSON.stringify([run, loader])) !== "binary";
    if (!isOfClass && !this.#isForServer(run, loader, filters)) return super.aggregate(run, loader, epoch, kind, options, filters);
    const asked = await this.#withIds(run, loader, filters);
    return this.#get("aggregate", {
      run, loader, epoch, kind, options: JSON.stringify(options || {}), filters: JSON.stringify(asked),
    });
  }

  async facets(run, loader, epoch, filters) {
    if (!this.#isForServer(run, loader, filters)) return super.facets(run, loader, epoch, filters);
    // The server knows the marks that are saved there.
    const { change, ...rest } = filters || {};
    const asked = JSON.stringify(this.mayMark ? rest : await this.#withIds(run, loader, rest));
    const { total, all, ...found } = await this.#get("facets", { run, loader, epoch, filters: asked });
    const counts = Object.entries(found).map(([name, pairs]) => [name, new Map(pairs)]);
    return { total, all, change: new Map(), ...Object.fromEntries(counts) };
  }

  curves(run, loader, indices) {
    return this.#get("curves", { run, loader, index: [...indices].join(",") });
  }

  sample(run, loader, index) {
    return this.#get("sample", { run, loader, index });
  }

  thumbnailUrl(run, loader, index, kind = "image") {
    return this.#address("thumbnail", { run, loader, index, kind });
  }

  async savedMarks(run) {
    if (!this.saved.has(run)) this.saved.set(run, (await this.#get("marks", { run })).marks);
    return this.saved.get(run);
  }

  async mark(run, marks) {
    if (!this.mayMark) return super.mark(run, marks);
    const answer = await fetch(this.#address("marks", { run }), {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ marks }),
    });
    if (!answer.ok) throw new Error(await whyNot(answer));
    this.saved.set(run, lasting([...(this.saved.get(run) || []), ...marks]));
  }

  async compare(run, other, loader) {
    if (this.#isForServer(run, loader)) throw new Error(`runs are compared up to ${MOST_HERE.toLocaleString("en")} samples`);
    return decodeTable(await this.#get("compare", { run, other, loader }));
  }

  #isForServer(run, loader, filters) {
    const key = JSON.stringify([run, loader]);
    return (this.counts.get(key) || 0) > MOST_HERE || (filters?.class_score !== undefined && this.tasks.get(key) !== "binary");
  }

  async #withIds(run, loader, filters = {}) {
    const { marks, change, ...rest } = filters;
    if (!marks?.length) return rest;
    const marked = [...(await this.marksOf(run, loader)).values()].filter((one) => marks.includes(one.mark));
    const ids = marked.map((one) => one.sample_id).filter((id) => !rest.ids || rest.ids.includes(id));
    return { ...rest, ids };
  }

  async #get(route, query = {}) {
    let answer;
    try {
      answer = await fetch(this.#address(route, query));
    } catch {
      throw new Error("the server does not answer: is TensorBoard still running?");
    }
    if (!answer.ok) throw new Error(await whyNot(answer));
    return answer.json();
  }

  #address(route, query) {
    const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
    const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
    return `${this.base}${route}${text ? `?${text}` : ""}`;
  }
}

async function whyNot(answer) {
  try {
    return (await answer.json()).error || `the server answers ${answer.status}`;
  } catch {
    return `the server answers ${answer.status}`;
  }
}

function takeCurves(curves, indices) {
  if (!curves) return { epochs: [] };
  curves.places ??= new Map(curves.index.map((index, place) => [index, place]));
  const taken = { epochs: curves.epochs };
  for (const name of ["loss", "target_probability", "prediction", "score"]) {
    if (curves[name]) taken[name] = [...indices].map((index) => curves[name][curves.places.get(index)] || null);
  }
  return taken;
}

/** Return the table of the samples that two tables hold, by id; columns of the second end in ".other". */
export function joined(table, other) {
  const places = new Map(other.columns.id.map((id, place) => [id, place]));
  const rows = [...table.columns.id.keys()].filter((row) => places.has(table.columns.id[row]));
  const theirs = takeRows(other, rows.map((row) => places.get(table.columns.id[row])));
  const both = takeRows(table, rows);
  for (const [name, column] of Object.entries(theirs.columns)) {
    const isOfClass = ["target", "prediction", "likely"].includes(name);
    if (name !== "id" && name !== "findings") both.columns[`${name}.other`] = isOfClass ? renumbered(column, table.classes, other.classes) : column;
  }
  return both;
}

/** Return class numbers of the other run as those of the first, by name; -1 of a class that the first does not have. */
function renumbered(column, classes, others) {
  if (!classes || !others || JSON.stringify(classes) === JSON.stringify(others)) return column;
  const numbers = others.map((name) => classes.lastIndexOf(name));
  return column.map((number) => (number >= 0 && number < numbers.length ? numbers[number] : -1));
}
