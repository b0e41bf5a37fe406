/**
 * Where a client is among its messages, as far as the server told it (section 17 of the protocol).
 *
 * Messages of an outbox, and messages to everybody, are numbered; a *position* is an epoch and a number in
 * it. The server names one when it accepts the client, or when it goes on from another place, and each
 * message that follows moves it by one. So what was received before is recognized, and what is missing is
 * known.
 */

import { type Data, type Frame, isCount, isRecord, membersOf, type Message, messageOf } from "./frames.js";

/** A place in an outbox: everything in the epoch `e` up to and including the number `s`. */
export interface Position {
  e: string;
  s: number;
}

/** A place in the outbox, and one among the messages to everybody, as in `x.resume`; absent: not known. */
export interface Positions extends Partial<Position> {
  b?: Position;
}

/**
 * The next thing for the application, in order, and where the client is once that is handled: the same
 * object as before if this did not change.
 */
export type Arrival =
  | ["message", Message, Positions]
  | ["lost", number, Positions]
  | ["forked", string, Positions]
  | ["reset" | "moved", undefined, Positions];

/** Of a client that was told nothing yet. */
export const NOWHERE: Positions = {};

/** Whether `value` is the name of an epoch, or of a request. */
export const isName = (value: Data): value is string => typeof value == "string" && /^[\w-]{1,64}$/.test(value);

/** Whether positions name a place at all. */
export const isKnown = ({ e, b }: Positions): boolean => !!(e ?? b);

/** Read a position; undefined for anything else. Other members do not matter. */
export function readPosition(value: Data): Position | undefined {
  const { e, s } = membersOf(value);
  if (isName(e) && isCount(s)) return { e, s };
}

/** Read positions that were kept as JSON; what cannot be read counts as none. */
export const readPositions = (value: Data): Positions => positionsOf(readPosition(value), readPosition(membersOf(value).b));

const positionsOf = (outbox?: Position, b?: Position): Positions => (b ? { ...outbox, b } : { ...outbox });

/** Keeps the positions of what was received. */
export type Tracking = ReturnType<typeof createTracking>;

/** @param positions - up to where everything was received, or told to be missing. */
export function createTracking(positions: Positions) {
  let outbox = readPosition(positions);
  let broadcasts = positions.b;
  let acknowledged: Position | undefined; // undefined while this connection is in no outbox
  let followsBroadcasts = false;

  const tracking = {
    _isWire2: false,
    _isAccepted: false,
    _positions: positions,

    /**
     * Take the `x` of an op 22. Without one the server speaks wire 1, and numbers nothing.
     *
     * @param asked - from where the server was asked to go on.
     */
    _accepted(extension: Data, asked: Positions): Arrival[] {
      tracking._isAccepted = true;
      tracking._isWire2 = isRecord(extension);
      const told = readTold(extension);
      const toldBroadcasts = readTold(membersOf(extension).b);
      acknowledged = told;
      followsBroadcasts = !!toldBroadcasts;
      return follow(told, toldBroadcasts, asked);
    },

    /**
     * Take the `d` of an op 9; undefined if it cannot be read, or is about nothing that is followed. Among tabs that
     * share a connection one may move both positions: its `b` is then as in an op 22.
     */
    _resynced(data: Data): Arrival[] | undefined {
      const told = readTold(data);
      if (!told) return;
      if (data.b === true) {
        if (followsBroadcasts) return follow(undefined, told, tracking._positions);
      } else if (acknowledged) {
        if (acknowledged.e != told.e) acknowledged = { e: told.e, s: -1 };
        return follow(told, readTold(data.b), tracking._positions);
      }
    },

    /** Take a message: nothing comes of one that was received before. */
    _arrived(frame: Frame): Arrival[] {
      const arrivals: Arrival[] = [];
      const { s, b } = frame;
      if (s != null && outbox && acknowledged) {
        const { e } = outbox;
        const missing = s - outbox.s - 1;
        if (missing < 0) return [];
        if (missing) arrivals.push(["lost", missing, positionsOf({ e, s: s - 1 }, broadcasts)]);
        go({ e, s }, broadcasts);
      } else if (b != null && broadcasts) {
        if (!tracking._isAccepted) return []; // it comes again, in its place, once this client is accepted
        if (followsBroadcasts) {
          // Numbers may be skipped here: those of messages that exclude this client.
          if (b <= broadcasts.s) return [];
          go(outbox, { e: broadcasts.e, s: b });
        }
      }
      arrivals.push(["message", messageOf(frame), tracking._positions]);
      return arrivals;
    },

    /**
     * Whether it is worth to acknowledge a position; it counts as acknowledged then.
     *
     * It is not in an outbox or an epoch that this connection is not in, nor if the server knows.
     */
    _acknowledges(position: Position): boolean {
      const { e, s } = position;
      const isNews = e == acknowledged?.e && s > acknowledged.s && e == outbox?.e && s <= outbox.s;
      if (isNews) acknowledged = position;
      return isNews;
    },
  };

  function go(...[to, toBroadcasts]: [Position?, Position?]): void {
    outbox = to;
    broadcasts = toBroadcasts;
    tracking._positions = positionsOf(to, toBroadcasts);
  }

  /** Go to where the server says, and tell what that means. */
  function follow(told: Told | undefined, toldBroadcasts: Told | undefined, asked: Positions): Arrival[] {
    const moves = [
      told && move(told, outbox, readPosition(asked), true),
      toldBroadcasts && move(toldBroadcasts, broadcasts, asked.b, false),
    ];
    go(moves[0]?._to ?? outbox, moves[1]?._to ?? broadcasts);
    const { _positions: positions } = tracking;
    const arrivals: Arrival[] = [];
    if (moves.some((each) => each?._isReset)) arrivals.push(["reset", , positions]);
    for (const rollback of new Set(moves.map((each) => each?._rollback))) if (rollback) arrivals.push(["forked", rollback, positions]);
    for (const each of moves) if (each?._lost) arrivals.push(["lost", each._lost, positions]);
    if ((told || toldBroadcasts) && !arrivals.length) arrivals.push(["moved", , positions]);
    return arrivals;
  }

  return tracking;
}

/** What the server said of one position. */
interface Told extends Position {
  _status: Data;
  _lost: number;
  _ended?: number;
  _rollback: string;
}

/** From one position to another, and what was passed over. */
interface Move {
  _to: Position;
  _isReset: boolean;
  _lost: number;
  _rollback: string;
}

function readTold(value: Data): Told | undefined {
  const position = readPosition(value);
  if (!position) return;
  const { status, lost, ended, rollback } = value;
  return {
    ...position,
    _status: status,
    _lost: isCount(lost, Infinity) ? lost : 0,
    _ended: isCount(ended, Infinity) ? ended : undefined,
    _rollback: status == "forked" && typeof rollback == "string" ? rollback : "",
  };
}

/**
 * Say what is passed over on the way to where the server says.
 *
 * @param was - up to where messages were received; what the application has not handled included.
 * @param asked - from where the server was to go on.
 * @param isDense - whether every number is one of a message to this client.
 */
function move(told: Told, was: Position | undefined, asked: Position | undefined, isDense: boolean): Move {
  const { e, s, _status, _lost, _rollback } = told;
  const to = (number: number, lost: number, isReset = false): Move => ({
    _to: { e, s: number },
    _isReset: isReset,
    _lost: lost,
    _rollback: isReset ? "" : _rollback,
  });
  // Numbers before and after cannot be compared, whatever the server calls it.
  const isReset =
    !/^(fresh|resumed|forked)$/.test(_status) || (!!asked && _status != "forked" && e != asked.e);
  if (isReset || !was || !asked) return to(s, _lost, isReset);
  const had = carried(told, was, asked);
  if (had == null)
    return to(s, isDense ? Math.max(_lost, s - asked.s) : _lost, asked.s < was.s && s >= asked.s);
  if (s <= had) return to(had, 0); // what comes again is recognized
  return to(s, isDense ? s - had : _lost);
}

/**
 * Up to where messages were received, in the numbers of the epoch that holds now.
 *
 * Undefined where that cannot be known: what was received and not handled may come again, or may be another
 * message now; only the end of the epoch in which it was received would tell.
 */
function carried(told: Told, was: Position, asked: Position): number | undefined {
  if (told.e == was.e) return was.s;
  if (told._ended != null && asked.e == was.e) return Math.min(was.s, told._ended);
}
