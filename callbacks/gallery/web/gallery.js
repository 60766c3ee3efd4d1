/** The gallery: filters on the left, samples in the middle, charts on the right. */

import { pageAddress, stateOf, textOf } from "./address.js";
import { drawCards, drawSparks, moveInGrid } from "./cards.js";
import { drawDoors } from "./doors.js";
import { download, el, put } from "./dom.js";
import { drawChips, drawFilters } from "./filters.js";
import { drawBar, drawFoot, drawHead, drawThinned } from "./head.js";
import { csvOf, ofLoader } from "./marks.js";
import { drawDetails, drawMarks, drawSheet, markByKey } from "./sheet.js";
import { useStyle } from "./style.js";
import { bothView, epochView } from "./view.js";

const PAGE = 60;
const SOON_MS = 150; // after the last letter that is typed
const NEWS_MS = 30_000; // between looks for new epochs
const FRESH = { run: "", loader: "", other: null, epoch: null, filters: {}, sort: null, descending: false, page: 0, door: null, open: null };

/**
 * Show the samples of a source in an element.
 * `options`: `address`, with read() and write(text), null: the view is not kept in an address; `height`, as in CSS;
 * `run` and `loader` to begin with. Returns {set, state, ready, close}; `ready` is a promise of the first view.
 */
export function mount(element, source, options = {}) {
  useStyle();
  const gallery = new Gallery(element, source, { address: pageAddress, height: "100vh", ...options });
  gallery.ready = gallery.begin();
  return gallery;
}

class Gallery {
  constructor(element, source, options) {
    Object.assign(this, { source, options, runs: [], table: null, page: null, facets: null, view: null, total: 0 });
    this.state = { ...FRESH };
    this.marks = new Map();
    this.found = new Map();
    this.folded = new Set(["ranges"]);
    this.charts = { column: null, x: null, y: null, class: null, threshold: null, kind: "false" };
    Object.assign(this, { kind: "image", allClasses: false, label: "", openPlace: null, details: null, turn: 0, doorTurn: 0 });
    this.parts = Object.fromEntries(["head", "said", "side", "main", "doors"].map((name) => [name, el("div", { class: `a-${name}` })]));
    const { head, said, side, main, doors } = this.parts;
    side.setAttribute("role", "search");
    side.setAttribute("aria-label", "Filters");
    doors.setAttribute("role", "complementary");
    doors.setAttribute("aria-label", "Charts");
    said.setAttribute("role", "alert");
    said.hidden = true;
    Object.assign(this.parts, {
      bar: el("div", { class: "a-bar" }), chips: el("ul", { class: "a-chips", "aria-label": "Active filters" }),
      grid: el("div", { class: "a-grid", role: "group", "data-scroll": "grid", on: { keydown: (event) => this.keys(event) } }),
      foot: el("div", { class: "a-foot" }),
      dialog: el("dialog", { tabIndex: -1, on: { close: () => this.closed(), keydown: (event) => this.sheetKeys(event), click: (event) => event.target === this.parts.dialog && this.close() } }),
    });
    const press = (isPressed) => () => (this.isPressed = isPressed);
    addEventListener("pointerdown", press(true), { capture: true });
    for (const event of ["pointerup", "pointercancel"]) addEventListener(event, press(false), { capture: true });
    put(main, this.parts.bar, this.parts.chips, this.parts.grid, this.parts.foot);
    this.root = el("div", { class: "assay", style: `height: ${options.height}` }, head, said, side, main, doors, this.parts.dialog);
    element.append(this.root);
  }

  async begin() {
    const { address, run, loader } = this.options;
    Object.assign(this.state, { run: run || "", loader: loader || "" }, address ? stateOf(address.read()) : {});
    await this.guard(async () => {
      await this.readRuns();
      await this.load();
    });
    if (this.source.isLive) this.timer = setInterval(() => this.lookForNews(), NEWS_MS);
    // Another tab of this browser has marked.
    this.onStorage = (event) => event.key === this.source.own.keyOf(this.state.run) && this.info && this.guard(() => this.load());
    addEventListener("storage", this.onStorage);
  }

  /** Stop, and take the gallery off the page. */
  remove() {
    clearInterval(this.timer);
    removeEventListener("storage", this.onStorage);
    this.root.remove();
  }

  async readRuns() {
    const { runs } = await this.source.runs();
    this.runs = runs.filter((one) => one.loaders.length);
    const { run: asked, loader: of, epoch, other } = this.state;
    const run = this.runs.find((one) => one.run === asked) || this.runs[this.runs.length - 1];
    if (!run) return;
    const loader = run.loaders.find((one) => one.loader === of) || run.loaders.find((one) => one.loader === "valid") || run.loaders[0];
    Object.assign(this.state, { run: run.run, loader: loader.loader });
    const gone = [];
    if (asked && run.run !== asked) gone.push(`run ${asked}`);
    else if (of && loader.loader !== of) gone.push(`loader ${of}`);
    if (epoch !== null && !loader.epochs.includes(epoch)) gone.push(`epoch ${epoch}`);
    if (other && !this.others().includes(other)) gone.push(`${loader.loader} of run ${other}`);
    if (gone.length) this.notice = `${gone.join(" and ")} ${gone.length > 1 ? "are" : "is"} not here or no longer: this is what there is.`;
    if (!loader.epochs.includes(epoch)) this.state.epoch = null;
    if (!this.others().includes(other)) this.state.other = null;
  }

  /** What the source told of the loader that is open. */
  get info() {
    return this.runs.find((one) => one.run === this.state.run)?.loaders.find((one) => one.loader === this.state.loader) || null;
  }

  /** Return the runs that have the open loader too. */
  others() {
    return this.runs.filter((one) => one.run !== this.state.run && one.loaders.some((of) => of.loader === this.state.loader)).map((one) => one.run);
  }

  /** Change the state and draw what follows from it; `soon`: after a while, as long as someone types. */
  set(changes, { soon = false } = {}) {
    Object.assign(this.state, changes);
    clearTimeout(this.waiting);
    if (soon) this.waiting = setTimeout(() => this.guard(() => this.load()), SOON_MS);
    else return this.guard(() => this.load());
  }

  /** Open another loader or run: what was chosen of the one before does not hold. */
  choose(changes) {
    this.view = null;
    this.turn += 1;
    this.doorTurn += 1;
    Object.assign(this.state, { open: null, page: 0 }, changes);
    return this.guard(async () => {
      await this.readRuns();
      await this.load();
    });
  }

  /** Change settings of the charts, and the state where given. */
  chart(changes, state = null) {
    Object.assign(this.charts, changes);
    return state ? this.set(state) : this.guard(() => this.drawDoors());
  }

  /** Get and draw what the state asks for, unless something newer is asked for meanwhile. */
  async load() {
    const turn = (this.turn += 1);
    try {
      await this.loadAt(turn);
    } catch (error) {
      if (turn === this.turn) throw error;
    }
  }

  async loadAt(turn) {
    this.drawHead();
    if (!this.info) return this.drawNothing();
    this.parts.grid.classList.add("busy");
    const { state } = this;
    const view = await this.viewNow();
    const { filters, sort, descending } = state;
    const [marks, { total, table, facets, ...ordered }] = await Promise.all([
      this.source.marks(state.run), view.page({ filters, sort, descending, offset: state.page * PAGE, limit: PAGE })]);
    await this.released();
    if (turn !== this.turn) return;
    Object.assign(this, { allMarks: marks, marks: ofLoader(marks, state.loader), facets, page: table, table, total, ordered, curves: null, otherCurves: null });
    this.followOpen();
    this.draw();
    await Promise.all([this.drawCurves(view, table, turn), this.drawDoors()]);
    if (turn === this.turn && state.open !== null && this.openPlace === null) this.openIndex(state.open);
  }

  /** Draw the curves of a page into its cards, which need not wait for them. */
  async drawCurves(view, page, turn) {
    if (!page.count) return;
    const [curves, otherCurves] = await view.curves(page);
    if (turn !== this.turn) return;
    Object.assign(this, { curves, otherCurves });
    drawSparks(this.parts.grid, this);
    drawThinned(this.parts.bar, this);
    if (otherCurves && this.openPlace !== null) this.redrawDetails();
  }

  /** Return what is looked at, which is made anew where something else is. */
  async viewNow() {
    const { run, loader, epoch, other } = this.state;
    const key = JSON.stringify([run, loader, epoch, other]);
    if (!this.view || this.view.key !== key) {
      try {
        this.view = other ? await bothView(this.source, this.state, () => this.source.marksOf(run, loader)) : epochView(this.source, this.state);
      } catch (error) {
        // Without the other run there is something to see.
        this.state.other = null;
        this.drawHead();
        throw error;
      }
      this.view.key = key;
    }
    return this.view;
  }

  draw() {
    const { parts, root } = this;
    this.parts.grid.classList.remove("busy");
    keeping(root, () => {
      root.classList.toggle("no-shots", this.info.thumbnails === 0);
      drawHead(parts.head, this);
      drawFilters(parts.side, this);
      drawBar(parts.bar, this);
      drawChips(parts.chips, this);
      if (this.page.count) drawCards(parts.grid, this);
      else this.drawNothing();
      drawFoot(parts.foot, this, PAGE);
    });
    this.options.address?.write(textOf(this.state));
  }

  drawHead() {
    keeping(this.root, () => drawHead(this.parts.head, this));
  }

  drawFilters() {
    keeping(this.root, () => drawFilters(this.parts.side, this));
  }

  async drawDoors() {
    const turn = (this.doorTurn += 1);
    const fresh = el("div", { class: "a-door" });
    try {
      await drawDoors(fresh, this);
      await this.released();
    } catch (error) {
      if (turn === this.doorTurn) throw error;
    }
    if (turn === this.doorTurn) keeping(this.root, () => put(this.parts.doors, fresh));
  }

  /** Wait while a button of the mouse is down: what is drawn anew between press and release takes no click. */
  async released() {
    // A release outside of the frame is not told.
    for (let tries = 0; this.isPressed && tries < 50; tries += 1) await new Promise((resolve) => setTimeout(resolve, 20));
  }

  /** Say why there is nothing. */
  drawNothing() {
    const [title, text] = !this.info
      ? ["No samples yet", "A run with the callback SampleHistory writes them after each epoch, below its folder samples."]
      : this.facets?.all === 0 && this.state.other
        ? ["No sample is in both runs", "Samples are the same where their ids are."]
        : this.facets?.all === 0
          ? ["No samples in this epoch", "Choose another epoch or loader."]
          : ["No sample fits these filters", "Remove one of them above."];
    put(this.parts.grid, el("div", { class: "a-empty" }, el("strong", {}, title), text));
    this.parts.grid.classList.remove("busy");
  }

  open(place) {
    if (!(place in this.page.columns.id)) return;
    Object.assign(this, { openPlace: place, details: null, allClasses: false, label: "" });
    this.state.open = this.page.columns.index[place];
    this.redrawSheet();
    const { dialog } = this.parts;
    if (!dialog.open) {
      dialog.showModal();
      dialog.focus();
    }
    this.options.address?.write(textOf(this.state));
    const { run, loader } = this.state;
    const show = async (details) => {
      await this.released();
      if (this.openPlace !== place) return;
      this.details = details;
      this.redrawDetails();
    };
    return this.source.sample(run, loader, this.state.open).then(show, (error) => show({ error: error.message }));
  }

  /** Find the open sample on a new page, or close it: else a key would mark another one than is shown. */
  followOpen() {
    if (this.openPlace === null) return;
    const place = [...this.page.columns.index].indexOf(this.state.open);
    if (place >= 0) this.openPlace = place;
    else {
      this.openPlace = null;
      this.close();
    }
  }

  openIndex(index) {
    const place = [...this.page.columns.index].indexOf(index);
    if (place >= 0) return this.open(place);
    this.state.open = null;
  }

  redrawSheet() {
    keeping(this.parts.dialog, () => drawSheet(this.parts.dialog, this, this.openPlace, this.details));
  }

  redrawDetails() {
    keeping(this.parts.dialog, () => drawDetails(this.parts.dialog, this, this.openPlace, this.details));
  }

  showKind(kind) {
    this.kind = kind;
    this.redrawDetails();
  }

  showAllClasses() {
    this.allClasses = true;
    this.redrawDetails();
  }

  close() {
    this.parts.dialog.close();
  }

  closed() {
    const card = this.parts.grid.querySelector(`[data-place="${this.openPlace}"]`);
    Object.assign(this, { openPlace: null, details: null });
    this.state.open = null;
    this.options.address?.write(textOf(this.state));
    card?.focus();
  }

  /** Mark a sample of the page; an empty mark takes it back. */
  mark(place, mark, label = "") {
    const one = { loader: this.state.loader, sample_id: this.page.columns.id[place], mark, label };
    return this.guard(async () => {
      await this.source.mark(this.state.run, [one]);
      await this.load();
      if (this.openPlace !== null) keeping(this.parts.dialog, () => drawMarks(this.parts.dialog, this, this.openPlace));
    });
  }

  downloadMarks() {
    download("marks.csv", csvOf(this.allMarks || []));
  }

  keys(event) {
    if (event.target.closest(".a-card") === null) return;
    const place = Number(event.target.dataset.place);
    if (event.key === "Enter" || event.key === " ") this.open(place);
    else if (!moveInGrid(this.parts.grid, event) && !markByKey(this, place, event)) return;
    event.preventDefault();
  }

  sheetKeys(event) {
    if (event.target.closest("select, input")) return;
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) this.open(this.openPlace + step);
    else if (!markByKey(this, this.openPlace, event)) return;
    event.preventDefault();
  }

  /** Look for new epochs of a run that goes on, while nobody looks at an older one. */
  async lookForNews() {
    if (document.hidden || this.openPlace !== null) return;
    const before = JSON.stringify(this.runs);
    await this.guard(async () => {
      await this.readRuns();
      const isNew = JSON.stringify(this.runs) !== before;
      if (isNew) {
        this.source.forget();
        this.view = null;
      }
      if (isNew || (this.info && (await this.source.lookForMarks(this.state.run)))) await this.load();
    });
  }

  /** Do something, and say in a line what went wrong. */
  async guard(act) {
    try {
      await act();
      this.parts.said.hidden = !this.notice;
      if (this.notice) this.say(this.notice, "Close", () => (this.parts.said.hidden = true));
      this.notice = "";
    } catch (error) {
      this.parts.grid.classList.remove("busy");
      const again = () => this.choose({ page: this.state.page, open: this.state.open });
      this.say(error.message || String(error), "Try again", again);
    }
  }

  /** Say something in a line, with a button. */
  say(text, label, click) {
    put(this.parts.said, el("span", {}, text), el("button", { type: "button", class: "a-button", on: { click } }, label));
    this.parts.said.hidden = false;
  }
}

/** Draw anew, and keep the focus, the text cursor and what was scrolled to. */
function keeping(root, draw) {
  const key = (element) => element?.dataset?.key;
  const active = root.contains(document.activeElement) ? document.activeElement : null;
  const focused = key(active);
  const selection = active instanceof HTMLInputElement && active.type === "search" ? [active.selectionStart, active.selectionEnd] : null;
  const scrolled = new Map([...root.querySelectorAll("[data-scroll]")].map((one) => [one.dataset.scroll, one.scrollTop]));
  draw();
  for (const one of root.querySelectorAll("[data-scroll]")) if (scrolled.has(one.dataset.scroll)) one.scrollTop = scrolled.get(one.dataset.scroll);
  if (focused === undefined || document.activeElement === active) return;
  const next = [...root.querySelectorAll("[data-key]")].find((one) => key(one) === focused);
  next?.focus({ preventScroll: true });
  if (selection && next) next.setSelectionRange(...selection);
}
