// How the report looks: light and dark as the reader's system is, and black on white in print.

const LIGHT = `
  --r-page: #f6f7f9; --r-card: #ffffff; --r-text: #1b1f24; --r-soft: #5a6572; --r-line: #d8dee6; --r-grid: #e9edf2;
  --r-accent: #0b5cad; --r-good: #17703c; --r-bad: #b3261e; --r-warn: #8a5a00; --r-heat: 11, 92, 173; --r-heat-bad: 194, 80, 10; --r-on-heat: #ffffff;
  --r-1: #0b66c3; --r-2: #c2500a; --r-3: #17804a; --r-4: #8b3fc0; --r-5: #b0213f; --r-6: #0a7d85; --r-7: #7a6200; --r-8: #5a6572;
`;
const DARK = `
  --r-page: #111418; --r-card: #1a1f25; --r-text: #e7ebf0; --r-soft: #a3aebb; --r-line: #343c46; --r-grid: #272e36;
  --r-accent: #7db8ff; --r-good: #6fd493; --r-bad: #ff8f86; --r-warn: #f0bf5a; --r-heat: 125, 184, 255; --r-heat-bad: 255, 160, 92; --r-on-heat: #10151a;
  --r-1: #6fb1ff; --r-2: #ffa05c; --r-3: #6fd493; --r-4: #cf9bff; --r-5: #ff8fa3; --r-6: #5fd3dc; --r-7: #dcc35a; --r-8: #a3aebb;
`;

const REST = `
  body { margin: 0; background: var(--r-page); }
  .report { color: var(--r-text); background: var(--r-page); font: 14px/1.45 system-ui, -apple-system, "Segoe UI", sans-serif; }
  .report > * { max-width: 1320px; margin: 0 auto; padding: 0 24px; box-sizing: border-box; }
  .report h1 { font-size: 24px; margin: 20px 0 2px; overflow-wrap: anywhere; }
  .report section[data-title] > h2 { font-size: 18px; margin: 0 0 12px; }
  .report section[data-title] > h3, .report section[data-title] > div > h3 { font-size: 14px; margin: 16px 0 6px; }
  .report .soft { color: var(--r-soft); }
  .report .good { color: var(--r-good); }
  .report .bad { color: var(--r-bad); }
  .report > nav { position: sticky; top: 0; z-index: 5; background: var(--r-page); border-bottom: 1px solid var(--r-line);
    display: flex; flex-wrap: wrap; gap: 4px; padding-top: 8px; padding-bottom: 8px; max-width: none; }
  .report > nav button, .report .choice button { font: inherit; color: var(--r-accent); background: none; border: 1px solid transparent;
    border-radius: 6px; padding: 3px 9px; cursor: pointer; }
  .report > nav button:hover, .report .choice button[aria-pressed=true] { border-color: var(--r-line); background: var(--r-card); }
  .report :focus-visible { outline: 2px solid var(--r-accent); outline-offset: 1px; }
  .report section[data-title] { background: var(--r-card); border: 1px solid var(--r-line); border-radius: 10px; padding: 18px 20px;
    margin: 16px 0; scroll-margin-top: 92px; }
  .report dl.facts { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 4px 18px; margin: 0; }
  .report dl.facts dt { color: var(--r-soft); }
  .report dl.facts dd { margin: 0; overflow-wrap: anywhere; }
  .report dl.settings { columns: 3; column-gap: 28px; margin: 0; }
  .report dl.settings div { display: flex; justify-content: space-between; gap: 10px; break-inside: avoid;
    border-bottom: 1px solid var(--r-grid); padding: 2px 0; }
  .report dl.settings dt { color: var(--r-soft); }
  .report dl.settings dd { margin: 0; text-align: right; overflow-wrap: anywhere; min-width: 0; }
  .report .scrolls { overflow: auto; max-height: 480px; }
  .report .scrolls table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
  .report .scrolls :is(th, td) { padding: 3px 10px; border-bottom: 1px solid var(--r-grid); text-align: right; vertical-align: top; }
  .report .scrolls th { color: var(--r-soft); font-weight: 600; position: sticky; top: 0; background: var(--r-card); }
  .report .scrolls :is(th, td).text { text-align: left; overflow-wrap: anywhere; }
  .report code { font: 13px/1.4 ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
  .report [data-run] { scroll-margin-top: 92px; }
  .report .scrolls + .charts, .report .scrolls + .pictures, .report section[data-title] > * + .pictures { margin-top: 16px; }
  .report .charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(360px, 1fr)); gap: 14px; }
  .report figure { margin: 0; position: relative; min-width: 0; }
  .report figcaption { font-weight: 600; margin-bottom: 2px; overflow-wrap: anywhere; }
  .report .chart svg { display: block; width: 100%; height: auto; touch-action: pan-y; }
  .report .chart svg text { fill: var(--r-soft); font-size: 11px; }
  .report .legend { display: flex; flex-wrap: wrap; gap: 2px 14px; color: var(--r-soft); font-size: 12px; }
  .report .legend svg { width: 22px; height: 8px; display: inline-block; vertical-align: middle; margin-right: 5px; }
  .report .tip { position: absolute; pointer-events: none; z-index: 4; background: var(--r-card); border: 1px solid var(--r-line);
    border-radius: 6px; padding: 4px 8px; font-size: 12px; box-shadow: 0 2px 8px rgba(0, 0, 0, .2); white-space: nowrap;
    font-variant-numeric: tabular-nums; }
  .report .tip[hidden] { display: none; }
  .report .pictures { display: flex; flex-wrap: wrap; gap: 16px; align-items: flex-start; }
  .report .pictures figure { flex: 0 1 auto; width: min(400px, 100%); }
  .report .pictures img { max-width: 100%; height: auto; border-radius: 4px; display: block; }
  .report .finding { border-left: 4px solid var(--r-soft); padding: 4px 12px; margin: 8px 0; overflow-wrap: anywhere; }
  .report .finding.error { border-color: var(--r-bad); }
  .report .finding.warning { border-color: var(--r-warn); }
  .report .scrolls.confusion td { text-align: center; min-width: 26px; padding: 3px 5px; border: 1px solid var(--r-card); }
  .report .scrolls.confusion th { text-align: center; padding: 3px 5px; max-width: 110px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
  .report .scrolls.confusion tbody th { text-align: right; position: sticky; left: 0; }
  .report .confusion button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; width: 100%; }
  .report .sides { display: flex; flex-wrap: wrap; gap: 24px; align-items: flex-start; }
  .report .sides > * { min-width: 0; max-width: 100%; }
  .report .heat { display: grid; grid-template-columns: minmax(80px, max-content) minmax(0, 1fr); gap: 0 8px; max-height: 520px; overflow: auto; position: relative; }
  .report .heat ol { list-style: none; margin: 0; padding: 0; font: 11px/15px ui-monospace, Menlo, Consolas, monospace; max-width: 340px; }
  .report .heat li { height: 15px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
  .report .heat canvas { display: block; } .report .troubles { margin: 4px 0; padding-left: 18px; } .report .wide { overflow: auto; max-height: 420px; } .report .wide td.text { min-width: 7em; }
  .report button.link { font: inherit; font-weight: 600; color: var(--r-accent); background: none; border: 0; padding: 0;
    cursor: pointer; text-align: left; overflow-wrap: anywhere; max-width: 100%; }
  .report .samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(148px, 1fr)); gap: 10px; }
  .report .sample { border: 1px solid var(--r-line); border-radius: 8px; padding: 8px; min-width: 0; overflow-wrap: anywhere; font-size: 12px; }
  .report .sample img { display: block; width: 100%; height: 110px; object-fit: contain; image-rendering: auto; background: var(--r-page); margin-bottom: 6px; }
  .report .sample.small img { image-rendering: pixelated; }
  .report section[data-title] > details > summary, .report .finding summary { cursor: pointer; color: var(--r-accent); margin: 8px 0; }
  .report .gallery-room { min-height: 400px; position: relative; }
  @media (max-width: 1100px) { .report dl.settings { columns: 2; } .report > * { padding: 0 14px; } }
  @media (max-width: 640px) { .report dl.settings { columns: 1; } .report .charts { grid-template-columns: 1fr; } }
  @media print {
    .report > nav, .report section:has(.gallery-room) { display: none; }
    .report section[data-title] { border: 0; padding: 8px 0; margin: 0; }
    .report .scrolls, .report .heat { max-height: none; overflow: visible; }
    .report figure, .report .finding, .report .sample, .report tr { break-inside: avoid; }
    .report > * { max-width: none; padding: 0; }
    .report { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  }
`;

/** The style sheet. */
export const CSS = `
  :root { color-scheme: light dark; }
  .report { ${LIGHT} }
  body { ${LIGHT} }
  @media (prefers-color-scheme: dark) { :root:not([data-theme=light]) :is(.report, body) { ${DARK} } }
  :root[data-theme=dark] :is(.report, body) { ${DARK} }
  @media print { :root:root:root :is(.report, body) { ${LIGHT} --r-page: #ffffff; color-scheme: light; } }
  ${REST}
`;
