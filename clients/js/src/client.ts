/** The client that applications use. */

import { type Reply } from "./connection.js";
import { MesaError, RequestError } from "./errors.js";
import { type Data, encodeMessage, encodeRefusal, type Message } from "./frames.js";
import { addTo, createInbox, type Inbox, matching, type MessageHandler } from "./inbox.js";
import { iterate, type Iteration } from "./iteration.js";
import { createLink, type Link, type LinkHost, type Options, type Reason, type State, type StateDetail } from "./link.js";
import { socketAddress, watchPage } from "./page.js";
import { createProgress, type Progress } from "./progress.js";

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
  private _link: Link;
  private _inbox: Inbox;
  private _progress: Progress;
  private _iterations = new Set<Iteration>();
  private _requestHandlers = new Set<readonly [string, RequestHandler]>();
  private _state: State = "connecting";
  private _user: Data;
  private _finish: (error?: MesaError) => void;
  private _last: { error?: MesaError } | undefined; // once no message comes any more

  /**
   * @param url - `wss://host/path`; also `https://`, or relative to the page.
   * @throws MesaError `invalid`: there is no class of WebSockets here.
   */
  constructor(url: string, options: Options = {}) {
    const { positions: store } = options;
    const inbox = (this._inbox = createInbox((positions) => progress._advance(positions)));
    const progress = (this._progress = createProgress(
      store,
      (positions) => this._link._acknowledge(positions),
      inbox._report,
    ));
    this._finish = (error) => {
      this._last = { error };
      for (const iteration of this._iterations) iteration._finish(error);
      void progress._flush().then(() => store?.release?.());
    };
    const unwatch = watchPage(() => this._link._wake(), progress._push);
    let over: (reason: Reason) => void;
    this.closed = new Promise((resolve) => (over = resolve));
    this._link = this._createLink(
      socketAddress(url),
      options,
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
        _failed: inbox._report,
        _hurry: progress._push,
        _afterAll: (then) => inbox._add(() => void progress._flush().then(then)),
        _resumable: progress._resumable,
        _over: (reason) => {
          unwatch();
          inbox._add(() => this._finish(reason.error));
          over(reason);
        },
      },
    );
    void Promise.resolve().then(progress._load).then(this._link._open);
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
    { timeout, opcode }: { timeout?: number; opcode?: number } = {},
  ): Promise<Data> {
    const encode = (extension?: Data) => encodeMessage(type, data, opcode, extension);
    encode(); // what cannot be sent is refused now
    return this._link._request(encode, timeout);
  }

  /**
   * Answer the server's requests of one type, or with `"*"` all. The first handler that returns something other
   * than undefined decides, and so does one that throws: the server gets a `RequestError` with its text, and of
   * anything else only that it failed. Requests are handled apart from messages and from each other.
   */
  onRequest<T = Data>(type: string, handler: RequestHandler<T>): () => void {
    return addTo(this._requestHandlers, [type, handler] as const);
  }

  /** Call `handler` with every change of `state`. */
  onStateChange(handler: (state: State, detail: StateDetail) => unknown): () => void {
    return this._inbox._listen("state", handler);
  }

  /** Call `handler`, in the order of messages, with how many were dropped before this client could get them. */
  onLost(handler: (count: number) => unknown): () => void {
    return this._inbox._listen("lost", handler);
  }

  /**
   * Call `handler`, in the order of messages, when some may be missing because the store of the server came back
   * without its newest: once for each such occasion, which `rollback` names.
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
    const iteration = iterate(this._inbox, () => this._iterations.delete(iteration));
    if (this._last) iteration._finish(this._last.error);
    else this._iterations.add(iteration);
    return iteration;
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
  protected _createLink(url: string, options: Options, host: LinkHost): Link {
    return createLink(url, options, host);
  }

  private async _answer(request: string, message: Message, reply: Reply): Promise<void> {
    const { type, data } = message;
    try {
      for (const [, handler] of matching(this._requestHandlers, type, "*")) {
        const result = await handler(data, message);
        if (result !== undefined) return reply(encodeMessage(type, result, 0, { a: request }));
      }
      throw new RequestError("unanswered", "no handler answers such a request");
    } catch (error) {
      const refusal = error instanceof RequestError ? error : new RequestError("failed", "the handler failed");
      if (refusal != error) this._inbox._report(error);
      reply(encodeRefusal(request, refusal.code, refusal.message));
    }
  }
}
