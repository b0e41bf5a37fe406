/** The leader's relay: one client to the server, and a server to the clients of the tabs. */

import { type Reconnection } from "../backoff.js";
import { type SocketClass } from "../connection.js";
import { type Data, encodeFrame, type Frame, isCount, isRecord, readFrame } from "../frames.js";
import { NOWHERE, type Position, type Positions, readPosition, readPositions } from "../tracking.js";
import { History, type Mark } from "./history.js";
import { Members, type MembersHost } from "./members.js";
import { Requests, type RequestsHost } from "./requests.js";
import { Upstream, type UpstreamHost } from "./upstream.js";
import { type FromLeader, type Numbered, type SocketId, type ToLeader } from "./wire.js";

/** The tab of a relay. */
export interface RelayHost {
  _post(message: FromLeader): void;
  /** Call `then` once the tab has ended. */
  _watch(tab: string, then: () => void): void;
  /** The tabs that live now. */
  _living(): Promise<string[]>;
}

export interface RelayOptions {
  _url: string;
  _socketClass: SocketClass;
  _timeout: number;
  _reconnect: Reconnection;
}

/** A socket of a tab. */
interface Peer {
  tab: string;
  socket: SocketId;
  mark: Mark | undefined;
  count: number;
  isGreeted: boolean;
  /** Its credentials, while the login is not answered. */
  login: { d: Data; x: Data } | undefined;
}

export class Relay implements UpstreamHost, MembersHost, RequestsHost<Peer> {
  private _upstream: Upstream;
  private _history: History;
  private _members: Members;
  private _requests: Requests<Peer>;
  private _peers = new Map<SocketId, Peer>();
  private _number = 0;
  private _isStopped = false;
  // Of the present connection:
  private _hello = "";
  private _version = 1;
  private _named = false; // whether CLIENT_VERSION was sent
  private _isTrying = false;
  private _user: string | undefined; // the op 22, once there is one
  private _isWire2 = false;
  private _lost = NOWHERE;
  private _acknowledged: Position | undefined;

  constructor(
    private _leader: string,
    private _term: number,
    { _url, _socketClass, _timeout, _reconnect }: RelayOptions,
    private _host: RelayHost,
  ) {
    this._history = new History(_term);
    this._upstream = new Upstream(_socketClass, _url, _timeout, _reconnect, this);
    this._requests = new Requests(this);
    this._members = new Members(this);
    this._members._call();
  }

  /** Handle a message of a tab. */
  _take(message: ToLeader): void {
    if (this._isStopped) return;
    this._members._heard(message.tab);
    switch (message.kind) {
      case "present":
        return this._members._present(message.tab, message);
      case "open":
        this._members._present(message.tab, message);
        return this._open(message.tab, message.socket, message.mark);
      case "frame":
        return this._frame(message.socket, message.count, message.text);
      case "shut":
        return this._shut(message.socket, message.code, message.reason, message.isCut);
      case "ping":
        this._post({ kind: "ok", tab: message.tab });
        if (message.socket && this._peers.get(message.socket)?.count != message.count)
          this._close(message.socket, 1006, "messages between tabs were lost");
        return;
      case "hurry":
        if (this._peers.size) this._upstream._want(true);
        return;
      case "bye":
        return this._members._remove(message.tab);
    }
  }

  /** Stop leading. */
  _stop(): void {
    if (this._isStopped) return;
    this._isStopped = true;
    this._members._stop();
    this._upstream._stop();
  }

  // Tabs, and their sockets.

  _ask(kind: "call" | "check"): void {
    this._post({ kind });
  }

  _watch(tab: string, then: () => void): void {
    this._host._watch(tab, then);
  }

  _living(): Promise<string[]> {
    return this._host._living();
  }

  _gone(tab: string): void {
    for (const peer of this._peers.values()) if (peer.tab == tab) this._forget(peer);
  }

  private _open(tab: string, socket: SocketId, mark: Mark | undefined): void {
    this._post({ kind: "ok", tab });
    if (this._peers.has(socket)) return;
    for (const peer of this._peers.values()) if (peer.tab == tab) this._forget(peer);
    const peer: Peer = { tab, socket, mark, count: 0, isGreeted: false, login: undefined };
    this._peers.set(socket, peer);
    if (this._upstream._isOpen) this._greet(peer);
    else this._upstream._want();
  }

  private _greet(peer: Peer): void {
    peer.isGreeted = true;
    this._give(peer, [this._hello]);
  }

  /** The tab has closed its socket; without any, no connection is needed. */
  private _shut(socket: SocketId, code: number, reason: string, isCut: boolean): void {
    const peer = this._peers.get(socket);
    if (!peer) return;
    const isDead = isCut && peer.isGreeted && (this._version < 2 || this._requests._isProbing(peer));
    this._close(socket, code, reason);
    if (isDead) this._upstream._cut(4001, "no keepalive");
    else if (!this._peers.size) this._upstream._stop();
  }

  private _close(socket: SocketId, code: number, reason: string): void {
    const peer = this._peers.get(socket);
    if (peer) this._forget(peer);
    this._post({ kind: "closed", socket, code, reason });
  }

  private _forget(peer: Peer): void {
    this._peers.delete(peer.socket);
    this._requests._forget(peer);
    const wasTrying = this._isTrying && peer.login;
    peer.login = undefined;
    if (wasTrying && ![...this._peers.values()].some(({ login }) => login)) this._isTrying = false;
  }

  private _frame(socket: SocketId, count: number, text: string): void {
    const peer = this._peers.get(socket);
    if (!peer || count > peer.count + 1) return this._close(socket, 1006, "messages between tabs were lost");
    if (count <= peer.count) return;
    peer.count = count;
    if (this._fromClient(peer, text, JSON.parse(text))) this._post({ kind: "written", socket, count });
  }

  /** Handle a frame of a tab's client as a server does; return whether it is a message that was passed on. */
  private _fromClient(peer: Peer, text: string, { op, d, t, x }: Frame): boolean {
    if (op == 2) {
      peer.login = { d, x };
      this._login();
    } else if (op == 3) this._members._acknowledges(peer.tab, readPosition(d));
    else if (isRecord(x) && x.a !== undefined) this._requests._toServer(peer, { op, d, t: t ?? null, x });
    else if (isRecord(x) && x.r !== undefined) this._requests._fromTab(peer, { op, d, t, x });
    else if (t == "CLIENT_VERSION") {
      if (!this._named) this._upstream._send(text);
      this._named = true;
    } else if (op != 11) return this._upstream._send(text);
    return false;
  }

  // Logging in.

  /** Log in by the first tab that wants to; the others are answered once that is done. */
  _login(): void {
    if (this._members._isCalling || !this._upstream._isOpen) return;
    for (const peer of [...this._peers.values()]) {
      if (!peer.login) continue;
      if (this._user !== undefined) this._accept(peer);
      else if (!this._isTrying) {
        this._isTrying = true;
        const { d, x } = peer.login;
        this._upstream._send(encodeFrame(2, d, isRecord(x) ? { ...x, resume: this._resume(d) } : x));
      }
    }
  }

  /** Return the position to continue from: after the frames of this leader, or the least one of the living tabs. */
  private _resume(d: Data): Positions | undefined {
    if (d?.shouldSync === false) return undefined;
    if (readPosition(this._history._head) || this._history._head.b) return this._history._head;
    for (const { tab, login } of this._peers.values())
      if (login) this._members._resumes(tab, readPositions(login.x?.resume));
    const resume = this._members._least;
    if (!readPosition(resume) && !resume.b) return undefined;
    this._history._begin(resume);
    return resume;
  }

  private _accept(peer: Peer): void {
    const { d, x } = peer.login!;
    peer.login = undefined;
    if (!this._isWire2) return this._give(peer, [encodeFrame(22, JSON.parse(this._user!))], true);
    const known = d?.shouldSync === false ? NOWHERE : readPositions(x?.resume);
    const { extension, position, frames } = this._history._answer(known, peer.mark, this._lost);
    if (extension.status == "reset" || extension.b?.status == "reset") if (this._goBack(peer)) return;
    this._members._begins(peer.tab, position);
    this._give(peer, [encodeFrame(22, JSON.parse(this._user!), extension), ...frames], true);
  }

  /**
   * Connect again, from where a tab is that the log does not reach back to; once for each.
   *
   * @returns whether it does so.
   */
  private _goBack({ tab }: Peer): boolean {
    if (!this._members._goBack(tab)) return false;
    this._history._begin(NOWHERE);
    this._upstream._after = 0;
    this._upstream._cut(1006, "a tab is further back");
    return true;
  }

  /** Continue the log from the position that the server named when it accepted. */
  private _accepted(d: Data, x: Data): void {
    this._user = JSON.stringify(d ?? null);
    this._isTrying = false;
    this._isWire2 = isRecord(x);
    this._lost = NOWHERE;
    if (this._isWire2) this._goOn(x);
    this._login();
    this._lost = NOWHERE;
  }

  private _goOn(x: Data): void {
    const outbox = readPosition(x);
    const b = readPosition(x.b);
    const head = this._history._head;
    const isFresh = !!outbox && (x.status == "fresh" || head.e === undefined);
    const isFreshB = !!b && (x.b.status == "fresh" || !head.b);
    this._acknowledged = outbox;
    if (isFresh || isFreshB) {
      this._history._begin(readPositions({ ...(isFresh ? outbox : readPosition(head)), b: isFreshB ? b : head.b }));
      this._lost = { s: isFresh && isCount(x.lost) ? x.lost : 0 };
      if (isFreshB) this._lost.b = { e: "", s: isCount(x.b.lost) ? x.b.lost : 0 };
    }
    if (!isFresh && !isFreshB && x.status == "reset" && x.b?.status == "reset") return this._moved(x); // tabs are told once
    if (outbox && !isFresh) this._moved({ ...x, b: undefined });
    if (b && !isFreshB) this._moved({ ...x.b, b: true });
  }

  /** Log that the server continues elsewhere than at the end of the log. */
  private _moved(d: Data): void {
    const head = d.b === true ? this._history._head.b : readPosition(this._history._head);
    if (d.status == "resumed" && !d.lost && head?.e == d.e && head?.s == d.s) return;
    this._broadcast(encodeFrame(9, d), { op: 9, d });
  }

  /** Acknowledge what all tabs have acknowledged, as far as they are waited for. */
  _acknowledge(): void {
    const { e, s: end } = this._history._head;
    if (!this._isWire2 || this._user === undefined || e === undefined) return;
    const s = Math.min(this._members._acknowledged(e) ?? -1, end!);
    if (s < 0 || (this._acknowledged?.e == e && s <= this._acknowledged.s)) return;
    this._acknowledged = { e, s };
    this._upstream._send(encodeFrame(3, { e, s }));
  }

  // Frames of the server.

  _received(payload: unknown): void {
    const frame = readFrame(payload);
    if (!frame || this._isStopped) return;
    const { op, d, x } = frame;
    const text = payload as string;
    if (op == 10) this._greeted(isRecord(d) ? d : {});
    else if (op == 1) {
      this._acknowledge();
      this._upstream._send(encodeFrame(11, {}));
      for (const peer of this._peers.values()) if (peer.isGreeted) this._give(peer, [text]);
    } else if (op == 22) this._accepted(d, x);
    else if (this._isWire2 && op == 7) {
      if (isRecord(d) && typeof d.after == "number" && d.after >= 0) this._upstream._after = Math.min(d.after, 86_400);
    } else if (isRecord(x) && "a" in x) this._requests._toTab(frame);
    else if (this._isWire2 && isRecord(x) && typeof x.r == "string") this._requests._fromServer(frame);
    else this._broadcast(text, frame);
  }

  _ended(code: number, reason: string): void {
    if (this._isStopped) return;
    this._user = undefined;
    this._isTrying = this._isWire2 = this._named = false;
    this._requests._clear();
    for (const peer of [...this._peers.values()]) if (peer.isGreeted) this._peers.delete(peer.socket);
    this._post({ kind: "closed", code, reason });
    if (this._peers.size) this._upstream._want();
  }

  /** This leader makes the pauses before it reconnects, so it does not pass them on to the tabs. */
  private _greeted(d: Record<string, Data>): void {
    this._version = isCount(d.v) && d.v ? d.v : 1;
    this._upstream._greeted(d.c_reconnect_interval);
    this._hello = encodeFrame(10, { ...d, c_reconnect_interval: undefined });
    for (const peer of this._peers.values()) this._greet(peer);
  }

  private _broadcast(text: string, frame: Frame): void {
    this._post({ kind: "frame", text });
    this._history._add(this._number, text, frame);
  }

  // Requests.

  _send(text: string): void {
    this._upstream._send(text);
  }

  _answer(peer: Peer, text: string): void {
    if (this._peers.has(peer.socket)) this._give(peer, [text]);
  }

  /** This tab comes first. */
  _askable(): Peer[] {
    const peers = [...this._peers.values()].filter((peer) => peer.isGreeted && !peer.login);
    return [...peers.filter(({ tab }) => tab == this._leader), ...peers];
  }

  private _give(peer: Peer, texts: string[], isLogin = false): void {
    this._post({ kind: "given", socket: peer.socket, texts, isLogin });
  }

  private _post(message: Numbered | { kind: "call" | "check" } | { kind: "ok"; tab: string }): void {
    if (["frame", "given", "written", "closed"].includes(message.kind)) this._number++;
    this._host._post({ to: "tabs", leader: this._leader, term: this._term, number: this._number, ...message });
  }
}
