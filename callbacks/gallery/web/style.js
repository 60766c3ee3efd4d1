/** How the gallery looks. Colours are variables of the page, so that a report shares them. */

import { el } from "./dom.js";

// Okabe and Ito's blue and vermilion are apart for all kinds of eyes; lighter ones of the same hues on dark.
const LIGHT = `
  --a-back: #ffffff; --a-side: #f6f7f9; --a-raised: #ffffff; --a-line: #e0e4e9; --a-strong-line: #b9c1cb;
  --a-text: #1b2129; --a-soft: #59636f; --a-faint: #6f7a86;
  --a-accent: #0b62b0; --a-accent-text: #ffffff; --a-tint: #e3effa;
  --a-right: #0b62b0; --a-wrong: #c24e00; --a-wrong-tint: #fdebdf; --a-other: #8a5a9e; --a-picture: #eceff2;
  --a-shadow: 0 1px 2px rgba(16, 24, 40, .08), 0 8px 28px rgba(16, 24, 40, .16); color-scheme: light;`;
const DARK = `
  --a-back: #14181d; --a-side: #191e24; --a-raised: #1e242b; --a-line: #2c343d; --a-strong-line: #4a5561;
  --a-text: #e4e8ec; --a-soft: #a3adb8; --a-faint: #8b96a2;
  --a-accent: #6cb4f0; --a-accent-text: #0c1a27; --a-tint: #1d3347;
  --a-right: #6cb4f0; --a-wrong: #f2955a; --a-wrong-tint: #42291a; --a-other: #c99ddb; --a-picture: #0e1215;
  --a-shadow: 0 1px 2px rgba(0, 0, 0, .4), 0 8px 28px rgba(0, 0, 0, .5); color-scheme: dark;`;

const RULES = `
:root { ${LIGHT} }
@media (prefers-color-scheme: dark) { :root:not([data-theme=light]) { ${DARK} } }
:root[data-theme=dark] { ${DARK} }

.assay { box-sizing: border-box; display: grid; grid-template: auto auto minmax(0, 1fr) / 236px minmax(0, 1fr) 372px;
  grid-template-areas: "head head head" "said said said" "side main door"; height: 100vh; min-height: 420px;
  background: var(--a-back); color: var(--a-text); font: 13px/1.4 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  font-variant-numeric: tabular-nums; text-align: left; }
.assay.no-side { grid-template-columns: 0 minmax(0, 1fr) 372px; }
.assay.no-door { grid-template-columns: 236px minmax(0, 1fr) 0; }
.assay.no-side.no-door { grid-template-columns: 0 minmax(0, 1fr) 0; }
.assay.no-side .a-side, .assay.no-door .a-doors { display: none; }
.assay *, .assay *::before { box-sizing: border-box; }
.assay [hidden] { display: none !important; }
.assay :where(h2, h3, p, dl, dd, ul) { margin: 0; padding: 0; }
.assay h3, .assay summary { font-size: 12px; font-weight: 600; color: var(--a-soft); }
.assay button, .assay input, .assay select { font: inherit; color: inherit; }
.assay :focus { outline: none; }
.assay :focus-visible { outline: 2px solid var(--a-accent); outline-offset: 1px; }
.a-icon { fill: none; stroke: currentColor; stroke-width: 1.5; stroke-linecap: round; stroke-linejoin: round; flex: none; }
.a-soft { color: var(--a-soft); } .a-wrong { color: var(--a-wrong); } .a-right { color: var(--a-right); }
.a-cut { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.a-unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }

.assay .a-button, .assay select, .assay input[type=text], .assay input[type=search], .assay input[type=number] {
  height: 28px; padding: 0 8px; border: 1px solid var(--a-strong-line); border-radius: 5px; background: var(--a-raised);
  min-width: 0; }
.assay .a-button { display: inline-flex; align-items: center; gap: 5px; cursor: pointer; white-space: nowrap; }
.assay .a-button:hover:not(:disabled) { border-color: var(--a-accent); }
.assay .a-button:disabled { opacity: .45; cursor: default; }
.assay .a-button[aria-pressed=true] { background: var(--a-tint); border-color: var(--a-accent); color: var(--a-accent); }
.assay .a-button.plain { border-color: transparent; background: none; padding: 0 6px; }
.assay .a-button.plain[aria-pressed=true] { background: var(--a-tint); }
.a-segments { display: inline-flex; }
.assay .a-segments .a-button { border-radius: 0; margin-left: -1px; }
.assay .a-segments .a-button:first-child { border-radius: 5px 0 0 5px; margin-left: 0; }
.assay .a-segments .a-button:last-child { border-radius: 0 5px 5px 0; }
.assay .a-segments .a-button[aria-pressed=true] { z-index: 1; position: relative; }
.assay input[type=range], .assay input[type=checkbox] { accent-color: var(--a-accent); margin: 0; }

.a-head { grid-area: head; display: flex; flex-wrap: wrap; align-items: center; gap: 6px 14px; padding: 7px 12px;
  border-bottom: 1px solid var(--a-line); }
.a-head label { display: inline-flex; align-items: center; gap: 6px; color: var(--a-soft); }
.a-head select { max-width: 250px; color: var(--a-text); }
.a-head .a-epoch input { width: 150px; }
.a-head .a-epoch output { color: var(--a-text); min-width: 7.5em; }
.a-head .a-space { flex: 1; }
.a-head .a-tools { display: inline-flex; gap: 2px; }
.a-said { grid-area: said; padding: 6px 12px; background: var(--a-wrong-tint); color: var(--a-text);
  border-bottom: 1px solid var(--a-wrong); display: flex; gap: 12px; align-items: center; overflow-wrap: anywhere; }

.a-side { grid-area: side; overflow: auto; background: var(--a-side); border-right: 1px solid var(--a-line);
  padding: 4px 0 20px; }
.a-side section, .a-side details { padding: 9px 12px 2px; }
.a-side summary { cursor: pointer; list-style-position: outside; margin-left: 12px; }
.a-side h3, .a-side summary { margin-bottom: 4px; }
.a-side .a-segments { display: flex; }
.assay .a-side .a-segments .a-button { padding: 0 4px; gap: 4px; flex: 1 1 auto; justify-content: center; }
.a-side input[type=search] { width: 100%; }
.a-choices { list-style: none; max-height: 252px; overflow: auto; margin: 0 -6px; scrollbar-width: thin; }
.a-choices label { display: flex; align-items: center; gap: 7px; min-height: 24px; padding: 1px 6px; border-radius: 4px;
  cursor: pointer; }
.a-choices label:hover { background: var(--a-line); }
.a-choices label.none { color: var(--a-faint); }
.a-choices .a-cut { flex: 1; }
.a-choices .count { color: var(--a-soft); font-size: 12px; }
.a-side .a-find { margin-bottom: 4px; }
.a-ranges { display: grid; grid-template-columns: minmax(0, 1fr) 62px 62px; gap: 4px; align-items: center; }
.assay .a-ranges input { padding: 0 4px; height: 26px; width: 100%; appearance: textfield; }
.a-ranges .a-cut { color: var(--a-soft); }

.a-main { grid-area: main; display: flex; flex-direction: column; min-width: 0; }
.a-bar { display: flex; align-items: center; gap: 6px 12px; padding: 8px 12px; flex-wrap: wrap; }
.a-bar h2 { font-size: 14px; font-weight: 600; }
.a-bar .a-space { flex: 1; } .a-thinned:empty { display: none; }
.a-bar label { display: inline-flex; align-items: center; gap: 6px; color: var(--a-soft); }
.a-bar select { max-width: 180px; color: var(--a-text); }
.a-chips { display: flex; flex-wrap: wrap; gap: 5px; padding: 0 12px 8px; list-style: none; }
.a-chips:empty { display: none; }
.assay .a-chip { display: inline-flex; align-items: center; gap: 4px; height: 24px; padding: 0 5px 0 9px; border: 0;
  border-radius: 12px; background: var(--a-tint); color: var(--a-accent); cursor: pointer; max-width: 300px; }
.assay .a-chip .a-icon { width: 12px; height: 12px; }
.assay .a-chip.all { background: none; color: var(--a-soft); padding: 0 6px; text-decoration: underline; }

.a-grid { flex: 1; overflow: auto; padding: 2px 12px 16px; display: grid; gap: 10px; align-content: start;
  grid-auto-rows: max-content; grid-template-columns: repeat(auto-fill, minmax(var(--a-card, 148px), 1fr)); scrollbar-width: thin; }
.a-grid.busy { opacity: .55; }
.a-empty { grid-column: 1 / -1; padding: 60px 20px; text-align: center; color: var(--a-soft); }
.a-empty strong { display: block; color: var(--a-text); font-size: 15px; margin-bottom: 4px; }
.a-card { display: flex; flex-direction: column; border: 1px solid var(--a-line); border-radius: 6px; cursor: pointer;
  background: var(--a-raised); min-width: 0; overflow: hidden; position: relative; }
.a-card:hover { border-color: var(--a-accent); }
.a-card .a-shot { aspect-ratio: 1; }
.a-shot { position: relative; display: grid; place-items: center; background: var(--a-picture); min-height: 0;
  color: var(--a-faint); overflow: hidden; }
.a-shot img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }
.a-badges { position: absolute; left: 5px; top: 5px; display: flex; gap: 4px; flex-wrap: wrap; z-index: 1; }
.a-badge { padding: 0 6px; border-radius: 3px; font-size: 11px; line-height: 18px; background: rgba(20, 24, 29, .78);
  color: #fff; }
.a-badge.mark { background: var(--a-accent); color: var(--a-accent-text); }
.no-shots .a-card .a-shot { display: none; }
.no-shots .a-badges { position: static; padding: 5px 8px 0; } .no-shots .a-badges:empty { display: none; }
.no-shots .a-facts { order: -1; border-top-width: 3px; }
.a-facts { padding: 5px 8px 6px; display: grid; grid-template-columns: minmax(0, 1fr); gap: 1px; border-top: 2px solid var(--a-line); }
.a-card.wrong .a-facts { border-top-color: var(--a-wrong); }
.a-card.right .a-facts { border-top-color: var(--a-right); }
.a-pair { display: flex; gap: 5px; align-items: baseline; }
.a-pair b { font-weight: 600; flex: 0 1 auto; }
.a-pair .a-cut { max-width: 100%; }
.a-pair .value { margin-left: auto; color: var(--a-soft); font-size: 12px; }
.a-card .a-small { font-size: 11.5px; color: var(--a-soft); }
.a-suspicions { list-style: none; display: grid; gap: 2px; } .assay .a-suspicion { color: var(--a-wrong); white-space: normal; display: -webkit-box; -webkit-line-clamp: 2; -webkit-box-orient: vertical; }
.a-spark-room { height: 24px; } .a-spark { display: block; width: 100%; height: 24px; overflow: visible; }
.a-line { fill: none; stroke: var(--a-soft); stroke-width: 1.4; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.a-line.other { stroke: var(--a-other); stroke-dasharray: 3 2; }
.a-line.own { stroke: var(--a-accent); } .a-line.loss { stroke: var(--a-wrong); }
.a-foot { display: flex; align-items: center; justify-content: center; gap: 10px; padding: 6px 12px;
  border-top: 1px solid var(--a-line); color: var(--a-soft); }

.a-doors { grid-area: door; border-left: 1px solid var(--a-line); background: var(--a-side); overflow: auto; padding: 10px 12px; }
.a-tabs { display: flex; flex-wrap: wrap; gap: 2px 14px; border-bottom: 1px solid var(--a-line); margin-bottom: 10px; }
.assay .a-tab { border: 0; background: none; padding: 4px 0 6px; cursor: pointer; color: var(--a-soft);
  border-bottom: 2px solid transparent; margin-bottom: -1px; }
.assay .a-tab[aria-selected=true] { color: var(--a-text); border-bottom-color: var(--a-accent); font-weight: 600; }
.a-options { display: flex; flex-wrap: wrap; gap: 6px 10px; margin-bottom: 8px; align-items: center; color: var(--a-soft); }
.a-options label { display: inline-flex; gap: 6px; align-items: center; min-width: 0; }
.a-options select { color: var(--a-text); max-width: 210px; }
.a-told { min-height: 37px; color: var(--a-soft); margin-top: 6px; font-size: 12.5px; overflow-wrap: anywhere; }
.a-told b { color: var(--a-text); }
.a-note { color: var(--a-soft); font-size: 12px; margin-top: 4px; }
.a-chart { display: block; width: 100%; height: auto; touch-action: none; }
.a-chart text { fill: var(--a-soft); font-size: 11.5px; }
.a-chart text.in { pointer-events: none; fill: var(--a-text); } .a-chart text.in.over { fill: var(--a-back); }
.a-chart .axis { stroke: var(--a-strong-line); stroke-width: 1; fill: none; }
.a-chart .grid { stroke: var(--a-line); stroke-width: 1; }
.a-chart .hit { cursor: pointer; } .a-chart .back { fill: var(--a-back); }
.a-chart .cursor { fill: none; stroke: var(--a-text); stroke-width: 1.5; pointer-events: none; }
.a-chart .chosen { fill: none; stroke: var(--a-text); stroke-width: 2; pointer-events: none; }
.a-chart .right { fill: var(--a-right); } .a-chart .wrong { fill: var(--a-wrong); } .a-chart .plain { fill: var(--a-soft); }
.a-chart .region { fill: var(--a-accent); fill-opacity: .14; stroke: var(--a-accent); pointer-events: none; }
.a-chart .point { fill: var(--a-accent); }
.a-key { display: flex; gap: 14px; color: var(--a-soft); font-size: 12px; flex-wrap: wrap; }
.a-key i { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 5px; background: var(--a-soft); }
.a-key i.right, .a-key i.own { background: var(--a-right); } .a-key i.wrong, .a-key i.loss { background: var(--a-wrong); }
.a-key i.other { background: var(--a-other); }
.a-quads { display: grid; grid-template-columns: 1fr 1fr; gap: 6px; }
.assay .a-quads .a-button { flex-direction: column; height: auto; padding: 8px; align-items: flex-start; gap: 0; white-space: normal; text-align: left; }
.a-quads + p { margin-top: 8px; }
.a-quads strong { font-size: 20px; font-weight: 600; }

.assay dialog { width: min(1120px, calc(100vw - 32px)); height: min(720px, calc(100vh - 32px)); max-width: none;
  max-height: none; padding: 0; border: 1px solid var(--a-line); border-radius: 8px; background: var(--a-back);
  color: var(--a-text); box-shadow: var(--a-shadow); overflow: hidden; }
.assay dialog:focus-visible { outline: none; }
.assay dialog::backdrop { background: rgba(10, 14, 18, .5); }
.a-sheet { display: grid; grid-template: auto minmax(0, 1fr) auto / minmax(0, 46%) minmax(0, 1fr); height: 100%; }
.a-sheet > header, .a-sheet > footer { grid-column: 1 / -1; display: flex; align-items: center; gap: 8px; padding: 8px 12px; }
.a-sheet > header { border-bottom: 1px solid var(--a-line); } .a-sheet > footer { border-top: 1px solid var(--a-line); flex-wrap: wrap; }
.a-sheet > header h2 { font-size: 15px; font-weight: 600; flex: 1; }
.a-stage { display: flex; flex-direction: column; min-height: 0; padding: 12px; gap: 8px; }
.a-stage .a-shot { flex: 1; border-radius: 4px; }
.a-stage .a-shot img.small { image-rendering: pixelated; }
.a-story { overflow: auto; padding: 12px 14px 16px 4px; display: grid; gap: 14px; align-content: start; scrollbar-width: thin; }
.a-story h3 { margin-bottom: 5px; }
.a-verdict { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 3px 12px; }
.a-verdict dt, .a-known dt { color: var(--a-soft); } .a-verdict dd { font-weight: 600; overflow-wrap: anywhere; }
.a-bars { display: grid; grid-template-columns: minmax(0, 9em) minmax(0, 1fr) 3.6em; gap: 3px 8px; align-items: center; }
.a-bars .bar { height: 12px; background: var(--a-line); border-radius: 2px; overflow: hidden; }
.a-bars .bar i { display: block; height: 100%; background: var(--a-soft); } .a-bars .bar i.right { background: var(--a-right); }
.a-bars .bar i.wrong { background: var(--a-wrong); } .a-bars .value { text-align: right; color: var(--a-soft); }
.a-known { display: grid; grid-template-columns: repeat(auto-fill, minmax(215px, 1fr)); gap: 1px 18px; }
.a-known div { display: flex; justify-content: space-between; gap: 10px; border-bottom: 1px solid var(--a-line); padding: 2px 0; }
.a-known dd { text-align: right; overflow-wrap: anywhere; }
.assay kbd { font: 11px/1 ui-monospace, monospace; border: 1px solid var(--a-strong-line); border-radius: 3px; padding: 1px 4px;
  color: var(--a-soft); background: var(--a-side); }
.a-mono { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 12px; overflow-wrap: anywhere; }

@media (max-width: 1250px) {
  .assay { grid-template-columns: 200px minmax(0, 1fr) 300px; }
  .assay.no-side { grid-template-columns: 0 minmax(0, 1fr) 300px; }
  .assay.no-door { grid-template-columns: 200px minmax(0, 1fr) 0; }
  .a-head select { max-width: 170px; } .a-head .a-epoch input { width: 90px; }
  .a-doors .a-chart text { font-size: 14px; } .a-tabs { gap: 2px 9px; }
  .a-bar label span { display: none; } .assay .a-side .a-segments .a-button { padding: 0 2px; gap: 3px; font-size: 12px; }
}
@media (max-width: 760px) {
  .assay, .assay.no-side, .assay.no-door, .assay.no-side.no-door { grid-template: auto auto auto auto minmax(300px, 1fr) / 1fr;
    grid-template-areas: "head" "said" "door" "side" "main"; height: auto; }
  .a-chart { max-width: 420px; } .a-doors .a-chart text { font-size: 11.5px; }
  .a-sheet { grid-template: auto 40vh minmax(0, 1fr) auto / 1fr; }
}
@media (prefers-reduced-motion: no-preference) { .a-card, .assay .a-button { transition: border-color .12s; } }
`;

const STORED = "assay-theme";

/** Put the rules into the page, once, and follow the theme that was chosen before. */
export function useStyle() {
  if (document.getElementById("assay-style")) return;
  document.head.append(el("style", { id: "assay-style" }, RULES.replaceAll("\n", " ")));
  const follow = () => {
    const theme = stored() || hostTheme();
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  };
  follow();
  watchHost(follow);
}

export function isDark() {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

export function switchTheme() {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem(STORED, theme);
  } catch {
    // A page in a notebook has no storage.
  }
}

function stored() {
  try {
    const theme = localStorage.getItem(STORED);
    return theme === "dark" || theme === "light" ? theme : null;
  } catch {
    return null;
  }
}

/** TensorBoard's page around the frame has a dark mode of its own, a class of its body, which a frame does not inherit. */
function host() {
  try {
    return window.parent !== window && window.parent.document.querySelector("tb-webapp") ? window.parent.document.body : null;
  } catch {
    return null;
  }
}

function hostTheme() {
  const body = host();
  return body && (body.classList.contains("dark-mode") ? "dark" : "light");
}

function watchHost(follow) {
  const body = host();
  if (body) new MutationObserver(follow).observe(body, { attributes: true, attributeFilter: ["class"] });
}
