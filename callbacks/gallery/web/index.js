/** The tab of TensorBoard. */

const PLUGIN = "assay_samples";
// All at once, as each that is found by reading another one waits for an answer of the server.
const MODULES = ["address", "gallery", "sources", "aggregates", "cards", "charts", "dom", "doors", "filters", "head", "marks", "query", "sheet", "style", "tables", "view"];

const base = new URL(".", import.meta.url).href;
const runs = fetch(`${base}runs`);
runs.catch(() => {}); // is said where it is used
const modules = Promise.all(MODULES.map((name) => import(`./${name}.js`)));

/** Draw the gallery into the frame; TensorBoard calls it once. */
export async function render() {
  document.documentElement.lang = "en";
  document.body.style.margin = "0";
  const [{ hostAddress }, { mount }, { ServerSource }] = await modules;
  return mount(document.body.appendChild(document.createElement("div")), new ServerSource(base, runs), { address: hostAddress(PLUGIN) });
}
