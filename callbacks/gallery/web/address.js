/** What the gallery shows, as a text in the page's address, so that a view can be sent to somebody. */

const KEY = "samples";
const TEXTS = ["run", "loader", "other", "sort", "door"];

/** Return the part of a state that was changed, as a text. */
export function textOf(state) {
  const kept = {};
  for (const [name, value] of Object.entries(state)) {
    const isEmpty = value === null || value === false || value === "" || value === 0 && name === "page";
    if (!isEmpty && !(name === "filters" && Object.keys(value).length === 0)) kept[name] = value;
  }
  return JSON.stringify(kept);
}

/** Return a state from a text that anybody may have written: what is not of the right kind is left out. */
export function stateOf(text) {
  let given;
  try {
    given = JSON.parse(text);
  } catch {
    return {};
  }
  if (given === null || typeof given !== "object") return {};
  const state = {};
  for (const name of TEXTS) if (typeof given[name] === "string") state[name] = given[name];
  for (const name of ["epoch", "page", "open"]) if (Number.isInteger(given[name]) && given[name] >= 0) state[name] = given[name];
  if (typeof given.descending === "boolean") state.descending = given.descending;
  if (given.filters !== null && typeof given.filters === "object") state.filters = filtersOf(given.filters);
  return state;
}

function filtersOf(given) {
  const filters = {};
  const lists = (value, type) => Array.isArray(value) && value.length > 0 && value.every((one) => typeof one === type);
  if (typeof given.text === "string" && given.text) filters.text = given.text;
  if (given.correct === "right" || given.correct === "wrong") filters.correct = given.correct;
  for (const name of ["target", "prediction"]) if (lists(given[name], "number")) filters[name] = given[name];
  for (const name of ["groups", "kinds", "findings", "marks", "ids", "change"]) if (lists(given[name], "string")) filters[name] = given[name];
  const ranges = given.ranges !== null && typeof given.ranges === "object" ? Object.entries(given.ranges) : [];
  const isEnd = (end) => end === null || typeof end === "number";
  const isRange = (range) => Array.isArray(range) && range.length === 2 && range.every(isEnd) && range.some((end) => end !== null);
  const good = ranges.filter(([, range]) => isRange(range));
  if (good.length) filters.ranges = Object.fromEntries(good);
  const score = given.class_score;
  if (score && Number.isInteger(score.class) && isRange(score.range)) filters.class_score = { class: score.class, range: score.range };
  return filters;
}

/** The address of this page. */
export const pageAddress = {
  read: () => new URLSearchParams(location.hash.slice(1)).get(KEY) || "",
  write: (text) => replace(window, `#${new URLSearchParams({ [KEY]: text })}`),
};

/** The address of TensorBoard's page around the frame, which keeps data of a plug-in as p.NAME.KEY after the tab's name. */
export function hostAddress(plugin) {
  const key = `p.${plugin}.view`;
  const outer = () => {
    try {
      return window.parent !== window && window.parent.location.hash !== undefined ? window.parent : null;
    } catch {
      return null;
    }
  };
  return {
    read: () => {
      const page = outer();
      if (!page) return pageAddress.read();
      return new URLSearchParams(page.location.hash.slice(1)).get(key) || "";
    },
    write: (text) => {
      const page = outer();
      if (!page) pageAddress.write(text);
      // Only while its tab is open: another tab's address is not ours.
      else if (page.location.hash.slice(1).split("&")[0] === plugin) {
        replace(page, `#${plugin}&${key}=${encodeURIComponent(text)}`);
      }
    },
  };
}

function replace(page, hash) {
  try {
    page.history.replaceState(page.history.state, "", hash);
  } catch {
    // A page in a notebook has no address of its own.
  }
}
