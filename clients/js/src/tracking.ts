/**
 * Track the client's positions, as the server tells them (section 17 of the protocol).
 *
 * Messages of an outbox, and messages to everybody, are numbered; a *position* is an epoch and a number in
 * it. The server names a position when it accepts the client, or when it continues from another position,
 * and each message that follows moves it by one. So the client recognizes what it received before, and knows
 * what is missing.
 */

import { type Data, type Frame, isCount, isRecord, membersOf, type Message, messageOf } from "./frames.js";

/** A position in an outbox: everything in the epoch `e` up to and including the number `s`. */
export interface Position {
  e: string;
  s: number;
}

/** A position in the outbox, and one among the messages to everybody, as in `x.resume`; absent if not known. */
export interface Positions extends Partial<Position> {
  b?: Position;
}

/**
 * The next event for the application, in order, and the client's positions once it is handled: the same object
 * as before if they did not change.
 */
export type Arrival =
  | ["message", Message, Positions]
  | ["lost", number, Positions]
  | ["forked", string, Positions]
  | ["reset" | "moved", undefined, Positions];

/** Positions of a client that the server has told nothing yet. */
export const NOWHERE: Positions = {};

/** Whether `value` is the name of an epoch, or of a request. */
export const isName = (value: Data): value is string => typeof value == "string" && /^[\w-]{1,64}$/.test(value);

/** Whether any position is known. */
export const isKnown = ({ e, b }: Positions): boolean => !!(e ?? b);

/** Read a position; undefined for anything else. Other members do not matter. */
export function readPosition(value: Data): Position | undefined {
  const { e, s } = membersOf(value);
  if (isName(e) && isCount(s)) return { e, s };
}

/** Read positions that were stored as JSON; unreadable ones count as none. */
export const readPositions = (value: Data): Positions => positionsOf(readPosition(value), readPosition(membersOf(value).b));

const positionsOf = (outbox?: Position, b?: Position): Positions => (b ? { ...outbox, b } : { ...outbox });

/** Tracks the positions up to which messages were received. */
export type Tracking = ReturnType<typeof createTracking>;

/** @param positions - up to where everything was received, or reported as missing. */
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
     * Read the `x` of an op 22. Without one the server speaks wire 1, and numbers nothing.
     *
     * @param asked - the positions from which the client asked the server to continue.
     */
    _accepted(extension: Data, asked: Positions): Arrival[] {
      tracking._isAccepted = true;
      tracking._isWire2 = isRecord(extension);
      const told = readServerPosition(extension);
      const toldBroadcasts = readServerPosition(membersOf(extension).b);
      acknowledged = told;
      followsBroadcasts = !!toldBroadcasts;
      return follow(told, toldBroadcasts, asked);
    },

    /**
     * Read the `d` of an op 9; undefined if it is unreadable, or about messages that are not followed. Among tabs that
     * share a connection one may move both positions: its `b` is then as in an op 22.
     */
    _resynced(data: Data): Arrival[] | undefined {
      const told = readServerPosition(data);
      if (!told) return;
      if (data.b === true) {
        if (followsBroadcasts) return follow(undefined, told, tracking._positions);
      } else if (acknowledged) {
        if (acknowledged.e != told.e) acknowledged = { e: told.e, s: -1 };
        return follow(told, readServerPosition(data.b), tracking._positions);
      }
    },

    /** Handle a message; one that was received before gives no event. */
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
     * Whether to acknowledge a position, which then counts as acknowledged.
     *
     * False for a position of another outbox or epoch than this connection's, and for one that the server knows.
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

  /** Move to the positions that the server named, and return what that means for the application. */
  function follow(told: ServerPosition | undefined, toldBroadcasts: ServerPosition | undefined, asked: Positions): Arrival[] {
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

/** A position as the server reported it. */
interface ServerPosition extends Position {
  _status: Data;
  _lost: number;
  _ended?: number;
  _rollback: string;
}

/** A change from one position to another, and what it skips. */
interface Move {
  _to: Position;
  _isReset: boolean;
  _lost: number;
  _rollback: string;
}

function readServerPosition(value: Data): ServerPosition | undefined {
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
 * Return what the move to the server's position skips.
 *
 * @param was - up to where messages were received, including those not handled yet.
 * @param asked - the position from which the client asked to continue.
 * @param isDense - whether every number belongs to a message to this client.
 */
function move(told: ServerPosition, was: Position | undefined, asked: Position | undefined, isDense: boolean): Move {
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
 * Return up to where messages were received, in numbers of the present epoch.
 *
 * Undefined where that cannot be known: a message that was received and not handled may come again, or its
 * number may stand for another message now; only the end of its epoch would tell.
 */
function carried(told: ServerPosition, was: Position, asked: Position): number | undefined {
  if (told.e == was.e) return was.s;
  if (told._ended != null && asked.e == was.e) return Math.min(was.s, told._ended);
}
