/**
 * Stay connected: the first connection, later ones, and the end.
 *
 *     connecting ──greeted, accepted──▶ open ──lost──▶ waiting ──▶ connecting
 *          └── closed by the application, refused, or not to reconnect ──▶ closed
 */

import { createBackoff, type Reconnection } from "./backoff.js";
import { FINAL } from "./close.js";
import { createTimer, later, now } from "./clock.js";
import { type PendingRequest, type Connection, createConnection, type ConnectionOwner, type Receiver, type SocketClass } from "./connection.js";
import { MesaError } from "./errors.js";
import { type Data, isRecord } from "./frames.js";
import { createProtocol, type Keepalive, type Protocol } from "./protocol.js";
import { type PositionStore } from "./positions.js";
import { NOWHERE, type Positions } from "./tracking.js";

/** `open`: usable, and authenticated if there is a token; `waiting` for the next attempt. */
export type State = "connecting" | "open" | "waiting" | "closed";

/** Why a connection, or the client, has ended. */
export interface Reason {
  /** The close code; 1006 if the connection was cut, or could not be opened. */
  code: number;
  reason: string;
  /** Why the client does not reconnect, unless the application closed it. */
  error?: MesaError;
}

/** Details of a change of the state. */
export interface StateDetail extends Partial<Reason> {
  /** Seconds until the next attempt. */
  after?: number;
}

/** Text becomes `{token: text}`; an object is sent unchanged to the server's authenticator. */
export type Token = string | Record<string, Data>;

/** Options of a client; durations are seconds. */
export interface Options {
  /**
   * The credentials: text, sent as `{token: text}`; an object, sent unchanged; or a function, also async, that
   * returns one of them and is called for every connection. Without it the client stays unauthenticated.
   */
  token?: Token | (() => Token | Promise<Token>);
  /** Keeps the positions of handled messages over reloads or restarts; in memory by default. */
  positions?: PositionStore;
  /** Whether the server delivers messages that it stored for this user; true by default. */
  shouldSync?: boolean;
  /** Messages and requests that may wait while the client is offline; 1000 by default. */
  queueSize?: number;
  /** Seconds to connect, to authenticate, and to wait for the answer to a request; 10 by default. */
  timeout?: number;
  /** Whether and how to reconnect; true by default. */
  reconnect?: boolean | Reconnection;
  /** How the client detects a dead connection; `{interval: 25, timeout: 20}` by default. */
  keepalive?: boolean | Partial<Keepalive>;
  /** The class of WebSockets, where the environment has none, such as that of `ws` in Node 20. */
  WebSocket?: unknown;
}

/** The owner of the connections, which they report to. Nothing here waits for the application. */
export interface ConnectionHost extends Receiver {
  _changed(state: State, detail: StateDetail): void;
  _accepted(user: Data): void;
  _failed(error: unknown): void;
  /** Call `then` once everything that has arrived is handled and acknowledged. */
  _afterAll(then: () => void): void;
  /** Return the positions to continue from: up to where the application has handled messages. */
  _resumable(): Positions;
  _over(reason: Reason): void;
}

/** Refusals in a row after which a client still reconnects with another token (section 15.5). */
const MAX_REFUSALS = 3;

/** An entry of the send queue: `_write` sends it, or throws; `_reject` reports that it never will be sent. */
interface Entry {
  _write(connection: Connection): void;
  _reject(error: unknown): void;
}

/** A client's connections, one after the other. */
export type Reconnecting = ReturnType<typeof createReconnecting>;

/** @throws MesaError `invalid`: the environment has no class of WebSockets. */
export function createReconnecting(url: string, options: Options, host: ConnectionHost) {
  const { token, shouldSync, queueSize = 1000, timeout = 10, reconnect = true, keepalive = true } = options;
  const socketClass = (options.WebSocket ?? globalThis.WebSocket) as SocketClass;
  if (!socketClass) throw new MesaError("invalid", "no WebSocket here; give the option WebSocket the class of 'ws'");
  const backoff = createBackoff(reconnect as Reconnection);
  const timer = createTimer();
  const renewal = createTimer();
  let queue: Entry[] = []; // in the order of the calls
  let state: State = "connecting";
  let connection: Connection | undefined;
  let protocol: Protocol;
  let received = NOWHERE; // up to the connection before
  let interval: number | undefined;
  let after: number | undefined;
  let usableSince: number | undefined;
  let isTrying = false;
  let wasAccepted = false;
  let refusals = 0;
  let ended: Reason | undefined;

  const owner: ConnectionOwner = {
    _greeted(hello) {
      interval = hello._reconnectInterval;
      if (token == null) becomeUsable();
      else void login(connection!);
    },

    _accepted(user, expires = 0) {
      isTrying = false;
      // Spread over a tenth of the time, so that clients that came together do not return together (section 17.11).
      renewal(expires * (0.9 - Math.random() / 10), () => typeof token == "function" && expires && login(connection!, true));
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
      const { _isAccepted: isAccepted, _positions: positions } = protocol._tracking;
      connection = undefined;
      received = positions;
      timer();
      renewal();
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
      protocol = createProtocol(keepalive, now(), received);
      connection = createConnection(socketClass, url, timeout, protocol, owner, host);
    } catch (error) {
      fail(1006, "", "invalid", `cannot connect to ${url}: ${error}`);
    }
  }

  /** @param again - whether the client is accepted already; then the connection stays open after an error. */
  async function login(mine: Connection, again = false): Promise<void> {
    const giveUp = (error: unknown) => {
      if (mine != connection || ended) return;
      host._failed(error);
      if (again) isTrying = false;
      else mine._close(1000);
    };
    isTrying = true;
    timer(timeout, () => giveUp(new MesaError("timeout", `login: no answer within ${timeout} s`)));
    try {
      const given = typeof token == "function" ? await token() : token;
      const data = typeof given == "string" ? { token: given } : given;
      if (!isRecord(data)) throw new MesaError("invalid", `token: expected text or an object, got ${typeof given}`);
      if (mine == connection) mine._send(protocol._authenticate(data, shouldSync, host._resumable()));
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

  /** Send the queue, as long as the connection is open. */
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
    /** Connect for the first time, from stored positions. */
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
        const entry: Entry & PendingRequest = {
          _write: ({ _request }) => (forget = _request(encode, entry)),
          _resolve: (data) => (stopTimer(), resolve(data)),
          _reject: (error) => (stopTimer(), reject(error)),
        };
        enqueue(entry);
      }),

    /** Acknowledge positions, if there is a connection. */
    _acknowledge: (positions: Positions) => connection?._acknowledge(positions),

    /** Do not reconnect from now on; `_leave` closes the connection. */
    _stop: (code: number) => end({ code, reason: "closed by this client" }),

    /** Close the connection, after `_stop`. */
    _leave: (code: number) => (connection ? connection._close(code) : host._over(ended!)),

    /** Check the connection at once, because the page is visible or online again. */
    _wake: () => (state == "waiting" ? connect() : connection?._wake()),
  };
}
