/** Where the gallery gets samples from: documents that are in the page, or the server of TensorBoard. */

import { aggregate } from "./aggregates.js";
import { OwnMarks, lasting, ofLoader } from "./marks.js";
import { facets, lowered, query } from "./query.js";
import { decodeColumn, decodeTable, takeRows } from "./tables.js";

const MOST_HERE = 200_000; // samples whose whole table the browser takes
const KEPT_TABLES = 4; // of one epoch each
const KEPT_HERE = 12; // tables of a page
const PREPARE_MS = 600; // after the last page that the server was asked for
const LONGEST_ADDRESS = 1500; // letters that each proxy lets through; a longer question is posted
const POSTED = new Set(["query", "aggregate", "facets", "compare"]);

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

  /** Return {total, table, facets, sort, descending}: a page, the counts of choices, and the order that the page has. */
  async page(run, loader, epoch, asked) {
    const table = await this.table(run, loader, epoch);
    return pageOf(table, asked, await this.marksOf(run, loader));
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

/** Return what a source's `page` does, of a table that is here. */
export function pageOf(table, asked, marks) {
  const counts = facets(table, asked.filters, marks);
  const order = asked.sort ? { sort: asked.sort, descending: Boolean(asked.descending) } : usualOrder(table, counts);
  const { total, rows } = query(table, { ...asked, ...order }, marks);
  return { total, table: takeRows(table, rows), facets: counts, ...order };
}

/** Return {sort, descending} where nobody chose: of two runs by what changed, suspects first, or the worst. */
function usualOrder({ task, columns }, counts) {
  if (columns.change) return { sort: "change", descending: false };
  if (counts.groups.get("suspect") > 0) return { sort: "suspect_rank", descending: false };
  const isScored = task === "segmentation" || task === "detection";
  return { sort: isScored ? "score" : "loss", descending: !isScored };
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
      loaders: (loaders || []).map(({ document, epochs, thumbnails }) => ({
        loader: document.loader,
        task: document.task,
        count: document.count,
        epochs: [...(epochs?.numbers || []), document.epoch],
        left_out: document.left_out || 0,
        epochs_left_out: epochs?.left_out || 0,
        classes: document.classes,
        thumbnails: thumbnails ? thumbnails.index.length : 0,
      })),
    }));
    return { may_mark: false, why_not: this.whyNotMark, runs };
  }

  async table(run, loader, epoch = null) {
    const { document, epochs } = this.#of(run, loader);
    const place = epochs ? epochs.numbers.indexOf(epoch) : -1;
    if (place < 0) return this.#last(run, loader);
    const key = JSON.stringify([run, loader, epoch]);
    if (!this.decoded.has(key)) {
      const whole = this.#last(run, loader);
      const { columns, seen } = epochs.tables[place];
      const changed = Object.entries(columns).map(([name, column]) => [name, decodeColumn(column)]);
      const table = { ...whole, epoch, columns: { ...whole.columns, ...Object.fromEntries(changed) }, places: undefined, lowered: undefined };
      const shown = seen ? decodeColumn({ type: "uint8", data: seen }) : null;
      this.decoded.set(key, shown ? takeRows(table, [...shown.keys()].filter((row) => shown[row])) : table);
      if (this.decoded.size > KEPT_HERE) this.decoded.delete([...this.decoded.keys()].find((one) => JSON.parse(one).length > 2));
    }
    return this.decoded.get(key);
  }

  #last(run, loader) {
    const key = JSON.stringify([run, loader]);
    if (!this.decoded.has(key)) {
      const { document, epochs, thumbnails } = this.#of(run, loader);
      const table = decodeTable(document);
      table.epochs = [...(epochs?.numbers || []), document.epoch];
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
  /** `runs`: the first answer of the route of this name, or null. */
  constructor(base, runs = null) {
    super(typeof location === "undefined" ? base : location.pathname);
    this.first = runs;
    this.base = base.endsWith("/") ? base : `${base}/`;
    this.isLive = true;
    this.tables = new Map();
    this.here = new Set();
    this.saved = new Map();
    this.counts = new Map();
    this.tasks = new Map();
  }

  async runs() {
    const first = this.first;
    this.first = null;
    const found = await this.#answer(() => first || fetch(this.#address("runs")));
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
      loaded.then((table) => {
        if (this.tables.get(key) === loaded) this.here.add(key);
        setTimeout(() => lowered(table), 300);
      }, () => this.tables.delete(key));
      this.tables.set(key, loaded);
      if (this.tables.size > KEPT_TABLES) this.#drop(this.tables.keys().next().value);
    }
    return this.tables.get(key);
  }

  #drop(key) {
    this.tables.delete(key);
    this.here.delete(key);
  }

  /** Get the whole table soon, where it is small enough, so that the browser filters and sorts by itself from then on. */
  #prepare(run, loader, epoch) {
    clearTimeout(this.preparing);
    if (!this.#isSmall(run, loader)) return;
    this.preparing = setTimeout(() => this.table(run, loader, epoch).catch(() => {}), PREPARE_MS);
  }

  /** Forget what a run that goes on may have changed. */
  forget() {
    this.tables.clear();
    this.here.clear();
    this.saved.clear();
  }

  async query(run, loader, epoch, asked) {
    if (!this.#isForServer(run, loader, epoch, asked.filters)) return super.query(run, loader, epoch, asked);
    const { total, table } = await this.#get("query", this.#question(run, loader, epoch, asked));
    return { total, table: decodeTable(table) };
  }

  async page(run, loader, epoch, asked) {
    if (!this.#isForServer(run, loader, epoch, asked.filters)) return super.page(run, loader, epoch, asked);
    const found = await this.#get("query", { ...this.#question(run, loader, epoch, { ...asked, sort: asked.sort || "usual" }), with: "facets" });
    this.#prepare(run, loader, epoch);
    return { ...found, table: decodeTable(found.table), facets: countsOf(found.facets) };
  }

  /** Whether the server compares two runs, as one has more samples than the browser takes. */
  isForServer(run, other, loader) {
    return !this.#isSmall(run, loader) || !this.#isSmall(other, loader);
  }

  async pageOfBoth(run, other, loader, asked) {
    const q = JSON.stringify({ ...asked, sort: asked.sort || "usual" });
    const found = await this.#get("query", { run, other, loader, q, with: "facets", ...this.#ownMarks(run, loader) });
    return { ...found, table: decodeTable(found.table), facets: countsOf(found.facets) };
  }

  aggregateOfBoth(run, other, loader, kind, options, filters) {
    return this.#get("aggregate", { run, other, loader, kind, options: JSON.stringify(options || {}), filters: JSON.stringify(filters || {}), ...this.#ownMarks(run, loader) });
  }

  #question(run, loader, epoch, asked) {
    const { change, ...filters } = asked.filters || {};
    return { run, loader, epoch, q: JSON.stringify({ ...asked, filters }), ...this.#ownMarks(run, loader) };
  }

  async aggregate(run, loader, epoch, kind, options, filters) {
    // The table does not hold the probability of every class.
    const isOfClass = kind === "precision_recall" && this.tasks.get(JSON.stringify([run, loader])) !== "binary";
    if (!isOfClass && !this.#isForServer(run, loader, epoch, filters)) return super.aggregate(run, loader, epoch, kind, options, filters);
    const { change, ...asked } = filters || {};
    return this.#get("aggregate", {
      run, loader, epoch, kind, options: JSON.stringify(options || {}), filters: JSON.stringify(asked), ...this.#ownMarks(run, loader),
    });
  }

  async facets(run, loader, epoch, filters) {
    if (!this.#isForServer(run, loader, epoch, filters)) return super.facets(run, loader, epoch, filters);
    const { change, ...asked } = filters || {};
    return countsOf(await this.#get("facets", { run, loader, epoch, filters: JSON.stringify(asked), ...this.#ownMarks(run, loader) }));
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

  savedMarks(run) {
    if (!this.saved.has(run)) {
      const asked = this.#get("marks", { run }).then(({ marks }) => marks);
      asked.catch(() => this.saved.delete(run));
      this.saved.set(run, asked);
    }
    return this.saved.get(run);
  }

  /** Look for marks that others have saved; return whether there are some. */
  async lookForMarks(run) {
    const before = JSON.stringify(await this.marks(run));
    this.saved.delete(run);
    return JSON.stringify(await this.marks(run)) !== before;
  }

  async mark(run, marks) {
    if (!this.mayMark) return super.mark(run, marks);
    const answer = await fetch(this.#address("marks", { run }), {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ marks }),
    });
    if (!answer.ok) throw new Error(await whyNot(answer));
    // With those that others have saved meanwhile.
    this.saved.set(run, Promise.resolve((await answer.json()).marks));
  }

  async compare(run, other, loader) {
    return decodeTable(await this.#get("compare", { run, other, loader }));
  }

  #isSmall(run, loader) {
    return (this.counts.get(JSON.stringify([run, loader])) || 0) <= MOST_HERE;
  }

  #isForServer(run, loader, epoch, filters) {
    if (!this.#isSmall(run, loader) || !this.here.has(JSON.stringify([run, loader, epoch]))) return true;
    return filters?.class_score !== undefined && this.tasks.get(JSON.stringify([run, loader])) !== "binary";
  }

  /** Return the marks that only this browser has, for the server, which knows the saved ones. */
  #ownMarks(run, loader) {
    const own = this.own.read(run).filter((one) => one.loader === loader).map((one) => [one.sample_id, one.mark]);
    return own.length ? { own: JSON.stringify(Object.fromEntries(own)) } : {};
  }

  #get(route, query = {}) {
    const address = this.#address(route, query);
    const isLong = POSTED.has(route) && address.length > LONGEST_ADDRESS;
    return this.#answer(() => (isLong ? fetch(this.#address(route), { method: "POST", body: parameters(query) }) : fetch(address)));
  }

  async #answer(ask) {
    let answer;
    try {
      answer = await ask();
    } catch {
      throw new Error("the server does not answer: is TensorBoard still running?");
    }
    if (!answer.ok) throw new Error(await whyNot(answer));
    return answer.json();
  }

  #address(route, query = {}) {
    const text = parameters(query).toString();
    return `${this.base}${route}${text ? `?${text}` : ""}`;
  }
}

function countsOf({ total, all, ...found }) {
  const counts = Object.entries(found).map(([name, pairs]) => [name, new Map(pairs)]);
  return { total, all, ...Object.fromEntries(counts) };
}

function parameters(query) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  return new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
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
  const taken = { epochs: curves.epochs, epochs_left_out: curves.epochs_left_out || 0 };
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
    const isOfClass = ["target", "prediction", "likely", "suspect_label"].includes(name);
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
