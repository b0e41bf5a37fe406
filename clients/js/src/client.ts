/** The client that applications use. */

import { type Reconnection } from "./backoff.js";
import { type Reply, type SocketClass } from "./connection.js";
import { MesaError, RequestError } from "./errors.js";
import { type Data, encodeMessage, encodeRefusal, type Message } from "./frames.js";
import { Inbox, type MessageHandler } from "./inbox.js";
import { Iterations } from "./iteration.js";
import { Link, type LinkHost, type LinkOptions, type Reason, type State, type StateDetail, type Token } from "./link.js";
import { socketAddress, watchPage } from "./page.js";
import { type PositionStore } from "./positions.js";
import { Progress } from "./progress.js";
import { type Keepalive, KEEPALIVE } from "./protocol.js";

/** How a client behaves; durations are seconds. */
export interface Options {
  /**
   * Who this is: text, sent as `{token: text}`; an object, sent as it is; or a function, also async, that
   * returns one of them and is called for every connection. Without it the client stays unauthenticated.
   */
  token?: Token | (() => Token | Promise<Token>);
  /** Keeps over reloads or restarts which messages were handled; in memory by default. */
  positions?: PositionStore;
  /** Whether messages that were stored for this user shall be delivered; true by default. */
  shouldSync?: boolean;
  /** Messages and requests that may wait while the client is away; 1000 by default. */
  queueSize?: number;
  /** To connect, to log in, and for the answer to a request; 10 by default. */
  timeout?: number;
  /** Whether and how to come back; true by default. */
  reconnect?: boolean | Reconnection;
  /** How a dead connection is found; `{interval: 25, timeout: 20}` by default. */
  keepalive?: boolean | Partial<Keepalive>;
  /** The class of WebSockets, where there is none in the environment, such as that of `ws` in Node 20. */
  WebSocket?: unknown;
}

/** What a client does with its link. */
type Linked = "_open" | "_send" | "_request" | "_acknowledge" | "_wake" | "_stop" | "_leave";

/** Called with the data of a request; what it returns, or a promise resolves to, is the answer. */
export type RequestHandler<T = Data> = (data: T, message: Message<T>) => unknown;

/**
 * A client of a Mesa server. It connects by itself, in the next microtask, and stays connected: a lost
 * connection is opened again, authenticated as before, and goes on after the last message that was handled.
 *
 *     const mesa = new MesaClient("/ws", { token: async () => (await fetch("/token")).text() });
 *     mesa.on("STATUS_UPDATE", (data) => show(data));
 *     await mesa.send("CHAT", { text: "hello" });
 *
 * Every `on...` method returns a function that takes the handler away again.
 */
export class MesaClient implements AsyncIterable<Message> {
  /** Why the client has ended, once it has; never rejects. */
  readonly closed: Promise<Reason>;
  private _link: Pick<Link, Linked>;
  private _inbox: Inbox;
  private _progress: Progress;
  private _iterations: Iterations;
  private _requestHandlers = new Set<readonly [string, RequestHandler]>();
  private _state: State = "connecting";
  private _user: Data;
  private _timeout: number;
  private _release: () => void;

  /**
   * @param url - `wss://host/path`; also `https://`, or relative to the page.
   * @throws MesaError `invalid`: there is no class of WebSockets here.
   */
  constructor(url: string, options: Options = {}) {
    const { positions: store, timeout = 10, reconnect = true, keepalive = true } = options;
    const socketClass = options.WebSocket ?? globalThis.WebSocket;
    if (!socketClass)
      throw new MesaError("invalid", "no WebSocket here; give the option WebSocket the class of 'ws'");
    this._timeout = timeout;
    const report = (error: unknown) => this._report(error);
    const progress = (this._progress = new Progress(store, (positions) => this._link._acknowledge(positions), report));
    const inbox = (this._inbox = new Inbox((positions) => progress._advance(positions), report));
    this._iterations = new Iterations(inbox);
    let over: (reason: Reason) => void;
    this.closed = new Promise((resolve) => (over = resolve));
    const unwatch = watchPage(
      () => this._link._wake(),
      () => progress._push(),
    );
    this._link = this._createLink(
      {
        _url: socketAddress(url),
        _token: options.token,
        _shouldSync: options.shouldSync ?? true,
        _queueSize: options.queueSize ?? 1000,
        _timeout: timeout,
        _reconnect: reconnect === true ? {} : reconnect || undefined,
        _keepalive: keepalive ? { ...KEEPALIVE, ...(keepalive as Partial<Keepalive>) } : undefined,
        _socketClass: socketClass as SocketClass,
      },
      {
        _arrived: (arrival) => {
          if (arrival[0] != "message") progress._begin(arrival[2], arrival[0] == "moved");
          inbox._add(arrival);
        },
        _asked: (request, message, reply) => void this._answer(request, message, reply),
        _changed: (state, detail) => {
          this._state = state;
          inbox._tell("state", state, detail);
        },
        _accepted: (user) => (this._user = user),
        _failed: report,
        _hurry: () => progress._push(),
        _afterAll: (then) => inbox._add(() => void progress._flush().then(then)),
        _resumable: () => progress._resumable,
        _over: (reason) => {
          unwatch();
          inbox._add(() => this._finish(reason.error));
          over(reason);
        },
      },
    );
    this._release = () => store?.release?.();
    void Promise.resolve()
      .then(() => progress._load())
      .then((positions) => this._link._open(positions));
  }

  /** What the client is at the moment. */
  get state(): State {
    return this._state;
  }

  /** The user object that the server sent last, empty if it sends none; undefined before the first login. */
  get user(): Data {
    return this._user;
  }

  /**
   * Call `handler` for messages of one type, or with `"*"` for all.
   *
   * Messages are handled one after another, in order. A promise that a handler returns is waited for; then the
   * client's position moves, is saved, and is acknowledged. A handler that throws is reported to `onError`, and
   * has handled its message. While there is no handler at all, messages wait.
   *
   * A handler may await whatever it likes of this client.
   */
  on<T = Data>(type: string, handler: MessageHandler<T>): () => void {
    return this._inbox._on(type, handler);
  }

  /**
   * Send a message. Resolves when it is written to an open connection; while the client is away, it waits, and
   * is sent when the client is logged in again. It is sent at most once.
   *
   * @param opcode - 0 by default.
   * @throws MesaError `queue_full`, `closed`, `refused`, `invalid`.
   */
  async send(type: string | null, data?: Data, { opcode }: { opcode?: number } = {}): Promise<void> {
    return this._link._send(encodeMessage(type, data, opcode));
  }

  /**
   * Ask the server, and wait for the answer of one of its message handlers. A request that was sent is never sent
   * again by itself.
   *
   * @param timeout - seconds, the time while the client is away included.
   * @returns the data of the answer.
   * @throws RequestError: the answer is an error.
   * @throws MesaError `timeout`, `closed`, `refused`, `queue_full`, `unsupported`, `invalid`.
   */
  async request(
    type: string | null,
    data?: Data,
    { timeout = this._timeout, opcode }: { timeout?: number; opcode?: number } = {},
  ): Promise<Data> {
    encodeMessage(type, data, opcode); // what cannot be sent is refused now
    return this._link._request((extension) => encodeMessage(type, data, opcode, extension), timeout);
  }

  /**
   * Answer the server's requests of one type, or with `"*"` all. The first handler that returns something other
   * than undefined decides, and so does one that throws: of a `RequestError` the server is told, of anything else
   * only that it failed. Requests are handled apart from messages and from each other.
   */
  onRequest<T = Data>(type: string, handler: RequestHandler<T>): () => void {
    const entry = [type, handler] as const;
    this._requestHandlers.add(entry);
    return () => this._requestHandlers.delete(entry);
  }

  /** Be told of every change of `state`. */
  onStateChange(handler: (state: State, detail: StateDetail) => unknown): () => void {
    return this._inbox._listen("state", handler);
  }

  /** Be told, in the order of messages, how many were dropped before this client could get them. */
  onLost(handler: (count: number) => unknown): () => void {
    return this._inbox._listen("lost", handler);
  }

  /**
   * Be told, in the order of messages, that some may be missing, because the store of the server came back without
   * its newest. It is told once for each such occasion, which `rollback` names.
   */
  onForked(handler: (rollback: string) => unknown): () => void {
    return this._inbox._listen("forked", handler);
  }

  /**
   * Be told, in the order of messages, that it is not known what this client missed: load again what it shows. A
   * promise that the handler returns is waited for before the messages that follow.
   */
  onReset(handler: () => unknown): () => void {
    return this._inbox._listen("reset", handler);
  }

  /** Be told what handlers, the function `token` and the store of positions threw. Without it, it goes to the console. */
  onError(handler: (error: unknown) => unknown): () => void {
    return this._inbox._listen("error", handler);
  }

  /**
   * Take messages out of `for await`: each is handled when the next one is asked for, or the loop is left. It ends
   * when the client is closed, and throws if it has ended otherwise.
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<Message> {
    return this._iterations._begin();
  }

  /**
   * Say goodbye to the server, and do not come back. What was received and not handled is dropped, what waits to be
   * sent is rejected; what was handled is saved and acknowledged.
   *
   * @param code - 1000, or one of your own from 3000 to 4999. The first call decides.
   */
  async close(code = 1000): Promise<void> {
    if (code != 1000 && !(code >= 3000 && code < 5000))
      throw new MesaError("invalid", `code: expected 1000, or 3000 to 4999, got ${code}`);
    if (this._state != "closed") {
      this._link._stop(code);
      this._inbox._shut(() => this._finish());
      await this._progress._flush();
      this._link._leave(code);
    }
    await this.closed;
  }

  /** Where a subclass connects otherwise. */
  protected _createLink(options: LinkOptions, host: LinkHost): Pick<Link, Linked> {
    return new Link(options, host);
  }

  private async _answer(request: string, message: Message, reply: Reply): Promise<void> {
    const { type, data } = message;
    try {
      for (const [wanted, handler] of this._requestHandlers) {
        if (wanted != "*" && wanted != type) continue;
        const result = await handler(data, message);
        if (result !== undefined) return reply(encodeMessage(type, result, 0, { a: request }));
      }
      reply(encodeRefusal(request, "unanswered", "no handler answers such a request"));
    } catch (error) {
      if (error instanceof RequestError) return reply(encodeRefusal(request, error.code, error.message));
      this._report(error);
      reply(encodeRefusal(request, "failed", "the handler failed"));
    }
  }

  private _finish(error?: MesaError): void {
    this._iterations._finish(error);
    void this._progress._flush().then(this._release);
  }

  /** An `onError` handler that throws itself must not be told of that. */
  private _report(error: unknown): void {
    this._inbox._tell("error", error);
  }
}
