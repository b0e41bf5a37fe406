/** Requests of the tabs to the server, and of the server to the tabs, while one connection lasts. */

import { encodeFrame, type Frame } from "../frames.js";

/** A request of a tab, under its ID at the server. */
interface Question<Peer> {
  peer: Peer;
  id: string;
  isProbe: boolean;
}

/** A request of the server, the tab that has it now, and the tabs that had it before. */
interface Asked<Peer> {
  frame: Frame;
  peer: Peer;
  tried: Set<Peer>;
}

export interface RequestsHost<Peer> {
  /** Write to the server. */
  _send(text: string): void;
  /** Give a frame to the socket of a tab, if it is there. */
  _answer(peer: Peer, text: string): void;
  /** The sockets that may be asked, the first one first. */
  _askable(): Peer[];
}

/** @typeParam Peer - the socket of a tab. */
export class Requests<Peer> {
  private _questions = new Map<string, Question<Peer>>();
  private _count = 0;
  private _asked = new Map<string, Asked<Peer>>();

  constructor(private _host: RequestsHost<Peer>) {}

  /** Forget all requests, because their IDs belong to the connection that has ended. */
  _clear(): void {
    this._questions.clear();
    this._asked.clear();
  }

  /** A tab has ended: the requests that it has fail. */
  _forget(peer: Peer): void {
    for (const [id, asked] of this._asked) if (asked.peer == peer) this._refuse(id, "failed", "the tab that was asked is gone");
  }

  /** Whether a tab waits for a sign of life of the server. */
  _isProbing(peer: Peer): boolean {
    return [...this._questions.values()].some((question) => question.peer == peer && question.isProbe);
  }

  /** Send a request of a tab to the server. */
  _fromTab(peer: Peer, { op, d, t, x }: Frame): void {
    const id = `${++this._count}`;
    this._questions.set(id, { peer, id: x.r, isProbe: op == 1 });
    this._host._send(JSON.stringify({ op, d, t, x: { r: id } }));
  }

  /** Pass the server's answer on to the tab that asked. */
  _toTab({ op, d, t, x }: Frame): void {
    const question = this._questions.get(x.a);
    this._questions.delete(x.a);
    if (question) this._host._answer(question.peer, JSON.stringify({ op, d, t, x: { ...x, a: question.id } }));
  }

  /** Pass a request of the server on to one tab after the other, until one answers. */
  _fromServer(frame: Frame, tried = new Set<Peer>()): void {
    const peer = this._host._askable().find((each) => !tried.has(each));
    const id = frame.x.r;
    if (!peer) return this._refuse(id, "unanswered", "no handler answers such a request");
    tried.add(peer);
    this._asked.set(id, { frame, peer, tried });
    this._host._answer(peer, JSON.stringify(frame));
  }

  /** Pass a tab's answer on to the server, or ask the next tab. */
  _toServer(peer: Peer, frame: Frame): void {
    const id = frame.x.a;
    const asked = this._asked.get(id);
    if (asked?.peer != peer) return;
    this._asked.delete(id);
    if (frame.x.error?.code == "unanswered") this._fromServer(asked.frame, asked.tried);
    else this._host._send(JSON.stringify(frame));
  }

  private _refuse(id: string, code: string, message: string): void {
    this._asked.delete(id);
    this._host._send(encodeFrame(0, null, { a: id, error: { code, message } }));
  }
}
