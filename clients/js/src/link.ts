/**
 * Staying connected: the first connection, those after it, and the end.
 *
 *     connecting ──greeted, accepted──▶ open ──lost──▶ waiting ──▶ connecting
 *          └── closed by the application, refused, or it is not to come back ──▶ closed
 */

import { Backoff, type Reconnection } from "./backoff.js";
import { FINAL } from "./close.js";
import { later, now } from "./clock.js";
import { type Asking, Connection, type Keeper, type Receiver, type SocketClass } from "./connection.js";
import { MesaError } from "./errors.js";
import { type Data, isRecord } from "./frames.js";
import { type Hello, type Keepalive, Session } from "./protocol.js";
import { type Entry, Queue } from "./queue.js";
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

/** What a link needs to know; see `Options`. */
export interface LinkOptions {
  _url: string;
  _token?: Token | (() => Token | Promise<Token>);
  _shouldSync: boolean;
  _queueSize: number;
  _timeout: number;
  _reconnect?: Reconnection;
  _keepalive?: Keepalive;
  _socketClass: SocketClass;
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

export class Link implements Keeper {
  private _state: State = "connecting";
  private _connection: Connection | undefined;
  private _received = NOWHERE; // up to the connection before
  private _queue: Queue;
  private _backoff: Backoff;
  private _stopTimer = () => {};
  private _interval: number | undefined;
  private _after: number | undefined;
  private _usableSince: number | undefined;
  private _isTrying = false;
  private _wasAccepted = false;
  private _refusals = 0;
  private _reason: Reason | undefined;

  constructor(
    private _options: LinkOptions,
    private _host: LinkHost,
  ) {
    this._queue = new Queue(_options._queueSize);
    this._backoff = new Backoff(_options._reconnect ?? {});
  }

  /** Begin, from the positions of an earlier life. */
  _open(positions: Positions): void {
    this._received = positions;
    if (!this._reason) this._connect();
  }

  /** Send as soon as the state is open, in the order of calls; each frame to one connection at most. */
  _send(frame: string): Promise<void> {
    return new Promise((resolve, reject) =>
      this._enqueue({
        _write: () => {
          this._connection!._send(frame);
          resolve();
        },
        _reject: reject,
      }),
    );
  }

  /**
   * Ask as soon as the state is open.
   *
   * @param encode - makes the frame of its `x`.
   * @param timeout - seconds until the request is given up.
   */
  _request(encode: (extension: Data) => string, timeout: number): Promise<Data> {
    return new Promise((resolve, reject) => {
      let forget = () => this._queue._remove(entry);
      const stopTimer = later(timeout, () => {
        forget();
        reject(new MesaError("timeout", `request: no answer within ${timeout} s`));
      });
      const asking: Asking = {
        _resolve: (data) => (stopTimer(), resolve(data)),
        _reject: (error) => (stopTimer(), reject(error)),
      };
      const entry: Entry = {
        _write: () => (forget = this._connection!._request(encode, asking)),
        _reject: asking._reject,
      };
      this._enqueue(entry);
    });
  }

  /** Tell the server what was handled, if it is there. */
  _acknowledge(positions: Positions): void {
    this._connection?._acknowledge(positions);
  }

  /** Never come back from now on; `_leave` closes the connection. */
  _stop(code: number): void {
    this._end({ code, reason: "closed by this client" });
  }

  /** Close the connection, after `_stop`. */
  _leave(code: number): void {
    if (this._connection) this._connection._close(code);
    else this._host._over(this._reason!);
  }

  /** The page came back to its user, or the network to the page: look at once. */
  _wake(): void {
    if (this._state == "waiting") this._connect();
    else this._connection?._wake();
  }

  // What a connection calls.

  _greeted(hello: Hello): void {
    this._interval = hello._reconnectInterval;
    if (this._options._token === undefined) this._becomeUsable();
    else void this._login(this._connection!);
  }

  _accepted(user: Data): void {
    this._isTrying = false;
    this._wasAccepted = true;
    this._refusals = 0;
    this._host._accepted(user);
    this._becomeUsable();
  }

  _drained(after: number): void {
    this._after = after;
    const connection = this._connection;
    if (this._options._reconnect) this._host._afterAll(() => connection == this._connection && connection?._close(1000));
  }

  _ended(code: number, reason: string): void {
    const { _token: token, _reconnect: reconnect } = this._options;
    const session = this._connection!._session;
    this._connection = undefined;
    this._received = session._positions;
    this._stopTimer();
    if (this._usableSince !== undefined) this._backoff._lasted(now() - this._usableSince);
    if (this._reason) return this._host._over(this._reason);
    const isRefusal =
      code == 1008 && token !== undefined && (this._isTrying || (this._wasAccepted && !session._isAccepted));
    const mayReturn = isRefusal ? typeof token == "function" && this._refusals++ < MAX_REFUSALS : !FINAL[code];
    if (reconnect && mayReturn) {
      const after = this._backoff._next(this._interval, this._after);
      this._stopTimer = later(after, () => this._connect());
      this._set("waiting", { code, reason, after });
      return;
    }
    const why = FINAL[code] ?? "reconnect is off";
    const text = `closed with ${code} ${reason} (${why})`;
    this._end({ code, reason, error: new MesaError(isRefusal ? "refused" : "closed", text) });
    this._host._over(this._reason!);
  }

  // The life of the link.

  private _connect(): void {
    const { _options: options, _received: received } = this;
    this._stopTimer();
    this._after = this._usableSince = undefined;
    this._isTrying = false;
    this._set("connecting");
    try {
      const session = new Session(options._keepalive, now(), received);
      this._connection = new Connection(options._socketClass, options._url, options._timeout, session, this, this._host);
    } catch (error) {
      this._end({ code: 1006, reason: "", error: new MesaError("invalid", `cannot connect to ${options._url}: ${error}`) });
      this._host._over(this._reason!);
    }
  }

  private async _login(connection: Connection): Promise<void> {
    const { _token: token, _timeout: timeout, _shouldSync: shouldSync } = this._options;
    const giveUp = (error: unknown) => {
      if (connection != this._connection || this._reason) return;
      this._host._failed(error);
      connection._close(1000);
    };
    this._isTrying = true;
    this._stopTimer = later(timeout, () =>
      giveUp(new MesaError("timeout", `login: no answer within ${timeout} s`)),
    );
    try {
      const data = typeof token == "function" ? await token() : token;
      if (typeof data != "string" && !isRecord(data))
        throw new MesaError("invalid", `token: expected text or an object, got ${typeof data}`);
      if (connection == this._connection)
        connection._send(
          connection._session._authenticate(isRecord(data) ? data : { token: data }, shouldSync, this._host._resumable()),
        );
    } catch (error) {
      giveUp(error);
    }
  }

  private _becomeUsable(): void {
    this._stopTimer();
    this._usableSince ??= now();
    if (this._reason || this._state == "open") return;
    this._set("open");
    this._queue._flush(() => this._isOpen);
  }

  private get _isOpen(): boolean {
    return this._state == "open" && this._connection!._isOpen;
  }

  private _enqueue(entry: Entry): void {
    if (this._reason) return entry._reject(this._closedError());
    this._queue._add(entry);
    this._queue._flush(() => this._isOpen);
  }

  private _end(reason: Reason): void {
    this._reason = reason;
    this._stopTimer();
    this._set("closed", reason);
    this._queue._clear(this._closedError());
  }

  private _closedError(): MesaError {
    return this._reason!.error ?? new MesaError("closed", "the client was closed");
  }

  private _set(state: State, detail: StateDetail = {}): void {
    this._state = state;
    this._host._changed(state, detail);
  }
}
