/**
 * The client's end of the protocol, without sockets and clocks: time, in seconds, is an argument, and the
 * actions to perform are the return value. The outputs are named as in `spec/vectors/README.md`.
 */

import { type Data, encodeFrame, encodeMessage, type Frame, isCount, isRecord, membersOf, type Message, messageOf, readFrame } from "./frames.js";
import { type Arrival, createTracking, isKnown, isName, NOWHERE, type Position } from "./tracking.js";

/** The version that a client names where the server enforces equal versions (section 8). */
const VERSION_OF_1X = "1.5.8";

/** Seconds of a day: a longer time that the server announces counts as this (section 15.1). */
const LONGEST = 86400;

/** Seconds that a server has to answer after the client woke, or stood still (section 10.1). */
const WAKE_PATIENCE = 5;

/** How the client detects a dead server (section 10); both in seconds. */
export interface Keepalive {
  /** Silence after which the client asks for a sign of life. */
  interval: number;
  /** Further silence after which the connection counts as dead. */
  timeout: number;
}

/** The part of the server's HELLO (section 6) that a client uses; seconds, undefined where it announced none. */
export interface Hello {
  _heartbeatInterval?: number;
  _reconnectInterval?: number;
  /** The newest wire that the server speaks; 1 if it named none. */
  _version: number;
}

export type Output =
  | Arrival
  | ["send", string]
  | ["probe"]
  | ["close", number]
  | ["hello", Hello]
  | ["authenticated", Data, number?]
  | ["ignored"]
  | ["acknowledge"]
  | ["leave", number]
  | ["asked", string, Message]
  | ["replied", string, Message]
  | ["failed", string, string, string];

/** The protocol state of one connection. Speaks wire 2 with servers that do, and wire 1 with the others. */
export type Protocol = ReturnType<typeof createProtocol>;

/**
 * @param keepalive - `false` for none, `true` for the default.
 * @param heard - when the connection was opened.
 * @param positions - up to where messages were received on connections before.
 */
export function createProtocol(keepalive: boolean | Partial<Keepalive>, heard: number, positions = NOWHERE) {
  const { interval = 25, timeout = 20 } = keepalive as Partial<Keepalive>;
  const tracking = createTracking(positions);
  let hello: Hello | undefined;
  let asked = NOWHERE;
  let answerDue: number | undefined; // while an answer to a probe is waited for
  let isPatient = true;

  const protocol = {
    _isClosed: false,
    _tracking: tracking,

    /** Whether the server knows requests. */
    _canAsk: (): boolean => !!hello && hello._version > 1,

    /** Return when `_poll` has something to do; undefined for never. */
    _deadline(): number | undefined {
      if (protocol._isClosed || !keepalive) return;
      const wait = hello && !protocol._canAsk() ? 3 * hello._heartbeatInterval! : interval;
      return answerDue ?? (wait ? heard + wait : undefined);
    },

    /** Handle one message from the server. */
    _receive(payload: unknown, now: number): Output[] {
      if (protocol._isClosed) return [];
      heard = now;
      answerDue = undefined;
      isPatient = true;
      const frame = readFrame(payload);
      return frame ? take(frame) : [["ignored"]];
    },

    /** Do what is due: ask a silent server for a sign of life, or give up (section 10.1). */
    _poll(now: number): Output[] {
      const due = protocol._deadline();
      if (due == null || now < due) return [];
      if (protocol._canAsk() && answerDue == null) return ask(now + timeout);
      if (now > due + WAKE_PATIENCE && isPatient) {
        // The client itself stood still; the silence until now is not the server's.
        isPatient = false;
        return ask(now + WAKE_PATIENCE);
      }
      protocol._isClosed = true;
      return [["close", 4001]];
    },

    /** Ask for a sign of life at once, because the page is visible or online again. */
    _wake(now: number): Output[] {
      const due = protocol._deadline();
      if (due == null || (hello && !protocol._canAsk())) return [];
      const isOpen = !hello || answerDue != null;
      return isOpen && due >= now && due <= now + WAKE_PATIENCE ? [] : ask(now + WAKE_PATIENCE);
    },

    /**
     * Return the frame that requests authentication, and messages from the client's positions.
     *
     * @param resume - positions up to which the application has handled messages.
     */
    _authenticate(data: Record<string, Data>, shouldSync = true, resume = NOWHERE): string {
      const d = { ...data, shouldSync };
      if (!protocol._canAsk()) return encodeFrame(2, d);
      asked = shouldSync ? resume : NOWHERE;
      return encodeFrame(2, d, { v: 2, resume: isKnown(asked) ? asked : undefined });
    },

    /** Return the frame that acknowledges everything up to a position of the outbox; undefined if that is not new. */
    _acknowledge({ e, s }: Partial<Position>): string | undefined {
      if (e && tracking._acknowledges({ e, s: s! })) return encodeFrame(3, { e, s });
    },
  };

  function ask(due: number): Output[] {
    answerDue = due;
    return protocol._canAsk() ? [["probe"]] : [];
  }

  function take(frame: Frame): Output[] {
    const { op, d, x } = frame;
    if (op == 1) {
      const answer: Output = ["send", encodeFrame(11, {})];
      return tracking._isWire2 ? [["acknowledge"], answer] : [answer];
    }
    if (op == 10) return greet(membersOf(d));
    if (op == 22) return [["authenticated", d, seconds(membersOf(x).expires * 1000)], ...tracking._accepted(x, asked)];
    if (tracking._isWire2 && op == 7) {
      const { after } = membersOf(d);
      return [typeof after == "number" && after >= 0 ? ["leave", Math.min(after, LONGEST)] : ["ignored"]];
    }
    if (tracking._isWire2 && op == 9) return tracking._resynced(d) ?? [["ignored"]];
    if (isRecord(x)) {
      if ("a" in x) return [answered(frame)];
      if (tracking._isWire2 && isName(x.r)) return [["asked", x.r, messageOf(frame)]];
    }
    return tracking._arrived(frame);
  }

  function greet(d: Record<string, Data>): Output[] {
    hello = {
      _heartbeatInterval: seconds(d.c_heartbeat_interval),
      _reconnectInterval: seconds(d.c_reconnect_interval),
      _version: (isCount(d.v) && d.v) || 1,
    };
    const outputs: Output[] = [["hello", hello]];
    if (Array.isArray(d.rules) && d.rules.includes("enforce_equal_versions"))
      outputs.push(["send", encodeMessage("CLIENT_VERSION", { v: VERSION_OF_1X })]);
    return outputs;
  }

  return protocol;
}

/** Read a duration; anything but a number above 0 counts as not announced. */
const seconds = (milliseconds: Data): number | undefined =>
  typeof milliseconds == "number" && milliseconds > 0 ? Math.min(milliseconds / 1000, LONGEST) : undefined;

/** Read an answer; an unreadable error, or one with an internal code, counts as `failed` (section 17.10). */
function answered(frame: Frame): Output {
  const { a, error } = frame.x;
  const request = typeof a == "string" ? a : "";
  if (error == null) return ["replied", request, messageOf(frame)];
  const { code, message } = membersOf(error);
  const isCode = typeof code == "string" && /^[!-~]{1,64}$/.test(code) && !["gone", "wire1", "absent"].includes(code);
  return ["failed", request, isCode ? code : "failed", typeof message == "string" ? message.slice(0, 1000) : ""];
}
