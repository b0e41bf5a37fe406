/** The plain script: defines `Mesa.MesaClient` and the other names in the global scope. */

import { localPositions, MesaClient, MesaError, RequestError, sessionPositions } from "./index.js";

(globalThis as { Mesa?: unknown }).Mesa = { MesaClient, MesaError, RequestError, sessionPositions, localPositions };
