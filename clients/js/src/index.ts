/** JavaScript client of Mesa. */

export { MesaClient, type RequestHandler } from "./client.js";
export { MesaError, RequestError } from "./errors.js";
export { type Message } from "./frames.js";
export { type MessageHandler } from "./inbox.js";
export { type Options, type Reason, type State, type StateDetail, type Token } from "./reconnecting.js";
export { localPositions, type Position, type Positions, type PositionStore, sessionPositions } from "./positions.js";
export { type Keepalive } from "./protocol.js";
export { type Reconnection } from "./backoff.js";
