/**
 * The log of frames that the server sent most recently, and the place of each tab in it.
 *
 * The leader logs the server's frames, so that it can send a connecting tab the frames that the tab missed, as a
 * server would (section 17 of the protocol): from the position that the tab names, or `reset` where that is not
 * known. The log is bounded; what a tab missed that is further behind is not known.
 */

import { type Data, type Frame, isCount } from "../frames.js";
import { NOWHERE, type Position, type Positions, readPosition, readPositions } from "../tracking.js";

/** Frames in the log; more than a server sends without an acknowledgement (4096), and than `MAX_LAG`. */
export const MAX_FRAMES = 6000;

/** Characters of all frames in the log. */
export const MAX_CHARACTERS = 16 * 1024 * 1024;

/** One frame, and where a tab is that had everything before it. */
interface Entry {
  number: number;
  text: string;
  before: Positions;
  /** Whether it has a position of its own, so that a client recognizes it. */
  isNumbered: boolean;
  /** The data of an op 9. */
  move?: Data;
}

/** The answer to a tab that connects: the `x` of its op 22, its place after that, and the frames that follow. */
export interface Answer {
  extension: Data;
  position: Position | undefined;
  frames: string[];
}

/** The last frame that a tab was given, in the order of one leader. */
export interface Mark {
  term: number;
  number: number;
}

export class History {
  private _entries: Entry[] = [];
  private _characters = 0;
  /** Where a tab is that had everything. */
  _head: Positions = NOWHERE;

  /** @param _term - of the leader that numbers the frames. */
  constructor(private _term: number) {}

  /** Log a frame that all tabs get. */
  _add(number: number, text: string, frame: Frame): void {
    const before = this._head;
    this._head = after(before, frame);
    this._entries.push({ number, text, before, isNumbered: before != this._head, move: frame.op == 9 ? frame.d : undefined });
    this._characters += text.length;
    let surplus = 0;
    while (this._entries.length - surplus > MAX_FRAMES || this._characters > MAX_CHARACTERS)
      this._characters -= this._entries[surplus++]!.text.length;
    if (surplus) this._entries.splice(0, surplus);
  }

  /** Begin at other positions, from which the server has sent nothing yet. */
  _begin(head: Positions): void {
    this._head = head;
    this._entries = [];
    this._characters = 0;
  }

  /**
   * Find what a tab missed.
   *
   * @param known - up to where its application has handled messages.
   * @param mark - the last frame that it was given, if it was connected before.
   * @param lost - messages that were dropped before the head; a client without a position learns of them.
   */
  _answer(known: Positions, mark: Mark | undefined, lost: Positions = NOWHERE): Answer {
    const outbox = this._find(readPosition(known), readPosition, false);
    const everybody = this._find(known.b, ({ b }) => b, true);
    const start = Math.min(outbox.index, everybody.index);
    const there = this._entries[start]?.before ?? this._head;
    const members = outbox.told ?? unknown(readPosition(there), outbox.isKnown, lost.s);
    const had = mark?.term == this._term ? mark.number : Infinity;
    const forks = [...(outbox.forks ?? []), ...(everybody.forks ?? [])];
    const isMissed = (entry: Entry, index: number) =>
      entry.isNumbered ? index >= start && !forks.includes(entry) : entry.number > had;
    return {
      extension: { ...members, b: everybody.told ?? unknown(there.b, everybody.isKnown, lost.b?.s) },
      position: readPosition(members),
      frames: this._entries.filter(isMissed).map(({ text }) => text),
    };
  }

  /** Find where in the log to go on after one of the two positions. */
  private _find(known: Position | undefined, read: (positions: Positions) => Position | undefined, b: boolean): Found {
    const end = this._entries.length;
    const head = read(this._head);
    if (!known || !head) return { index: end, isKnown: true };
    for (let index = end; index >= 0; index--) {
      const before = read(this._entries[index]?.before ?? this._head);
      if (before?.e != known.e || before.s > known.s) continue;
      return { index, isKnown: true, told: { ...known, status: "resumed", lost: 0 }, ...this._forked(known, index, head, b) };
    }
    return { index: end, isKnown: false };
  }

  /**
   * Answer with the ends of epochs, as a server does, instead of the frames that reported them. The tab may have
   * received those before without handling them.
   */
  private _forked(known: Position, start: number, head: Position, b: boolean): Partial<Found> {
    if (known.e == head.e) return {};
    const forks = this._entries.slice(start).filter(({ move }) => move && (b ? move.b : move.b !== true));
    if (!forks.every(({ move }) => move.status == "forked" && isCount(move.ended))) return {};
    const ended = Math.min(...forks.map(({ move }) => move.ended));
    const { rollback } = forks[forks.length - 1]!.move;
    return { forks, told: { e: head.e, s: Math.min(known.s, ended), status: "forked", lost: 0, ended, rollback } };
  }
}

/** The place in the log where a tab continues, and the leader's answer about its position there. */
interface Found {
  index: number;
  isKnown: boolean;
  told?: Data;
  /** The frames that said the same, and are left out. */
  forks?: Entry[];
}

/** The answer for a position that a tab does not have, or that the log does not know. */
const unknown = (there: Position | undefined, isKnown: boolean, lost = 0): Data =>
  there && { ...there, ...(isKnown ? { status: "fresh", lost } : { status: "reset", lost: 0 }) };

/** The positions of a tab after a frame; the same object as before if the frame has no position of its own. */
function after(before: Positions, { op, d, s, b }: Frame): Positions {
  const outbox = readPosition(before);
  if (op == 9) {
    const to = readPosition(d);
    if (!to) return before;
    return d.b === true ? { ...outbox, b: to } : readPositions({ ...to, b: readPosition(d.b) ?? before.b });
  }
  if (s !== undefined && outbox) return readPositions({ e: outbox.e, s, b: before.b });
  if (b !== undefined && before.b) return { ...outbox, b: { e: before.b.e, s: b } };
  return before;
}

/** Where a tab is. */
export interface Place {
  /** Up to where its application has handled messages. */
  known: Positions;
  /** The last frame that it was given. */
  mark?: Mark | undefined;
  /** The epochs that it has come across, in their order. */
  epochs: string[];
}

/**
 * The position from which all of these tabs can go on: the least one.
 *
 * The server knows where the oldest epoch has ended, and up to there its numbers are those of the next one. Which
 * one is older is known to tabs that have seen both; or it is that of `first`, or of the tab that was given least.
 */
export function least(places: Place[], first?: Place): Positions {
  const ordered = [...places].sort(
    ({ mark: a }, { mark: b }) => (a?.term ?? Infinity) - (b?.term ?? Infinity) || (a?.number ?? 0) - (b?.number ?? 0),
  );
  if (first) ordered.unshift(first);
  const isBefore = (one: string, other: string) =>
    places.some(({ epochs }) => epochs.includes(one) && epochs.indexOf(one) < epochs.indexOf(other));
  const find = (read: (positions: Positions) => Position | undefined) => {
    const all = ordered.map(({ known }) => read(known)).filter((position) => position != undefined);
    const oldest = all.find(({ e }) => !all.some((other) => isBefore(other.e, e))) ?? all[0];
    return oldest && { e: oldest.e, s: Math.min(...all.map(({ s }) => s)) };
  };
  return readPositions({ ...find(readPosition), b: find(({ b }) => b) });
}
