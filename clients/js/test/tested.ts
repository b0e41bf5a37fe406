/** What tests of the whole client use. */

export { type Data } from "../src/frames.js";
export { MesaClient, type Options, type Positions } from "../src/index.js";
