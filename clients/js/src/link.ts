/**
 * Staying connected: the first connection, those after it, and the end.
 *
 *     connecting ──greeted, accepted──▶ open ──lost──▶ waiting ──▶ connecting
 *          └── closed by the application, refused, or it is not to come back ──▶ closed
 */

import { createBackoff, type Reconnection } from "./backoff.js";
import { FINAL } from "./close.js";
import { createTimer, later, now } from "./clock.js";
import { type Asking, type Connection, createConnection, type Keeper, type Receiver, type SocketClass } from "./connection.js";
import { MesaError } from "./errors.js";
import { type Data, isRecord } from "./frames.js";
import { createSession, type Keepalive, type Session } from "./protocol.js";
import { type PositionStore } from "./positions.js";
import { NOWHERE, type Positions } from "./tracking.js";

/** `open`: usable, and authenticated if there is a token; `waiting` for the next attempt. */
export type State = "connecting" | "open" | "waiting" | "closed";

/** Why a connection, or the client, has ended. */
export interface Reason {
  /** The close code; 1006 if the connection was cut, or could not be opened. */
  code: number;
  reason: string;
  /** Why it does not come back, unless the application closed it. */
  error?: MesaError;
}

/** What a change of the state is about. */
export interface StateDetail extends Partial<Reason> {
  /** Seconds until the next attempt. */
  after?: number;
}

/** Text becomes `{token: text}`; an object is all of the data that the server's authenticator gets. */
export type Token = string | Record<string, Data>;

/** How a client behaves; durations are seconds. */
export interface Options {
  /**
   * Who this is: text, sent as `{token: text}`; an object, sent as it is; or a function, also async, that
   * returns one of them and is called for every connection. Without it the client stays unauthenticated.
   */
  token?: Token | (() => Token | Promise<Token>);
  /** Keeps over reloads or restarts which messages were handled; in memory by default. */
  positions?: PositionStore;
  /** Whether messages that were stored for this user shall be delivered; true by default. */
  shouldSync?: boolean;
  /** Messages and requests that may wait while the client is away; 1000 by default. */
  queueSize?: number;
  /** To connect, to log in, and for the answer to a request; 10 by default. */
  timeout?: number;
  /** Whether and how to come back; true by default. */
  reconnect?: boolean | Reconnection;
  /** How a dead connection is found; `{interval: 25, timeout: 20}` by default. */
  keepalive?: boolean | Partial<Keepalive>;
  /** The class of WebSockets, where there is none in the environment, such as that of `ws` in Node 20. */
  WebSocket?: unknown;
}

/** What a link tells. Nothing here waits for the application. */
export interface LinkHost extends Receiver {
  _changed(state: State, detail: StateDetail): void;
  _accepted(user: Data): void;
  _failed(error: unknown): void;
  /** Call `then` once all that has arrived by now is handled and acknowledged. */
  _afterAll(then: () => void): void;
  /** From where to go on: up to where the application has handled messages. */
  _resumable(): Positions;
  _over(reason: Reason): void;
}

/** Times in a row that a client comes back with another token after a refusal (section 15.5). */
const MAX_REFUSALS = 3;

/** Something to send: `_write` sends it, or throws; `_reject` tells that it never will be. */
interface Entry {
  _write(connection: Connection): void;
  _reject(error: unknown): void;
}

/** A client's connections, one after the other. */
export type Link = ReturnType<typeof createLink>;

/** @throws MesaError `invalid`: there is no class of WebSockets here. */
export function createLink(url: string, options: Options, host: LinkHost) {
  const { token, shouldSync, queueSize = 1000, timeout = 10, reconnect = true, keepalive = true } = options;
  const socketClass = (options.WebSocket ?? globalThis.WebSocket) as SocketClass;
  if (!socketClass) throw new MesaError("invalid", "no WebSocket here; give the option WebSocket the class of 'ws'");
  const backoff = createBackoff(reconnect as Reconnection);
  const timer = createTimer();
  let queue: Entry[] = []; // in the order of the calls
  let state: State = "connecting";
  let connection: Connection | undefined;
  let session: Session;
  let received = NOWHERE; // up to the connection before
  let interval: number | undefined;
  let after: number | undefined;
  let usableSince: number | undefined;
  let isTrying = false;
  let wasAccepted = false;
  let refusals = 0;
  let ended: Reason | undefined;

  const keeper: Keeper = {
    _greeted(hello) {
      interval = hello._reconnectInterval;
      if (token == null) becomeUsable();
      else void login(connection!);
    },

    _accepted(user) {
      isTrying = false;
      wasAccepted = true;
      refusals = 0;
      host._accepted(user);
      becomeUsable();
    },

    _drained(seconds) {
      const drained = connection;
      after = seconds;
      if (reconnect) host._afterAll(() => drained == connection && drained?._close(1000));
    },

    _ended(code, reason) {
      const { _isAccepted: isAccepted, _positions: positions } = session._tracking;
      connection = undefined;
      received = positions;
      timer();
      if (usableSince != null) backoff._lasted(now() - usableSince);
      if (ended) return host._over(ended);
      const isRefusal = code == 1008 && token != null && (isTrying || (wasAccepted && !isAccepted));
      const mayReturn = isRefusal ? typeof token == "function" && refusals++ < MAX_REFUSALS : !FINAL.includes(code);
      if (!reconnect || !mayReturn)
        return fail(code, reason, isRefusal ? "refused" : "closed", `closed with ${code} ${reason}`);
      const pause = backoff._next(interval, after);
      timer(pause, connect);
      set("waiting", { code, reason, after: pause });
    },
  };

  function connect(): void {
    after = usableSince = undefined;
    isTrying = false;
    timer();
    set("connecting");
    try {
      session = createSession(keepalive, now(), received);
      connection = createConnection(socketClass, url, timeout, session, keeper, host);
    } catch (error) {
      fail(1006, "", "invalid", `cannot connect to ${url}: ${error}`);
    }
  }

  async function login(mine: Connection): Promise<void> {
    const giveUp = (error: unknown) => {
      if (mine != connection || ended) return;
      host._failed(error);
      mine._close(1000);
    };
    isTrying = true;
    timer(timeout, () => giveUp(new MesaError("timeout", `login: no answer within ${timeout} s`)));
    try {
      const given = typeof token == "function" ? await token() : token;
      const data = typeof given == "string" ? { token: given } : given;
      if (!isRecord(data)) throw new MesaError("invalid", `token: expected text or an object, got ${typeof given}`);
      if (mine == connection) mine._send(session._authenticate(data, shouldSync, host._resumable()));
    } catch (error) {
      giveUp(error);
    }
  }

  function becomeUsable(): void {
    timer();
    usableSince ??= now();
    if (ended || state == "open") return;
    set("open");
    flush();
  }

  /** Send what waits, for as long as the connection is there. */
  function flush(): void {
    while (queue.length && state == "open" && connection!._isOpen()) {
      const entry = queue.shift()!;
      try {
        entry._write(connection!);
      } catch (error) {
        entry._reject(error);
      }
    }
  }

  function enqueue(entry: Entry): void {
    if (ended) return entry._reject(closedError());
    if (queue.length < queueSize) queue.push(entry);
    else entry._reject(new MesaError("queue_full", `${queueSize} messages wait already; raise queueSize`));
    flush();
  }

  function end(why: Reason): void {
    ended = why;
    timer();
    set("closed", why);
    for (const { _reject } of queue.splice(0)) _reject(closedError());
  }

  function fail(code: number, reason: string, kind: string, text: string): void {
    end({ code, reason, error: new MesaError(kind, text) });
    host._over(ended!);
  }

  function closedError(): MesaError {
    return ended!.error ?? new MesaError("closed", ended!.reason);
  }

  function set(next: State, detail: StateDetail = {}): void {
    state = next;
    host._changed(next, detail);
  }

  return {
    /** Begin, from the positions of an earlier life. */
    _open(positions: Positions): void {
      received = positions;
      if (!ended) connect();
    },

    /** Send as soon as the state is open, in the order of calls; each frame to one connection at most. */
    _send: (frame: string) =>
      new Promise<void>((resolve, _reject) =>
        enqueue({
          _write: ({ _send }) => {
            _send(frame);
            resolve();
          },
          _reject,
        }),
      ),

    /**
     * Ask as soon as the state is open.
     *
     * @param encode - makes the frame of its `x`.
     * @param seconds - until the request is given up.
     */
    _request: (encode: (extension: Data) => string, seconds = timeout) =>
      new Promise<Data>((resolve, reject) => {
        let forget = () => {
          queue = queue.filter((each) => each != entry);
        };
        const stopTimer = later(seconds, () => {
          forget();
          reject(new MesaError("timeout", `request: no answer within ${seconds} s`));
        });
        const entry: Entry & Asking = {
          _write: ({ _request }) => (forget = _request(encode, entry)),
          _resolve: (data) => (stopTimer(), resolve(data)),
          _reject: (error) => (stopTimer(), reject(error)),
        };
        enqueue(entry);
      }),

    /** Tell the server what was handled, if it is there. */
    _acknowledge: (positions: Positions) => connection?._acknowledge(positions),

    /** Never come back from now on; `_leave` closes the connection. */
    _stop: (code: number) => end({ code, reason: "closed by this client" }),

    /** Close the connection, after `_stop`. */
    _leave: (code: number) => (connection ? connection._close(code) : host._over(ended!)),

    /** The page came back to its user, or the network to the page: look at once. */
    _wake: () => (state == "waiting" ? connect() : connection?._wake()),
  };
}
