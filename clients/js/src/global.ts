/** The plain script: `Mesa.MesaClient` and the others, in the global scope. */

import { localPositions, MesaClient, MesaError, RequestError, sessionPositions } from "./index.js";

(globalThis as { Mesa?: unknown }).Mesa = { MesaClient, MesaError, RequestError, sessionPositions, localPositions };
