/** The living tabs, the position of each, and which of them the leader waits for. */

import { later } from "../clock.js";
import { type Position, type Positions, readPosition } from "../tracking.js";
import { least, type Place } from "./history.js";

/** Seconds that a new leader waits for the positions of tabs. */
export const ROLL_CALL = 1;

/** Messages that a tab may be behind the first one; beyond, acknowledgements do not wait for it. */
export const MAX_LAG = 3000;

/** Seconds between two checks for silent tabs, and checks that a tab may miss before nothing waits for it. */
export const CHECK = 10;
export const MAX_SILENCE = 3;

/** A living tab, and the position of its application. */
interface Member extends Place {
  acknowledged: Position | undefined;
  silence: number;
}

export interface MembersHost {
  /** Ask all tabs for their positions, or silent ones for a sign of life. */
  _ask(kind: "call" | "check"): void;
  /** All tabs have told their positions, or the leader waits no longer. */
  _login(): void;
  /** More may be acknowledged. */
  _acknowledge(): void;
  /** A tab has ended. */
  _gone(tab: string): void;
  /** Call `then` once the tab has ended. */
  _watch(tab: string, then: () => void): void;
  /** The tabs that live now. */
  _living(): Promise<string[]>;
}

export class Members {
  /** Whether the leader still waits for positions of tabs. */
  _isCalling = true;
  private _members = new Map<string, Member>();
  private _wentBack: string[] = [];
  private _expected: Set<string> | undefined; // those that have not answered
  private _isStopped = false;
  private _stopCalling = () => {};
  private _stopChecking = () => {};

  constructor(private _host: MembersHost) {}

  /** Ask all tabs for their positions, and from then on silent ones for a sign of life. */
  _call(): void {
    this._stopCalling = later(ROLL_CALL, () => this._called());
    this._host._ask("call");
    this._check();
    void this._host._living().then((tabs) => {
      this._expected = new Set(tabs.filter((tab) => !this._members.has(tab)));
      if (!this._expected.size) this._called();
    });
  }

  _stop(): void {
    this._isStopped = true;
    this._stopCalling();
    this._stopChecking();
  }

  _heard(tab: string): void {
    const member = this._members.get(tab);
    if (member) member.silence = 0;
  }

  /** A tab tells its positions. */
  _present(tab: string, { known, mark, epochs }: Place): void {
    const member = this._members.get(tab);
    if (member) Object.assign(member, { known, mark, epochs });
    else {
      this._members.set(tab, { known, mark, epochs, acknowledged: readPosition(known), silence: 0 });
      this._host._watch(tab, () => this._remove(tab));
    }
    this._answered(tab);
  }

  _remove(tab: string): void {
    if (this._isStopped) return;
    this._members.delete(tab);
    this._host._gone(tab);
    this._answered(tab);
    this._host._acknowledge();
  }

  /** A tab resumes from where it has handled messages. */
  _resumes(tab: string, known: Positions): void {
    const member = this._members.get(tab);
    if (member) member.known = known;
  }

  /** A tab was sent everything up to a position. */
  _begins(tab: string, position: Position | undefined): void {
    const member = this._members.get(tab);
    if (member) member.acknowledged = position;
  }

  /** A tab has handled everything up to a position. */
  _acknowledges(tab: string, position: Position | undefined): void {
    const member = this._members.get(tab);
    if (!member) return;
    member.acknowledged = position;
    member.known = { ...member.known, ...position };
    this._host._acknowledge();
  }

  /** Have `_least` begin in the epoch of a tab; once for each, whether it is the first time. */
  _goBack(tab: string): boolean {
    const isFirst = !this._wentBack.includes(tab);
    if (isFirst) this._wentBack.push(tab);
    return isFirst;
  }

  /** The position from which all tabs can continue. */
  get _least(): Positions {
    const last = this._wentBack[this._wentBack.length - 1];
    return least([...this._members.values()], last === undefined ? last : this._members.get(last));
  }

  /**
   * Up to where all tabs have acknowledged, except those that are silent, or far behind.
   *
   * @param e - the epoch that holds; undefined while one of them has acknowledged nothing in it.
   */
  _acknowledged(e: string): number | undefined {
    const living = [...this._members.values()].filter((member) => member.acknowledged && member.silence < MAX_SILENCE);
    if (!living.length || living.some((member) => member.acknowledged!.e != e)) return;
    const numbers = living.map((member) => member.acknowledged!.s);
    return Math.max(Math.min(...numbers), Math.max(...numbers) - MAX_LAG);
  }

  private _answered(tab: string): void {
    if (this._expected?.delete(tab) && !this._expected.size) this._called();
  }

  private _called(): void {
    if (!this._isCalling || this._isStopped) return;
    this._isCalling = false;
    this._stopCalling();
    this._host._login();
  }

  private _check(): void {
    for (const member of this._members.values()) member.silence++;
    this._host._acknowledge();
    const numbers = [...this._members.values()].flatMap(({ acknowledged }) => acknowledged?.s ?? []);
    if (Math.min(...numbers) < Math.max(...numbers)) this._host._ask("check");
    else for (const member of this._members.values()) member.silence = 0;
    this._stopChecking = later(CHECK, () => this._check());
  }
}
