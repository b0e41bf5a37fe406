/** The leader's connection to the server: opened when a tab wants one, and again after pauses when it is lost. */

import { type Backoff, createBackoff, type Reconnection } from "../backoff.js";
import { later, now } from "../clock.js";
import { type Socket, type SocketClass } from "../connection.js";

/** Handles the frames of the server. */
export interface UpstreamHost {
  _received(text: unknown): void;
  _ended(code: number, reason: string): void;
}

/** Longest interval, in seconds. */
const LONGEST = 86_400;

export class Upstream {
  private _socket: Socket | undefined;
  private _isGreeted = false;
  private _since = 0;
  private _notBefore = 0;
  private _stopTimer = () => {};
  private _backoff: Backoff;
  /** Seconds that the server asks its clients to wait before they reconnect. */
  _interval: number | undefined;
  /** Seconds that the server asks this client to wait this time. */
  _after: number | undefined;

  constructor(
    private _socketClass: SocketClass,
    private _url: string,
    private _patience: number,
    reconnect: Reconnection,
    private _host: UpstreamHost,
  ) {
    this._backoff = createBackoff(reconnect);
  }

  /** Whether there is a connection, or an attempt at one. */
  get _isThere(): boolean {
    return !!this._socket;
  }

  get _isOpen(): boolean {
    return this._isGreeted && this._socket?.readyState == 1;
  }

  /** Connect, if there is no connection; after the pause that is due, unless there is a reason to try at once. */
  _want(atOnce = false): void {
    if (this._socket) return;
    this._stopTimer();
    const pause = atOnce ? 0 : this._notBefore - now();
    if (pause > 0) this._stopTimer = later(pause, () => this._connect());
    else this._connect();
  }

  /** The server has sent HELLO. */
  _greeted(milliseconds: unknown): void {
    const isInterval = typeof milliseconds == "number" && milliseconds > 0;
    this._stopTimer();
    this._isGreeted = true;
    this._since = now();
    this._interval = isInterval ? Math.min(milliseconds / 1000, LONGEST) : undefined;
    this._after = undefined;
  }

  /** Write a frame, if there is a connection; return whether there is. */
  _send(text: string): boolean {
    const isOpen = this._isOpen;
    if (isOpen) this._socket!.send(text);
    return isOpen;
  }

  /** Give up the connection, and report it to the tabs. */
  _cut(code: number, reason: string): void {
    if (!this._socket) return;
    this._drop(1000);
    this._lost(code, reason);
  }

  /** End without reporting it to the tabs. */
  _stop(): void {
    this._stopTimer();
    if (this._socket) this._drop(1000);
  }

  private _connect(): void {
    try {
      const socket = (this._socket = new this._socketClass(this._url));
      socket.onmessage = ({ data }) => this._host._received(data);
      socket.onerror = () => {};
      socket.onclose = ({ code, reason }) => {
        this._socket = undefined;
        this._lost(code, reason);
      };
    } catch {
      return this._lost(1006, ""); // the address was taken by a client before
    }
    this._stopTimer = later(this._patience, () => this._cut(1006, "the server did not greet in time"));
  }

  private _drop(code: number): void {
    const socket = this._socket!;
    this._socket = undefined;
    socket.onmessage = socket.onclose = null;
    if (socket.terminate) socket.terminate();
    else socket.close(code);
  }

  private _lost(code: number, reason: string): void {
    this._stopTimer();
    if (this._isGreeted) this._backoff._lasted(now() - this._since);
    this._isGreeted = false;
    this._notBefore = now() + this._backoff._next(this._interval, this._after);
    this._after = undefined;
    this._host._ended(code, reason);
  }
}
