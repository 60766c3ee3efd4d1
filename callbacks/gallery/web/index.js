/** The tab of TensorBoard. */

import { hostAddress } from "./address.js";
import { mount } from "./gallery.js";
import { ServerSource } from "./sources.js";

const PLUGIN = "assay_samples";

/** Draw the gallery into the frame; TensorBoard calls it once. */
export function render() {
  document.documentElement.lang = "en";
  document.body.style.margin = "0";
  const base = new URL(".", import.meta.url).href;
  return mount(document.body.appendChild(document.createElement("div")), new ServerSource(base), { address: hostAddress(PLUGIN) });
}
