/** The client that applications use. */

import { type Reply } from "./connection.js";
import { MesaError, RequestError } from "./errors.js";
import { type Data, encodeMessage, encodeRefusal, type Message } from "./frames.js";
import { addTo, createInbox, type Inbox, matching, type MessageHandler } from "./inbox.js";
import { iterate, type Iteration } from "./iteration.js";
import { createReconnecting, type Reconnecting, type ConnectionHost, type Options, type Reason, type State, type StateDetail } from "./reconnecting.js";
import { socketAddress, watchPage } from "./page.js";
import { createAcknowledging, type Acknowledging } from "./acknowledging.js";

/** Called with the data of a request; its result, or that of its promise, is the answer. */
export type RequestHandler<T = Data> = (data: T, message: Message<T>) => unknown;

/**
 * A client of a Mesa server. It connects by itself, in the next microtask, and stays connected: it reopens a
 * lost connection, authenticates as before, and continues after the last message that was handled.
 *
 *     const mesa = new MesaClient("/ws", { token: async () => (await fetch("/token")).text() });
 *     mesa.on("STATUS_UPDATE", (data) => show(data));
 *     await mesa.send("CHAT", { text: "hello" });
 *
 * Every `on...` method returns a function that removes the handler.
 */
export class MesaClient implements AsyncIterable<Message> {
  /** Why the client has ended, once it has; never rejects. */
  readonly closed: Promise<Reason>;
  private _connections: Reconnecting;
  private _inbox: Inbox;
  private _acknowledging: Acknowledging;
  private _iterations = new Set<Iteration>();
  private _requestHandlers = new Set<readonly [string, RequestHandler]>();
  private _state: State = "connecting";
  private _user: Data;
  private _finish: (error?: MesaError) => void;
  private _last: { error?: MesaError } | undefined; // once the client has ended

  /**
   * @param url - `wss://host/path`; also `https://`, or relative to the page.
   * @throws MesaError `invalid`: the environment has no class of WebSockets.
   */
  constructor(url: string, options: Options = {}) {
    const { positions: store } = options;
    const inbox = (this._inbox = createInbox((positions) => acknowledging._advance(positions)));
    const acknowledging = (this._acknowledging = createAcknowledging(
      store,
      (positions) => this._connections._acknowledge(positions),
      inbox._report,
    ));
    this._finish = (error) => {
      this._last = { error };
      for (const iteration of this._iterations) iteration._finish(error);
      void acknowledging._flush().then(() => store?.release?.());
    };
    const unwatch = watchPage(() => this._connections._wake(), acknowledging._push);
    let over: (reason: Reason) => void;
    this.closed = new Promise((resolve) => (over = resolve));
    this._connections = this._createConnections(
      socketAddress(url),
      options,
      {
        _arrived: (arrival) => {
          if (arrival[0] != "message") acknowledging._begin(arrival[2], arrival[0] == "moved");
          inbox._add(arrival);
        },
        _asked: (request, message, reply) => void this._answer(request, message, reply),
        _changed: (state, detail) => {
          this._state = state;
          inbox._tell("state", state, detail);
        },
        _accepted: (user) => (this._user = user),
        _failed: inbox._report,
        _hurry: acknowledging._push,
        _afterAll: (then) => inbox._add(() => void acknowledging._flush().then(then)),
        _resumable: acknowledging._resumable,
        _over: (reason) => {
          unwatch();
          inbox._add(() => this._finish(reason.error));
          over(reason);
        },
      },
    );
    void Promise.resolve().then(acknowledging._load).then(this._connections._open);
  }

  /** The present state of the client. */
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
   * Messages are handled one after another, in order. The client waits for a promise that a handler returns; then
   * it moves its position, saves it, and acknowledges it. If a handler throws, the error goes to `onError`, and the
   * message counts as handled. While there is no handler at all, messages wait.
   *
   * A handler may await any method of this client.
   */
  on<T = Data>(type: string, handler: MessageHandler<T>): () => void {
    return this._inbox._on(type, handler);
  }

  /**
   * Send a message. Resolves when the message is written to an open connection; while the client is offline, the
   * message waits until the client is authenticated again. It is sent at most once.
   *
   * @param opcode - 0 by default.
   * @throws MesaError `queue_full`, `closed`, `refused`, `invalid`.
   */
  async send(type: string | null, data?: Data, { opcode }: { opcode?: number } = {}): Promise<void> {
    return this._connections._send(encodeMessage(type, data, opcode));
  }

  /**
   * Ask the server, and wait for the answer of one of its message handlers. The client never repeats a request
   * that was sent.
   *
   * @param timeout - seconds, including the time while the client is offline.
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
    encode(); // a request that cannot be sent is refused now
    return this._connections._request(encode, timeout);
  }

  /**
   * Answer the server's requests of one type, or with `"*"` all. The first handler decides that returns something
   * other than undefined, or throws: the server gets the text of a `RequestError`, and for any other error only
   * that the handler failed. Requests are handled independently of messages and of each other.
   */
  onRequest<T = Data>(type: string, handler: RequestHandler<T>): () => void {
    return addTo(this._requestHandlers, [type, handler] as const);
  }

  /** Call `handler` with every change of `state`. */
  onStateChange(handler: (state: State, detail: StateDetail) => unknown): () => void {
    return this._inbox._listen("state", handler);
  }

  /** Call `handler`, in the order of messages, with the number of messages that were dropped before this client got them. */
  onLost(handler: (count: number) => unknown): () => void {
    return this._inbox._listen("lost", handler);
  }

  /**
   * Call `handler`, in the order of messages, when some may be missing because the store of the server came back
   * without its newest ones: once for each such event, which `rollback` names.
   */
  onForked(handler: (rollback: string) => unknown): () => void {
    return this._inbox._listen("forked", handler);
  }

  /**
   * Call `handler`, in the order of messages, when the server does not know what this client missed: reload the
   * data that the page shows. The client waits for a promise of the handler before it handles later messages.
   */
  onReset(handler: () => unknown): () => void {
    return this._inbox._listen("reset", handler);
  }

  /** Call `handler` with errors of handlers, of the function `token` and of the position store; without it, the console gets them. */
  onError(handler: (error: unknown) => unknown): () => void {
    return this._inbox._listen("error", handler);
  }

  /**
   * Iterate over messages with `for await`: each is handled when the loop asks for the next one, or ends. The loop
   * ends when the client is closed, and throws if the client has ended otherwise.
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<Message> {
    const iteration = iterate(this._inbox, () => this._iterations.delete(iteration));
    if (this._last) iteration._finish(this._last.error);
    else this._iterations.add(iteration);
    return iteration;
  }

  /**
   * Close the connection, and do not come back. The client drops messages that were received and not handled,
   * rejects messages that wait to be sent, and saves and acknowledges those that were handled.
   *
   * @param code - 1000, or a code of the application from 3000 to 4999. The first call decides.
   */
  async close(code = 1000): Promise<void> {
    if (code != 1000 && !(code >= 3000 && code < 5000))
      throw new MesaError("invalid", `code: expected 1000, or 3000 to 4999, got ${code}`);
    if (this._state != "closed") {
      this._connections._stop(code);
      this._inbox._shut(() => this._finish());
      await this._acknowledging._flush();
      this._connections._leave(code);
    }
    await this.closed;
  }

  /** Create the connections; a subclass may replace them. */
  protected _createConnections(url: string, options: Options, host: ConnectionHost): Reconnecting {
    return createReconnecting(url, options, host);
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
