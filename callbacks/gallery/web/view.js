/** What is looked at: an epoch of a loader, or two runs side by side; both answer the same questions. */

import { aggregate } from "./aggregates.js";
import { pageOf } from "./sources.js";

/** An epoch of one run. */
export function epochView(source, { run, loader, epoch }) {
  return {
    page: (asked) => source.page(run, loader, epoch, asked),
    aggregate: (kind, options, filters) => source.aggregate(run, loader, epoch, kind, options, filters),
    curves: async (table) => [await source.curves(run, loader, table.columns.index), null],
  };
}

/** The samples that two runs saw, in the last epoch of each; `marks` returns those of the first. */
export async function bothView(source, { run, other, loader }, marks) {
  if (source.isForServer?.(run, other, loader)) {
    return {
      page: (asked) => source.pageOfBoth(run, other, loader, asked),
      aggregate: (kind, options, filters) => source.aggregateOfBoth(run, other, loader, kind, options, filters),
      curves: (page) => Promise.all([source.curves(run, loader, page.columns.index), source.curves(other, loader, page.columns["index.other"])]),
    };
  }
  const table = withChange(await source.compare(run, other, loader));
  const theirs = table.columns["index.other"];
  return {
    page: async (asked) => pageOf(table, asked, await marks()),
    aggregate: async (kind, options, filters) => aggregate(table, kind, options, filters, await marks()),
    curves: async (page) => Promise.all([
      source.curves(run, loader, page.columns.index),
      theirs ? source.curves(other, loader, page.columns["index.other"]) : null,
    ]),
  };
}

/** Add the column `change`: how much more the first run gives to the truth, by the first number that both have. */
function withChange(table) {
  const { columns } = table;
  if (columns.change) return table;
  const name = ["target_probability", "score"].find((one) => columns[one] && columns[`${one}.other`]);
  if (!name) return table;
  const change = Float32Array.from(columns[name], (value, row) => value - columns[`${name}.other`][row]);
  return { ...table, columns: { ...columns, change } };
}
