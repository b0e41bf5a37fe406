/**
 * A server of wire 2 for one user, with the clock of the fake browser. It drops acknowledged messages at once, so that a
 * premature acknowledgement makes a hole that the client reports.
 */

import { type Page, type FakeBrowser } from "./fake-browser.js";

const WINDOW = 4096;

interface Stored {
  number: number;
  frame: object;
}

export class Server {
  isDown = false;
  /** Whether the server answers nothing, but keeps its connections. */
  isSilent = false;
  token = "good";
  version = 2;
  hello: object = {};
  /** Whether the server keeps acknowledged messages, as for other devices of the user. */
  isKeeping = false;
  connections = new Set<Connection>();
  /** Largest and total number of connections. */
  attempts = 0;
  logins = 0;
  received: any[] = [];
  requests: any[] = [];
  answers: any[] = [];
  /** Frames that were written and lost on their way. */
  dropped: any[] = [];
  epoch = "e0";
  acknowledged = 0;
  onAcknowledged = (_number: number) => {};
  /** The end of each epoch, and the next epoch. */
  forks = new Map<string, number>();
  outbox: Stored[] = [];
  end = 0;
  everybody: Stored[] = [];
  everybodyEpoch = "b0";
  everybodyEnd = 0;

  constructor(readonly browser: FakeBrowser) {}

  connect(page: Page, _url: string): Connection {
    this.attempts++;
    return new Connection(this, page);
  }

  /** Send a stored message to the user. */
  dispatch(data: unknown): void {
    const frame = { op: 0, d: data, t: "USER", s: ++this.end };
    this.outbox.push({ number: this.end, frame });
    for (const connection of this.connections) connection.pump();
  }

  /** Send a stored message to everybody. */
  announce(data: unknown): void {
    const frame = { op: 0, d: data, t: "ALL", b: ++this.everybodyEnd };
    this.everybody.push({ number: this.everybodyEnd, frame });
    for (const connection of this.connections) connection.pump();
  }

  /** Send a message that is not stored. */
  mention(data: unknown): void {
    for (const connection of this.connections) if (connection.isAccepted) connection.write({ op: 0, d: data, t: "NOW" });
  }

  /** Continue in another epoch, as after a failover without loss. */
  fork(): void {
    const ended = [this.end, this.everybodyEnd] as const;
    this.forks.set(this.epoch, ended[0]).set(this.everybodyEpoch, ended[1]);
    this.epoch = `e${this.forks.size}`;
    this.everybodyEpoch = `b${this.forks.size}`;
    for (const connection of this.connections) connection.forked(...ended);
  }

  /** Forget all positions. */
  forget(): void {
    this.forks.clear();
    this.epoch = `n${this.browser.now}`;
    this.everybodyEpoch = `b${this.browser.now}`;
    for (const connection of this.connections) connection.end(1001);
  }

  /** Forget all messages too, and count from 1 again. */
  empty(): void {
    this.outbox = [];
    this.everybody = [];
    this.end = this.everybodyEnd = this.acknowledged = 0;
    this.forget();
  }

  cut(code = 1006): void {
    for (const connection of [...this.connections]) connection.end(code);
  }

  acknowledge(number: number): void {
    this.onAcknowledged(number);
    this.acknowledged = Math.max(this.acknowledged, number);
    while (!this.isKeeping && this.outbox.length && this.outbox[0]!.number <= this.acknowledged) this.outbox.shift();
    for (const connection of this.connections) connection.pump();
  }

  get rollback(): string {
    return `r${this.epoch}`;
  }

  /** Return the answer to a position in the outbox, as in section 17.4. */
  place(resume: any): any {
    const { epoch: e, acknowledged, end } = this;
    if (resume?.e === undefined) return { e, s: acknowledged, status: "fresh", lost: 0 };
    const ended = this.forks.get(resume.e);
    const isForked = resume.e != e && ended !== undefined;
    if (!isForked && (resume.e != e || resume.s > end)) return { e, s: acknowledged, status: "reset", lost: 0 };
    const from = isForked ? Math.min(resume.s, ended!) : resume.s;
    const first = this.outbox[0]?.number ?? end + 1;
    const s = Math.max(from, first - 1);
    const fork = isForked ? { ended, rollback: this.rollback } : {};
    return { e, s, status: isForked ? "forked" : "resumed", lost: s - from, ...fork };
  }

  /** Return the answer to a position among the messages to everybody. */
  placeOfAll(resume: any): any {
    const { everybodyEpoch: e, everybodyEnd: end } = this;
    if (resume?.e == e) return { e, s: resume.s, status: "resumed", lost: 0 };
    const ended = this.forks.get(resume?.e);
    if (ended === undefined) return { e, s: end, status: resume ? "reset" : "fresh", lost: 0 };
    return { e, s: Math.min(resume.s, ended), status: "forked", lost: 0, ended, rollback: this.rollback };
  }
}

class Connection {
  readyState = 0;
  onmessage: ((event: object) => void) | null = null;
  onclose: ((event: object) => void) | null = null;
  onerror: ((event: object) => void) | null = null;
  isAccepted = false;
  private _arrival = 0;
  private _departure = 0;
  private _isOver = false;
  private _acknowledged = 0;
  sent = 0;
  private _sentToAll = 0;

  constructor(
    private _server: Server,
    private _page: Page,
  ) {
    const { browser } = _server;
    _page.sockets.add(this);
    browser.at(2 + browser.random() * 20, () => {
      if (this._isOver) return;
      if (_server.isDown) return this._close(1006, "");
      this.readyState = 1;
      _server.connections.add(this);
      this.write({ op: 10, d: { c_reconnect_interval: 500, rules: [], v: _server.version, ..._server.hello } });
    });
  }

  // Calls of the client.

  send(text: string): void {
    if (this.readyState != 1) return;
    const { browser } = this._server;
    this._departure = Math.max(browser.now + 1 + browser.random() * 5, this._departure);
    browser.at(this._departure - browser.now, () => {
      if (this._isOver || this._server.isSilent) this._server.dropped.push(JSON.parse(text).d);
      else this._take(JSON.parse(text));
    });
  }

  close(code = 1005): void {
    this.end(code);
  }

  cut(): void {
    this._isOver = true;
    this._server.connections.delete(this);
  }

  // Actions of the server.

  end(code: number): void {
    if (this._isOver) return;
    this.cut();
    this.readyState = 2;
    this._close(code, "");
  }

  write(frame: object): void {
    const { browser, isSilent } = this._server;
    if (isSilent) return;
    this._arrival = Math.max(browser.now + 1 + browser.random() * 5, this._arrival);
    const text = JSON.stringify(frame);
    browser.at(this._arrival - browser.now, () => this.readyState == 1 && this.onmessage?.({ data: text }), this._page);
  }

  /** Send stored messages, as far as the window allows. */
  pump(): void {
    if (!this.isAccepted || this._isOver || this._server.version < 2) return;
    for (const { number, frame } of this._server.outbox)
      if (number > this.sent && number - this._acknowledged <= WINDOW) {
        this.write(frame);
        this.sent = number;
      }
    for (const { number, frame } of this._server.everybody)
      if (number > this._sentToAll) {
        this.write(frame);
        this._sentToAll = number;
      }
  }

  forked(ended: number, endedForAll: number): void {
    if (!this.isAccepted) return;
    const { epoch, everybodyEpoch, rollback } = this._server;
    const fork = { status: "forked", lost: 0, rollback };
    this.write({ op: 9, d: { ...fork, e: epoch, s: this.sent, ended } });
    this.write({ op: 9, d: { ...fork, e: everybodyEpoch, s: this._sentToAll, ended: endedForAll, b: true } });
  }

  private _close(code: number, reason: string): void {
    this._isOver = true;
    this._server.browser.at(
      1,
      () => {
        this.readyState = 3;
        this.onclose?.({ code, reason });
      },
      this._page,
    );
  }

  private _take(frame: any): void {
    const server = this._server;
    const { op, d, x } = frame;
    if (op == 2) this._login(d, x);
    else if (op == 3) {
      if (d.e != server.epoch || d.s > this.sent) return;
      this._acknowledged = Math.max(d.s, this._acknowledged);
      server.acknowledge(d.s);
    } else if (op == 1 && x?.r) this.write({ op: 11, d: {}, x: { a: x.r } });
    else if (x?.r) {
      server.requests.push(d);
      this.write({ op: 0, d, x: { a: x.r } });
    } else if (x?.a) server.answers.push(frame);
    else if (op == 0) server.received.push(d);
  }

  private _login(d: any, x: any): void {
    const server = this._server;
    server.logins++;
    if (d.token != server.token) return this.end(1008);
    this.isAccepted = true;
    if (!x || server.version < 2) return this.write({ op: 22, d: { id: "u" } });
    const place = server.place(x.resume);
    const everybody = server.placeOfAll(x.resume?.b);
    this.write({ op: 22, d: { id: "u" }, x: { ...place, b: everybody } });
    this.sent = this._acknowledged = place.s;
    this._sentToAll = everybody.s;
    this.pump();
  }
}
