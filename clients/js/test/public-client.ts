/** Public names of the client, for tests of the whole client. */

export { type Data } from "../src/frames.js";
export { MesaClient, type Options, type Positions } from "../src/index.js";
