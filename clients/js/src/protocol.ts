/**
 * A client's end of one connection, without sockets and clocks: time, in seconds, is an argument, what is to
 * be done is a return value. The outputs are named as in `spec/vectors/README.md`.
 */

import { type Data, encodeFrame, encodeMessage, type Frame, isCount, isRecord, type Message, messageOf, readFrame } from "./frames.js";
import { type Arrival, NOWHERE, type Position, type Positions, Tracking } from "./tracking.js";

/** What a client names where the server enforces equal versions (section 8). */
const VERSION_OF_1X = "1.5.8";

/** Seconds of a day: what is announced beyond counts as this (section 15.1). */
const LONGEST = 86400;

/** Seconds that a server has to answer when the client woke, or stood still (section 10.1). */
const WAKE_PATIENCE = 5;

/** How a dead server is found (section 10); both in seconds. */
export interface Keepalive {
  /** Without a sign of life, after which the client asks for one. */
  interval: number;
  /** More without one, after which the connection counts as dead. */
  timeout: number;
}

export const KEEPALIVE: Keepalive = { interval: 25, timeout: 20 };

/** Of what the server announced (section 6) the part that a client uses; seconds, undefined where it said nothing. */
export interface Hello {
  _heartbeatInterval?: number;
  _reconnectInterval?: number;
  /** The newest wire that it speaks; 1 if it named none. */
  _version: number;
}

export type Output =
  | Arrival
  | ["send", string]
  | ["probe"]
  | ["close", number]
  | ["hello", Hello]
  | ["authenticated", Data]
  | ["ignored"]
  | ["acknowledge"]
  | ["leave", number]
  | ["asked", string, Message]
  | ["replied", string, Message]
  | ["failed", string, string, string];

/** The protocol state of one connection. Speaks wire 2 with servers that do, and wire 1 with the others. */
export class Session {
  _isClosed = false;
  _hello: Hello | undefined;
  private _tracking: Tracking;
  private _asked = NOWHERE;
  private _heard: number;
  private _due: number | undefined; // while an answer to a probe is waited for
  private _isPatient = true;

  /**
   * @param now - when the connection was opened.
   * @param positions - up to where messages were received on connections before.
   */
  constructor(
    private _keepalive: Keepalive | undefined,
    now: number,
    positions: Positions = NOWHERE,
  ) {
    this._heard = now;
    this._tracking = new Tracking(positions);
  }

  /** Up to where messages were received. */
  get _positions(): Positions {
    return this._tracking._positions;
  }

  /** Whether the server knows requests. */
  get _canAsk(): boolean {
    return !!this._hello && this._hello._version > 1;
  }

  get _isAccepted(): boolean {
    return this._tracking._isAccepted;
  }

  /** When `poll` has something to do; undefined for never. */
  get _deadline(): number | undefined {
    const { _keepalive: keepalive, _hello: hello } = this;
    if (this._isClosed || !keepalive) return;
    const wait = hello && !this._canAsk ? 3 * hello._heartbeatInterval! : keepalive.interval;
    return this._due ?? (wait ? this._heard + wait : undefined);
  }

  /** Take one message from the server. */
  _receive(payload: unknown, now: number): Output[] {
    if (this._isClosed) return [];
    this._heard = now;
    this._due = undefined;
    this._isPatient = true;
    const frame = readFrame(payload);
    return frame ? this._take(frame) : [["ignored"]];
  }

  /** Do what is due: ask a silent server for a sign of life, or give it up (section 10.1). */
  _poll(now: number): Output[] {
    const due = this._deadline;
    if (due === undefined || now < due) return [];
    if (this._canAsk && this._due === undefined) return this._ask(now, this._keepalive!.timeout);
    if (now > due + WAKE_PATIENCE && this._isPatient) {
      // The client itself stood still; the silence until now is not the server's.
      this._isPatient = false;
      return this._ask(now, WAKE_PATIENCE);
    }
    this._isClosed = true;
    return [["close", 4001]];
  }

  /** The page came back to its user, or the network to the page: ask at once. */
  _wake(now: number): Output[] {
    const due = this._deadline;
    if (due === undefined || (this._hello && !this._canAsk)) return [];
    const isOpen = !this._hello || this._due !== undefined;
    return isOpen && due >= now && due <= now + WAKE_PATIENCE ? [] : this._ask(now, WAKE_PATIENCE);
  }

  private _ask(now: number, patience: number): Output[] {
    this._due = now + patience;
    return this._canAsk ? [["probe"]] : [];
  }

  /**
   * The frame that asks to be somebody, and for messages from where the client is.
   *
   * @param resume - up to where the application has handled messages.
   */
  _authenticate(data: Record<string, Data>, shouldSync = true, resume = NOWHERE): string {
    const d = { ...data, shouldSync };
    if (!this._canAsk) return encodeFrame(2, d);
    this._asked = shouldSync ? resume : NOWHERE;
    const isKnown = this._asked.e !== undefined || this._asked.b;
    return encodeFrame(2, d, { v: 2, resume: isKnown ? this._asked : undefined });
  }

  /** The frame that acknowledges everything up to a position of the outbox; undefined if it is no news. */
  _acknowledge({ e, s }: Position): string | undefined {
    if (this._tracking._acknowledges({ e, s })) return encodeFrame(3, { e, s });
  }

  private _take(frame: Frame): Output[] {
    const { op, d, x } = frame;
    const { _tracking: tracking } = this;
    if (op == 1) {
      const answer: Output = ["send", encodeFrame(11, {})];
      return tracking._isWire2 ? [["acknowledge"], answer] : [answer];
    }
    if (op == 10) return this._greeted(isRecord(d) ? d : {});
    if (op == 22) return [["authenticated", d], ...tracking._accepted(x, this._asked)];
    if (tracking._isWire2 && op == 7) {
      const after = isRecord(d) ? d.after : undefined;
      return [typeof after == "number" && after >= 0 ? ["leave", Math.min(after, LONGEST)] : ["ignored"]];
    }
    if (tracking._isWire2 && op == 9) return tracking._resynced(d) ?? [["ignored"]];
    if (isRecord(x)) {
      if ("a" in x) return [answered(frame)];
      if (tracking._isWire2 && typeof x.r == "string" && /^[\w-]{1,64}$/.test(x.r)) return [["asked", x.r, messageOf(frame)]];
    }
    return tracking._arrived(frame);
  }

  private _greeted(d: Record<string, Data>): Output[] {
    this._hello = {
      _heartbeatInterval: seconds(d.c_heartbeat_interval),
      _reconnectInterval: seconds(d.c_reconnect_interval),
      _version: isCount(d.v) && d.v ? d.v : 1,
    };
    const outputs: Output[] = [["hello", this._hello]];
    if (Array.isArray(d.rules) && d.rules.includes("enforce_equal_versions"))
      outputs.push(["send", encodeMessage("CLIENT_VERSION", { v: VERSION_OF_1X })]);
    return outputs;
  }
}

/** Read a duration; what is no number of more than 0 counts as not announced. */
const seconds = (milliseconds: Data): number | undefined =>
  typeof milliseconds == "number" && milliseconds > 0 ? Math.min(milliseconds / 1000, LONGEST) : undefined;

/** Read an answer; an error that cannot be read, or is not for the wire, counts as `failed` (section 17.10). */
function answered(frame: Frame): Output {
  const { a, error } = frame.x;
  const request = typeof a == "string" ? a : "";
  if (error == null) return ["replied", request, messageOf(frame)];
  const { code, message }: Record<string, Data> = isRecord(error) ? error : {};
  const isCode = typeof code == "string" && /^[!-~]{1,64}$/.test(code) && !["gone", "wire1", "absent"].includes(code);
  return ["failed", request, isCode ? code : "failed", typeof message == "string" ? message.slice(0, 1000) : ""];
}
