/** JSON on the WebSocket: section 4 of the protocol, and the encoding of requests and answers (section 17.10). */

import { MesaError } from "./errors.js";

/** Any JSON value; the application knows its shape. */
export type Data = any;

/** A message, as applications get it. */
export interface Message<T = Data> {
  /** 0, unless the sender chose another one. */
  opcode: number;
  data: T;
  /** The name by which applications tell messages apart; null if there is none. */
  type: string | null;
  /** The message's number in this user's outbox, if it was stored. */
  sequence?: number;
}

/** One decoded frame. */
export interface Frame {
  op: number;
  d: Data;
  t?: string | null;
  s?: number;
  b?: number;
  x?: Data;
}

const MAX_OPCODE = 2147483647;
const PROTOCOL_OPCODES = [1, 2, 3, 5, 7, 9, 10, 11, 22];

/** `JSON.stringify` escapes surrogates in this form, and lone ones only. */
const LONE_SURROGATE = /(^|[^\\])(\\\\)*\\ud[89a-f]/;

/** Whether `value` is an object with members. */
export const isRecord = (value: Data): value is Record<string, Data> =>
  !!value && typeof value == "object" && !Array.isArray(value);

/** The members of an object; none of anything else. */
export const membersOf = (value: Data): Record<string, Data> => (isRecord(value) ? value : {});

/** Whether `value` is an integer from 0 to `most`. */
export const isCount = (value: Data, most = 2 ** 53 - 1): value is number =>
  Number.isInteger(value) && value >= 0 && value <= most;

/** Read a frame; undefined for anything else. */
export function readFrame(payload: unknown): Frame | undefined {
  try {
    const frame = typeof payload == "string" && JSON.parse(payload);
    if (!isRecord(frame)) return;
    const { op = 0, d = null, t, s, b } = frame;
    if (
      isCount(op, MAX_OPCODE) &&
      (t == null || typeof t == "string") &&
      [s, b].every((number = 0) => isCount(number))
    )
      return { ...frame, op, d };
  } catch {
    // It is not JSON.
  }
}

/** Return the message that a frame carries. */
export const messageOf = ({ op, d, t, s }: Frame): Message => ({ opcode: op, data: d, type: t ?? null, sequence: s });

/**
 * Write a frame.
 *
 * @throws MesaError `invalid`: JSON cannot hold it.
 */
export function encodeFrame(op: number, d: Data, x?: Data, t?: string): string {
  let text: string;
  try {
    text = JSON.stringify({ op, d: d ?? null, t, x });
  } catch (error) {
    throw new MesaError("invalid", `data is no JSON: ${error}`);
  }
  if (LONE_SURROGATE.test(text))
    throw new MesaError("invalid", "data holds a lone surrogate");
  return text;
}

/**
 * Write a message of the application.
 *
 * @param extension - its member `x`, for a request or an answer.
 * @throws MesaError `invalid`: it cannot go on the wire.
 */
export function encodeMessage(type: string | null | undefined, data: Data, opcode: number = 0, extension?: Data): string {
  if (!isCount(opcode, MAX_OPCODE) || PROTOCOL_OPCODES.includes(opcode))
    throw new MesaError("invalid", `opcode ${opcode} belongs to the protocol; use 0`);
  if (type != null && typeof type != "string")
    throw new MesaError("invalid", `type: expected text or null, got ${typeof type}`);
  return encodeFrame(opcode, data, extension, type ?? undefined);
}

/** Write the answer to a request that is an error. */
export const encodeRefusal = (request: string, code: string, message: string): string =>
  encodeFrame(0, null, { a: request, error: { code, message: message.slice(0, 1000) } });
