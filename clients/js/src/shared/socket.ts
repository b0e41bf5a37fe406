/** The socket that a tab's client uses as its WebSocket, and that leads to the leader. */

import { type Data } from "../frames.js";
import { type SocketId } from "./wire.js";

/** Stored messages that a client gets before it acknowledges; somewhat more than a server sends. */
export const WINDOW = 4500;

/** The tab of a socket. */
export interface SocketHost {
  _open(socket: SharedSocket): void;
  /** @param isMessage - whether it is to arrive, by this leader or the next. */
  _send(socket: SharedSocket, text: string, isMessage: boolean): void;
  /** The server continues in this epoch. */
  _moved(epoch: string): void;
  _shut(socket: SharedSocket, code: number, reason: string, isCut: boolean): void;
}

/** A connection to the leader, as a client sees it; the class of WebSockets of a `SharedClient`. */
export class SharedSocket {
  readyState = 0;
  onmessage: ((event: Data) => void) | null = null;
  onclose: ((event: Data) => void) | null = null;
  onerror: ((event: Data) => void) | null = null;
  /** Whether the frames for all are for this one. */
  _isLive = false;
  /** Frames that were sent. */
  _count = 0;
  private _given = 0;
  private _acknowledged = 0;
  /** Whether frames for all are withheld from it. */
  _isFull = false;

  constructor(
    readonly _id: SocketId,
    private _host: SocketHost,
  ) {
    _host._open(this);
  }

  send(text: string): void {
    if (this.readyState != 1) return;
    const { op, d, t, x } = JSON.parse(text);
    this._host._send(this, text, ![1, 2, 3, 11].includes(op) && !x && t != "CLIENT_VERSION");
    if (op == 3) this._acknowledge(d.s);
  }

  close(code = 1000, reason = ""): void {
    if (this.readyState > 1) return;
    const wasOpen = this.readyState == 1;
    this.readyState = 2;
    this._host._shut(this, code, reason, false);
    if (!wasOpen) void Promise.resolve().then(() => this._end(1006, ""));
  }

  /** The client has given up; it hears nothing more. */
  terminate(): void {
    if (this.readyState > 1) return;
    this.readyState = 3;
    this._host._shut(this, 1006, "", true);
  }

  /** A frame of the leader, for this socket or for all. */
  _give(text: string): void {
    if (this.readyState > 1) return;
    this.readyState = 1;
    this.onmessage?.({ data: text });
  }

  /**
   * A frame for all: withheld from a client that acknowledges nothing, until it connects again.
   *
   * @returns whether the client has it.
   */
  _giveAll(text: string): boolean {
    const { op, s, d } = JSON.parse(text);
    if (op == 9) for (const epoch of [d.e, d.b?.e]) if (epoch) this._host._moved(epoch);
    if (op == 9 && d.b !== true) this._restart(d.s);
    if (s !== undefined) {
      this._isFull ||= s - this._acknowledged > WINDOW;
      if (!this._isFull) this._given = s;
    }
    if (!this._isFull) this._give(text);
    return !this._isFull;
  }

  /** The client is at this number of its outbox. */
  _restart(number = 0): void {
    this._given = this._acknowledged = number;
  }

  _end(code: number, reason: string): void {
    if (this.readyState == 3) return;
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  private _acknowledge(number: number): void {
    this._acknowledged = number;
    if (this._isFull && this._given - number < WINDOW / 2) {
      this.readyState = 2;
      this._host._shut(this, 1000, "", false);
      void Promise.resolve().then(() => this._end(1006, "this tab was too slow"));
    }
  }
}
