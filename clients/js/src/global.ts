/** The plain script: `Mesa.MesaClient` and the others, in the global scope. */

import { localPositions, MesaClient, MesaError, RequestError, sessionPositions } from "./index.js";

Object.assign(globalThis, { Mesa: { MesaClient, MesaError, RequestError, sessionPositions, localPositions } });
