/** Small drawings as SVG: curves, and charts whose parts are doors to the samples in them. */

import { svg } from "./dom.js";
import { number } from "./tables.js";

/** Return the path of values over places 0 to 1, with gaps where a value is null. */
function pathOf(values, places, low, high, width, height) {
  let path = "";
  let isOpen = false;
  values.forEach((value, place) => {
    if (value === null || !Number.isFinite(value)) {
      isOpen = false;
      return;
    }
    const [x, y] = [places[place] * width, height - ((value - low) / (high - low || 1)) * height];
    path += `${isOpen ? "L" : "M"}${x.toFixed(1)} ${Math.max(0, Math.min(height, y)).toFixed(1)}`;
    // A single value is a dot: a line of no length with round ends.
    if (!isOpen) path += "h0.01";
    isOpen = true;
  });
  return path;
}

const placesOf = (epochs) => {
  const [first, last] = [epochs[0], epochs[epochs.length - 1]];
  return epochs.map((epoch) => (last === first ? 0.5 : (epoch - first) / (last - first)));
};

/** Return a curve for a card. `lines`: of {values, kind}; `at`: the epoch that is shown. */
export function spark(epochs, lines, high, at, title) {
  const [width, height] = [100, 24];
  const places = placesOf(epochs);
  const here = epochs.indexOf(at);
  return svg(
    "svg",
    { class: "a-spark", viewBox: `0 -1 ${width} ${height + 2}`, preserveAspectRatio: "none", role: "img", "aria-label": title },
    svg("title", {}, title),
    here >= 0 && epochs.length > 1 &&
      svg("path", { d: `M${places[here] * width} 0v${height}`, stroke: "var(--a-line)", "vector-effect": "non-scaling-stroke" }),
    lines.map(({ values, kind }) =>
      svg("path", { class: `a-line ${kind}`, d: pathOf(values, places, 0, high, width, height), "stroke-linecap": "round" })
    )
  );
}

/** Return curves with axes. `lines`: of {values, kind, name}; `onEpoch`: told the epoch under the mouse, or null. */
export function curves(epochs, lines, { at, low = 0, high, onEpoch = () => {} }) {
  const [width, height, left, bottom] = [540, 112, 40, 18];
  const [inner, tall] = [width - left - 6, height - bottom - 8];
  const places = placesOf(epochs);
  const known = lines.flatMap(({ values }) => values.filter(Number.isFinite));
  const [least, most] = [Math.min(low, ...known), high ?? Math.max(...known, low + 1e-9)];
  const y = (value) => 6 + tall - ((value - least) / (most - least || 1)) * tall;
  const cursor = svg("path", { class: "cursor", d: "", "stroke-width": 1 });
  const move = (event) => {
    const box = drawing.getBoundingClientRect();
    const share = (((event.clientX - box.left) / box.width) * width - left) / inner;
    const near = places.reduce((best, place, index) => (Math.abs(place - share) < Math.abs(places[best] - share) ? index : best), 0);
    cursor.setAttribute("d", `M${left + places[near] * inner} 6v${tall}`);
    onEpoch(near);
  };
  const leave = () => {
    cursor.setAttribute("d", "");
    onEpoch(null);
  };
  const here = epochs.indexOf(at);
  const label = lines.map(({ name }) => name).join(" and ");
  const drawing = svg(
    "svg",
    { class: "a-chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${label} over epochs`, on: { pointermove: move, pointerleave: leave } },
    [least, most].map((value) => [
      svg("path", { class: "grid", d: `M${left} ${y(value)}h${inner}` }),
      svg("text", { x: left - 5, y: y(value) + 3.5, "text-anchor": "end" }, number(value, 2)),
    ]),
    here >= 0 && svg("path", { class: "axis", d: `M${left + places[here] * inner} 6v${tall}` }),
    svg("g", { transform: `translate(${left} 6)` }, lines.map(({ values, kind }) =>
      svg("path", { class: `a-line ${kind}`, d: pathOf(values, places, least, most, inner, tall), "stroke-linecap": "round" }))),
    [...new Set([0, epochs.length - 1])].map((place) =>
      svg("text", { x: left + places[place] * inner, y: height - 4, "text-anchor": ["start", "end"][place ? 1 : 0] }, `epoch ${epochs[place]}`)),
    cursor
  );
  return drawing;
}

/**
 * Make a drawing a door. One of its parts is under the cursor, by mouse or arrow keys; a click or Enter opens it.
 * `parts`: of {box: [x, y, width, height], told, open}; `move`: from a place and a key to the next place.
 */
function door(drawing, parts, { told, move, cursor }) {
  let place = -1;
  const go = (next) => {
    if (next < 0 || next >= parts.length) return;
    place = next;
    const [x, y, width, height] = parts[place].box;
    for (const [name, value] of Object.entries({ x, y, width, height })) cursor.setAttribute(name, value);
    told(parts[place].told);
  };
  const keys = (event) => {
    if (event.key === "Enter" || event.key === " ") {
      if (place >= 0) parts[place].open();
    } else if (event.key.startsWith("Arrow")) {
      go(place < 0 ? 0 : move(place, event.key));
    } else return;
    event.preventDefault();
  };
  drawing.addEventListener("keydown", keys);
  drawing.addEventListener("focus", () => go(Math.max(place, 0)));
  drawing.addEventListener("pointerleave", () => {
    for (const name of ["width", "height"]) cursor.setAttribute(name, 0);
    told(null);
  });
  return (index) => ({ pointerenter: () => go(index), click: () => parts[index].open() });
}

const cursorBox = () => svg("rect", { class: "cursor", width: 0, height: 0 });

/** Return a confusion matrix. `name`: of a class; `chosen`: [truth, prediction] or null; `open`: of a cell. */
export function matrix({ rows, columns, counts }, { name, chosen, told, open }) {
  const [left, top, size] = [86, 66, 252];
  const side = size / Math.max(rows.length, 1);
  const totals = counts.map((row) => row.reduce((sum, count) => sum + count, 0));
  const parts = [];
  const cursor = cursorBox();
  const drawing = svg("svg", {
    class: "a-chart", viewBox: `0 0 ${left + size + 12} ${top + size + 2}`, tabindex: 0, role: "application",
    "aria-label": "Confusion matrix: truth in rows, prediction in columns; arrow keys move, Enter shows the samples",
  });
  rows.forEach((truth, row) => columns.forEach((guess, column) => {
    const [count, share] = [counts[row][column], totals[row] ? counts[row][column] / totals[row] : 0];
    const of = `${Math.round(share * 1000) / 10}% of this truth`;
    parts.push({
      box: [left + column * side, top + row * side, side, side],
      told: { what: `truth ${name(truth)}, predicted ${name(guess)}`, count, more: of },
      open: () => open(truth, guess),
    });
  }));
  const move = (place, key) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns.length, ArrowUp: -columns.length }[key];
    return (key === "ArrowRight" && (place + 1) % columns.length === 0) || (key === "ArrowLeft" && place % columns.length === 0) ? place : place + step;
  };
  const on = door(drawing, parts, { told, move, cursor });
  const every = Math.ceil(12.5 / side);
  drawing.append(svg("text", { x: left - 6, y: top - 8, "text-anchor": "end", class: "in" }, "truth ↓  predicted →"));
  rows.forEach((truth, row) => {
    if (row % every) return;
    drawing.append(
      svg("text", { x: left - 5, y: top + (row + 0.5) * side + 3.5, "text-anchor": "end" }, short(name(truth), 9)),
      svg("text", { transform: `translate(${left + (row + 0.5) * side + 3.5} ${top - 5}) rotate(-60)` }, short(name(columns[row]), 9))
    );
  });
  drawing.firstChild.setAttribute("y", 10);
  drawing.firstChild.setAttribute("x", 0);
  drawing.firstChild.setAttribute("text-anchor", "start");
  parts.forEach(({ box: [x, y] }, place) => {
    const [row, column] = [Math.floor(place / columns.length), place % columns.length];
    const [count, share] = [counts[row][column], totals[row] ? counts[row][column] / totals[row] : 0];
    drawing.append(
      svg("rect", { class: "hit back", x, y, width: side, height: side, on: on(place), "data-cell": `${rows[row]},${columns[column]}` }),
      count > 0 && svg("rect", { class: row === column ? "right" : "wrong", x: x + 0.5, y: y + 0.5, width: side - 1, height: side - 1,
        "fill-opacity": 0.12 + 0.88 * Math.sqrt(share), "pointer-events": "none" }),
      count > 0 && side > 16 && svg("text", { class: `in${share > 0.35 ? " over" : ""}`, x: x + side / 2, y: y + side / 2 + 3.5, "text-anchor": "middle" },
        count > 9999 ? `${Math.round(count / 1000)}k` : count)
    );
  });
  drawing.append(svg("rect", { class: "axis", x: left, y: top, width: size, height: size, "pointer-events": "none" }));
  const at = chosen ? [rows.indexOf(chosen[0]), columns.indexOf(chosen[1])] : [-1, -1];
  if (at[0] >= 0 && at[1] >= 0) {
    drawing.append(svg("rect", { class: "chosen", x: left + at[1] * side, y: top + at[0] * side, width: side, height: side }));
  }
  drawing.append(cursor);
  return drawing;
}

function short(text, most) {
  const letters = [...text];
  return letters.length > most ? `${letters.slice(0, most - 1).join("")}…` : text;
}

/** Return bars of right, wrong and other samples, stacked. `chosen`: [first, last] edge or null; `open`: of a bin. */
export function histogram({ edges, ranges, right, wrong, unknown }, { named, chosen, told, open }) {
  const [width, height, left, bottom] = [350, 210, 40, 20];
  const [inner, tall] = [width - left - 4, height - bottom - 8];
  const bins = right.length;
  const sums = right.map((count, bin) => count + wrong[bin] + (unknown?.[bin] || 0));
  const most = Math.max(1, ...sums);
  const cursor = cursorBox();
  const drawing = svg("svg", {
    class: "a-chart", viewBox: `0 0 ${width} ${height}`, tabindex: 0, role: "application",
    "aria-label": "Distribution; arrow keys move between bins, Enter shows the samples",
  });
  const x = (bin) => left + (bin / bins) * inner;
  const parts = sums.map((count, bin) => ({
    box: [x(bin), 6, inner / bins, tall],
    told: {
      what: named(ranges[bin]), count,
      more: right[bin] + wrong[bin] ? `${number(right[bin])} right, ${number(wrong[bin])} wrong` : "",
    },
    open: () => open(bin),
  }));
  const move = (place, key) => place + ({ ArrowRight: 1, ArrowLeft: -1 }[key] || 0);
  const on = door(drawing, parts, { told, move, cursor });
  drawing.append(svg("path", { class: "grid", d: `M${left} 6h${inner}` }), svg("text", { x: left - 5, y: 10, "text-anchor": "end" }, number(most)));
  sums.forEach((_, bin) => {
    let from = 6 + tall;
    drawing.append(svg("rect", { class: "hit back", x: x(bin), y: 6, width: inner / bins, height: tall, on: on(bin), "data-bin": bin }));
    for (const [kind, counts] of [["wrong", wrong], ["right", right], ["plain", unknown || []]]) {
      const part = ((counts[bin] || 0) / most) * tall;
      from -= part;
      if (part) drawing.append(svg("rect", { class: kind, x: x(bin) + 0.5, y: from, width: inner / bins - 1, height: part, "pointer-events": "none" }));
    }
  });
  drawing.append(svg("path", { class: "axis", d: `M${left} ${6 + tall}h${inner}` }));
  [...new Set([0, Math.floor(bins / 2), bins])].forEach((edge) =>
    drawing.append(svg("text", { x: x(edge), y: height - 5, "text-anchor": edge === 0 ? "start" : edge === bins ? "end" : "middle" }, number(edges[edge], 2))));
  if (chosen) {
    const [from, to] = chosen.map((value) => left + Math.max(0, Math.min(1, (value - edges[0]) / (edges[bins] - edges[0]))) * inner);
    drawing.append(svg("rect", { class: "chosen", x: from, y: 6, width: Math.max(2, to - from), height: tall }));
  }
  drawing.append(cursor);
  return drawing;
}

/** Return precision over recall. `chosen`: a threshold or null; `open`: of a threshold. */
export function tradeOff(points, { chosen, told, open }) {
  const [size, left, bottom] = [350, 42, 30];
  const [inner, tall] = [size - left - 8, 260 - bottom - 8];
  const [x, y] = [(recall) => left + recall * inner, (precision) => 6 + (1 - precision) * tall];
  const cursor = cursorBox();
  const drawing = svg("svg", {
    class: "a-chart", viewBox: `0 0 ${size} 260`, tabindex: 0, role: "application",
    "aria-label": "Precision over recall; arrow keys move between thresholds, Enter shows the samples",
  });
  const parts = points.map(({ threshold, precision, recall }) => ({
    box: [x(recall) - 5, y(precision) - 5, 10, 10],
    told: { what: `threshold ${number(threshold, 4)}`, count: null, more: `precision ${number(precision, 3)}, recall ${number(recall, 3)}` },
    open: () => open(threshold),
  }));
  const on = door(drawing, parts, { told, move: (place, key) => place + (["ArrowRight", "ArrowUp"].includes(key) ? 1 : -1), cursor });
  for (const share of [0, 0.5, 1]) {
    drawing.append(
      svg("path", { class: "grid", d: `M${left} ${y(share)}h${inner}M${x(share)} 6v${tall}` }),
      svg("text", { x: left - 5, y: y(share) + 3.5, "text-anchor": "end" }, share),
      svg("text", { x: x(share), y: 244, "text-anchor": "middle" }, share)
    );
  }
  drawing.append(
    svg("text", { x: left + inner / 2, y: 257, "text-anchor": "middle" }, "recall"),
    svg("text", { transform: `translate(10 ${6 + tall / 2}) rotate(-90)`, "text-anchor": "middle" }, "precision"),
    svg("path", { class: "a-line own", d: points.map((point, place) => `${place ? "L" : "M"}${x(point.recall).toFixed(1)} ${y(point.precision).toFixed(1)}`).join("") })
  );
  points.forEach((point, place) => drawing.append(
    svg("circle", { class: "point", cx: x(point.recall), cy: y(point.precision), r: 2, "pointer-events": "none" }),
    svg("circle", { class: "hit", cx: x(point.recall), cy: y(point.precision), r: 6, fill: "transparent", on: on(place), "data-threshold": point.threshold })
  ));
  const near = chosen === null ? null : points.reduce((best, point) => (Math.abs(point.threshold - chosen) < Math.abs(best.threshold - chosen) ? point : best), points[0]);
  if (near) drawing.append(svg("circle", { class: "chosen", cx: x(near.recall), cy: y(near.precision), r: 6 }));
  drawing.append(cursor);
  return drawing;
}

/**
 * Return a map of counts in two directions; a region is dragged, or chosen by Shift and arrow keys, which Enter opens.
 * `chosen`: [[x from, to], [y from, to]] or null; `open`: of the first and last bin in each direction.
 */
export function density({ x_edges: xEdges, y_edges: yEdges, counts }, { names, chosen, told, open }) {
  const [width, height, left, bottom] = [350, 300, 50, 30];
  const [inner, tall] = [width - left - 8, height - bottom - 8];
  const [across, upward] = [xEdges.length - 1, yEdges.length - 1];
  const most = Math.max(1, ...counts.map((row) => Math.max(...row)));
  const drawing = svg("svg", {
    class: "a-chart", viewBox: `0 0 ${width} ${height}`, tabindex: 0, role: "application",
    "aria-label": `${names[1]} over ${names[0]}; drag over a region, or move by arrow keys and widen with Shift, Enter shows the samples`,
  });
  const x = (bin) => left + (bin / across) * inner;
  const y = (bin) => 6 + tall - (bin / upward) * tall;
  for (const [place, edges, position] of [[0, xEdges, x], [1, yEdges, y]]) {
    const bins = edges.length - 1;
    for (const bin of [0, bins / 2, bins]) {
      const value = number(edges[0] + ((edges[bins] - edges[0]) * bin) / bins, 2);
      drawing.append(place
        ? svg("text", { x: left - 5, y: position(bin) + 3.5, "text-anchor": "end" }, value)
        : svg("text", { x: position(bin), y: height - 16, "text-anchor": bin === bins ? "end" : "middle" }, value));
    }
  }
  drawing.append(
    svg("rect", { class: "back", x: left, y: 6, width: inner, height: tall, "data-plot": true }),
    svg("text", { x: left + inner / 2, y: height - 3, "text-anchor": "middle" }, names[0]),
    svg("text", { transform: `translate(10 ${6 + tall / 2}) rotate(-90)`, "text-anchor": "middle" }, names[1])
  );
  counts.forEach((row, up) => row.forEach((count, over) => {
    if (count) {
      drawing.append(svg("rect", { class: "right", x: x(over), y: y(up + 1), width: inner / across + 0.3, height: tall / upward + 0.3,
        "fill-opacity": 0.25 + 0.75 * (Math.log1p(count) / Math.log1p(most)), "pointer-events": "none" }));
    }
  }));
  drawing.append(svg("rect", { class: "axis", x: left, y: 6, width: inner, height: tall, "pointer-events": "none" }));
  const region = svg("rect", { class: "region", width: 0, height: 0 });
  drawing.append(region);
  if (chosen) {
    const part = (edges, value, bins) => Math.max(0, Math.min(bins, ((value - edges[0]) / (edges[bins] - edges[0])) * bins));
    const [[x0, x1], [y0, y1]] = chosen;
    const [a, b, c, d] = [part(xEdges, x0, across), part(xEdges, x1, across), part(yEdges, y0, upward), part(yEdges, y1, upward)];
    drawing.append(svg("rect", { class: "chosen", x: x(a), y: y(d), width: x(b) - x(a), height: y(c) - y(d) }));
  }
  select(drawing, { across, upward, left, inner, tall, width, height }, (from, to) => {
    const [x0, x1] = [from[0], to[0]].sort((one, other) => one - other);
    const [y0, y1] = [from[1], to[1]].sort((one, other) => one - other);
    for (const [name, value] of Object.entries({ x: x(x0), y: y(y1 + 1), width: x(x1 + 1) - x(x0), height: y(y0) - y(y1 + 1) })) region.setAttribute(name, value);
    let count = 0;
    for (let up = y0; up <= y1; up += 1) for (let over = x0; over <= x1; over += 1) count += counts[up][over];
    told({ what: `${names[0]} ${number(xEdges[x0], 2)} to ${number(xEdges[x1 + 1], 2)}, ${names[1]} ${number(yEdges[y0], 2)} to ${number(yEdges[y1 + 1], 2)}`, count, more: "" });
    return () => open([x0, x1], [y0, y1]);
  });
  return drawing;
}

/** Follow a drag or keys over a grid of bins; `mark` shows a region and returns how to open it. */
function select(drawing, { across, upward, left, inner, tall, width, height }, mark) {
  let [from, at, isDragging] = [null, null, false];
  const bin = (event) => {
    const box = drawing.getBoundingClientRect();
    const [px, py] = [((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height];
    const inside = (share, bins) => Math.max(0, Math.min(bins - 1, Math.floor(share * bins)));
    return [inside((px - left) / inner, across), inside(1 - (py - 6) / tall, upward)];
  };
  drawing.addEventListener("pointerdown", (event) => {
    drawing.setPointerCapture?.(event.pointerId);
    from = at = bin(event);
    isDragging = true;
    mark(from, at);
  });
  drawing.addEventListener("pointermove", (event) => {
    at = bin(event);
    mark(isDragging ? from : at, at);
  });
  drawing.addEventListener("pointerup", (event) => {
    if (!isDragging) return;
    isDragging = false;
    mark(from, bin(event))();
  });
  drawing.addEventListener("keydown", (event) => {
    const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (step) {
      at = at ? [Math.max(0, Math.min(across - 1, at[0] + step[0])), Math.max(0, Math.min(upward - 1, at[1] + step[1]))] : [0, 0];
      if (!event.shiftKey || !from) from = at;
      mark(from, at);
    } else if (event.key === "Enter" && at) mark(from || at, at)();
    else return;
    event.preventDefault();
  });
}
