/** One tab among those of its origin: it lives, follows the leader, and may become it. */

import { later } from "../clock.js";
import { MesaError } from "../errors.js";
import { NOWHERE, type Positions } from "../tracking.js";
import { type Mark, type Place } from "./history.js";
import { Relay, type RelayHost, type RelayOptions } from "./relay.js";
import { SharedSocket, type SocketHost } from "./socket.js";
import { type FromLeader, isNumbered, type ToLeader } from "./wire.js";

/** Seconds between two checks of the leader, and checks without an answer after which a tab replaces it. */
export const LOOK = 5;
export const MAX_QUESTIONS = 3;

/** Epochs whose order a tab remembers. */
const MAX_EPOCHS = 16;

/** A message that no leader has reported as written. */
interface Unconfirmed {
  text: string;
  socket: string;
  count: number;
  settle: ((error?: MesaError) => void)[];
}

type Said<T> = T extends unknown ? Omit<T, "to" | "tab"> : never;

export class Tab implements SocketHost, RelayHost {
  /** Up to where the client of this tab has handled messages. */
  _known: () => Positions = () => NOWHERE;
  private _id = "";
  private _sockets = 0;
  private _channel: BroadcastChannel | undefined; // while this tab takes part
  private _end = new AbortController();
  private _isJoined = false;
  private _isOver = false;
  private _socket: SharedSocket | undefined;
  private _unconfirmed: Unconfirmed[] = [];
  private _mark: Mark | undefined;
  private _epochs: string[] = [];
  // The leader that this tab follows:
  private _term = 0;
  private _leader = "";
  private _number = 0;
  private _isHeard = false;
  private _questions = 0;
  private _stopLooking = () => {};
  // If it leads itself:
  private _relay: Relay | undefined;
  private _stopQueueing = new AbortController();
  private _unlisten: () => void;

  /**
   * @param _name - the same in all tabs that share a connection.
   * @param _isNamed - whether the client logs in.
   */
  constructor(
    private _name: string,
    private _options: RelayOptions,
    private _isNamed: boolean,
  ) {
    this._unlisten = listen({
      pagehide: (event) => (event as PageTransitionEvent).persisted && this._part(),
      freeze: () => this._part(),
      pageshow: () => this._wake(),
      resume: () => this._wake(),
      online: () => this._wake(),
      visibilitychange: () => document.visibilityState == "visible" && this._wake(),
    });
  }

  /** The class of WebSockets for the client of this tab. */
  get _socketClass(): new () => SharedSocket {
    const tab = this;
    return class extends SharedSocket {
      constructor() {
        super(`${++tab._sockets}`, tab);
      }
    };
  }

  /** Messages that are not known to be written. */
  get _waiting(): number {
    return this._unconfirmed.length;
  }

  /** Wait until all that was sent by now is written. */
  _written(): Promise<void> {
    const last = this._unconfirmed[this._unconfirmed.length - 1];
    if (!last) return Promise.resolve();
    return new Promise((resolve, reject) => last.settle.push((error) => (error ? reject(error) : resolve())));
  }

  /** Leave for good: the client of this tab has ended. */
  _leave(): void {
    this._isOver = true;
    this._unlisten();
    this._part();
    const error = new MesaError("closed", "send: the client has ended, and the message may not have been written");
    for (const { settle } of this._unconfirmed.splice(0)) for (const each of settle) each(error);
  }

  // Actions of this tab's client.

  _open(socket: SharedSocket): void {
    this._socket = socket;
    if (!this._channel) this._join();
    else this._ask();
  }

  _send(socket: SharedSocket, text: string, isMessage: boolean): void {
    const count = ++socket._count;
    if (isMessage) this._unconfirmed.push({ text, socket: socket._id, count, settle: [] });
    this._tell({ kind: "frame", socket: this._idOf(socket), count, text });
  }

  _shut(socket: SharedSocket, code: number, reason: string, isCut: boolean): void {
    this._tell({ kind: "shut", socket: this._idOf(socket), code, reason, isCut });
  }

  _moved(epoch: string): void {
    if (this._epochs.includes(epoch)) return;
    this._epochs = [...this._epochs, epoch].slice(-MAX_EPOCHS);
  }

  // Taking part.

  private _join(): void {
    if (this._isOver) return;
    this._id = `${Date.now().toString(36)}${Math.random().toString(36).slice(2)}`;
    const end = (this._end = new AbortController());
    const channel = (this._channel = new BroadcastChannel(this._name));
    channel.onmessage = ({ data }) => {
      if (data.to == "leader") this._relay?._take(data);
      else this._hear(data);
    };
    void hold(this._lockOf(this._id), end.signal, {}, () => {
      this._isJoined = true;
      this._ask();
      this._queue();
      this._stopLooking = later(LOOK, () => this._look());
      return () => {};
    });
  }

  /** Leave the group of tabs, for good or until the page is back. */
  private _part(): void {
    if (!this._channel) return;
    this._resign();
    this._tell({ kind: "bye" });
    this._stopLooking();
    this._end.abort();
    this._channel.close();
    this._channel = undefined;
    this._isJoined = false;
    this._drop("this page is asleep");
  }

  /** The page is visible or online again. */
  private _wake(): void {
    if (this._isOver || !this._socket) return;
    if (!this._channel) this._join();
    else this._tell({ kind: "hurry" });
  }

  private get _place(): Place {
    return { known: this._known(), mark: this._mark, epochs: this._epochs };
  }

  private _lockOf(tab: string): string {
    return `${this._name} tab ${tab}`;
  }

  private _idOf(socket: SharedSocket): string {
    return `${this._id}/${socket._id}`;
  }

  private _tell(message: Said<ToLeader>): void {
    const whole = { to: "leader", tab: this._id, ...message } as ToLeader;
    const relay = this._relay;
    if (relay) void Promise.resolve().then(() => relay._take(whole));
    else this._channel?.postMessage(whole);
  }

  /** Ask the leader for a connection, for a socket that waits for one. */
  private _ask(): void {
    const socket = this._socket;
    if (this._isJoined && socket?.readyState === 0)
      this._tell({ kind: "open", socket: this._idOf(socket), ...this._place });
  }

  /** Check whether there is a leader; one that does not answer is frozen, and replaced. */
  private _look(): void {
    if (this._isHeard || this._relay) this._questions = 0;
    else if (++this._questions > MAX_QUESTIONS) this._queue(true);
    else if (this._socket?.readyState === 0) this._ask();
    else {
      const socket = this._socket?.readyState == 1 ? this._socket : undefined;
      this._tell({ kind: "ping", socket: socket && this._idOf(socket), count: socket?._count ?? 0 });
    }
    this._isHeard = false;
    this._stopLooking = later(LOOK, () => this._look());
  }

  // Leading.

  /** Become the leader when earlier ones have ended, or instead of a frozen one. */
  private _queue(steal = false): void {
    this._stopQueueing.abort();
    const queueing = (this._stopQueueing = new AbortController());
    this._questions = 0;
    void hold(`${this._name} leader`, queueing.signal, { steal }, () => {
      this._term = Math.max(this._term + 1, Date.now());
      this._leader = this._id;
      this._number = 0;
      const relay = (this._relay = new Relay(this._id, this._term, this._options, this));
      this._follow();
      return () => {
        relay._stop();
        if (this._relay == relay) this._relay = undefined;
      };
    }).then((isStolen) => isStolen && queueing == this._stopQueueing && this._channel && this._queue());
  }

  private _resign(): void {
    this._stopQueueing.abort();
    this._relay?._stop();
    this._relay = undefined;
  }

  _post(message: FromLeader): void {
    this._channel?.postMessage(message);
    void Promise.resolve().then(() => this._channel && this._hear(message));
  }

  _watch(tab: string, then: () => void): void {
    if (tab != this._id)
      void hold(this._lockOf(tab), this._stopQueueing.signal, {}, () => {
        then();
        return undefined;
      });
  }

  async _living(): Promise<string[]> {
    const prefix = this._lockOf("");
    const names = (await navigator.locks.query()).held!.map(({ name }) => name!);
    return names.filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length));
  }

  // Following.

  private _hear(message: FromLeader): void {
    const { term, leader, number } = message;
    if (term < this._term || (term == this._term && leader != this._leader)) return;
    if (term > this._term) {
      this._term = term;
      this._leader = leader;
      this._number = isNumbered(message) ? number - 1 : number;
      if (this._relay) this._queue(); // it was replaced while it was frozen
      this._follow();
    }
    this._isHeard = true;
    if (message.kind == "call") this._tell({ kind: "present", ...this._place });
    else if (message.kind == "check") this._tell({ kind: "here" });
    const next = isNumbered(message) ? this._number + 1 : this._number;
    this._number = Math.max(number, this._number);
    if (number > next) this._drop("messages between tabs were lost");
    else if (number == next) this._obey(message);
  }

  /** There is another leader: sockets that lead to the one before are closed, so that the client connects again. */
  private _follow(): void {
    if (this._socket?.readyState === 0) this._ask();
    else this._drop("another tab leads now");
  }

  private _drop(reason: string): void {
    const socket = this._socket;
    void Promise.resolve().then(() => socket?._end(1006, reason));
    if (socket) socket._isLive = false;
  }

  private _obey(message: FromLeader): void {
    const socket = this._socket;
    if (!socket) return;
    const isMine = "socket" in message && message.socket == this._idOf(socket);
    switch (message.kind) {
      case "frame":
        if (socket._isLive && socket._giveAll(message.text)) this._move();
        break;
      case "given":
        if (isMine) this._given(socket, message.texts, message.isLogin);
        else if (socket._isLive && !socket._isFull) this._move();
        break;
      case "written":
        if (isMine) this._confirm(socket, message.count);
        break;
      case "closed":
        if (isMine || (message.socket === undefined && socket.readyState)) {
          socket._isLive = false;
          socket._end(message.code, message.reason);
        }
    }
  }

  private _given(socket: SharedSocket, texts: string[], isLogin: boolean): void {
    const [first, ...others] = texts;
    const isHello = socket.readyState === 0;
    if (isLogin) {
      const { x } = JSON.parse(first!);
      const known = this._known(); // of a page before this one, perhaps
      for (const position of [known, known.b, x, x?.b]) if (position?.e) this._moved(position.e);
      socket._restart(x?.s);
    }
    if (isLogin || (isHello && !this._isNamed)) {
      socket.readyState = Math.max(socket.readyState, 1);
      socket._isLive = true;
      this._sendAgain(socket);
    }
    socket._give(first!);
    let isWhole = true;
    for (const text of others) isWhole &&= socket._giveAll(text);
    if (socket._isLive && isWhole) this._move();
  }

  /** The client has everything up to here. */
  private _move(): void {
    this._mark = { term: this._term, number: this._number };
  }

  private _sendAgain(socket: SharedSocket): void {
    for (const each of this._unconfirmed) {
      each.socket = socket._id;
      each.count = ++socket._count;
      this._tell({ kind: "frame", socket: this._idOf(socket), count: each.count, text: each.text });
    }
  }

  private _confirm(socket: SharedSocket, count: number): void {
    const isWritten = (each: Unconfirmed) => each.socket == socket._id && each.count <= count;
    const written = this._unconfirmed.filter(isWritten);
    this._unconfirmed = this._unconfirmed.filter((each) => !isWritten(each));
    for (const { settle } of written) for (const each of settle) each();
  }
}

/**
 * Hold a Web Lock until the signal, or until it is stolen.
 *
 * @param then - called once the lock is held; a function that it returns is called at the end. Without one, the lock
 * is released.
 * @returns whether it was stolen.
 */
async function hold(
  name: string,
  signal: AbortSignal,
  { steal = false }: { steal?: boolean },
  then: () => (() => void) | undefined,
): Promise<boolean> {
  let finish: (() => void) | undefined;
  try {
    await navigator.locks.request(name, steal ? { steal } : { signal }, async () => {
      if (signal.aborted) return;
      finish = then();
      if (finish) await new Promise<void>((end) => signal.addEventListener("abort", () => end(), { once: true }));
    });
    return false;
  } catch {
    return !!finish && !signal.aborted;
  } finally {
    finish?.();
  }
}

/** Listen to events of the page, where there is one. */
function listen(handlers: Record<string, (event: Event) => unknown>): () => void {
  if (typeof addEventListener != "function" || typeof document == "undefined") return () => {};
  const names = Object.keys(handlers);
  const hear = (event: Event) => void handlers[event.type]!(event);
  for (const target of [globalThis, document]) for (const name of names) target.addEventListener(name, hear);
  return () => {
    for (const target of [globalThis, document]) for (const name of names) target.removeEventListener(name, hear);
  };
}
