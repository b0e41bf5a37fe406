/** All of `mesa-ws` and of `mesa-ws/shared`, for pages that load one file. */

export * from "../index.js";
export { SharedClient, type SharedOptions } from "./index.js";
