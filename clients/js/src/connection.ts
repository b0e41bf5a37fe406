/** One WebSocket, the state of its protocol, and its deadlines. */

import { later, now } from "./clock.js";
import { MesaError, RequestError } from "./errors.js";
import { type Data, encodeFrame, type Message } from "./frames.js";
import { type Hello, type Output, type Session } from "./protocol.js";
import { type Arrival, type Positions, readPosition } from "./tracking.js";

/** Of a WebSocket what a client uses: the one of browsers, of Node, or of the package `ws`. */
export interface Socket {
  readonly readyState: number;
  onmessage: ((event: Data) => void) | null;
  onclose: ((event: Data) => void) | null;
  onerror: ((event: Data) => void) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
  /** Cut without a closing handshake, where the class can. */
  terminate?(): void;
}

/** A class of WebSockets. */
export type SocketClass = new (url: string) => Socket;

/** Sends the answer to a request of the server, if its connection is still there. */
export type Reply = (frame: string) => void;

/** Who works with what a connection receives. Nothing here waits. */
export interface Receiver {
  _arrived(arrival: Arrival): void;
  _asked(request: string, message: Message, reply: Reply): void;
  /** Acknowledge what was handled, now. */
  _hurry(): void;
}

/** Who sees to what becomes of a connection. Nothing here waits. */
export interface Keeper {
  _greeted(hello: Hello): void;
  _accepted(user: Data): void;
  /** The server is about to go, and wants the client back after so many seconds. */
  _drained(after: number): void;
  _ended(code: number, reason: string): void;
}

/** Seconds that a server has to answer a close frame; a browser waits for much longer. */
const CLOSE_TIMEOUT = 2;

/** Who waits for an answer. */
export interface Asking {
  _resolve(data: Data): void;
  _reject(error: MesaError): void;
}

/** One connection, from the attempt to open it to its end. */
export class Connection {
  private _socket: Socket;
  private _isOver = false;
  private _requests = 0;
  private _asking = new Map<string, Asking>();
  private _stopWaiting: () => void;
  private _stopWatching = () => {};

  /**
   * @param patience - seconds until the server must have greeted.
   * @throws what the class of WebSockets throws at an address that it does not take.
   */
  constructor(
    socketClass: SocketClass,
    url: string,
    patience: number,
    readonly _session: Session,
    private _keeper: Keeper,
    private _receiver: Receiver,
  ) {
    const socket = (this._socket = new socketClass(url));
    socket.onmessage = ({ data }) => this._obey(_session._receive(data, now()));
    socket.onclose = ({ code, reason }) => this._end(code || 1006, reason); // Deno has 0 for an attempt that failed
    // `onclose` follows, but not in Node 22 where an attempt failed.
    socket.onerror = () => later(0, () => socket.readyState || this._cut(1006, ""));
    this._stopWaiting = later(patience, () => this._cut(1006, "no greeting"));
    this._watch();
  }

  /** Whether a frame that is sent now has a chance to arrive. */
  get _isOpen(): boolean {
    return !this._isOver && this._socket.readyState == 1;
  }

  _send(frame: string | undefined): void {
    if (frame && this._isOpen) this._socket.send(frame);
  }

  /** Acknowledge what was handled, if that is news to the server. */
  _acknowledge(positions: Positions): void {
    const outbox = readPosition(positions);
    if (outbox && this._isOpen) this._send(this._session._acknowledge(outbox));
  }

  /**
   * Ask the server.
   *
   * @returns what forgets the request: its answer is then ignored.
   * @throws MesaError `unsupported`: the server speaks wire 1; nothing was sent.
   */
  _request(encode: (extension: Data) => string, asking: Asking): () => void {
    if (!this._session._canAsk)
      throw new MesaError("unsupported", "the server knows no requests; send a message");
    const request = this._nextRequest();
    this._asking.set(request, asking);
    this._send(encode({ r: request }));
    return () => this._asking.delete(request);
  }

  /** Ask at once whether the server is still there. */
  _wake(): void {
    this._obey(this._session._wake(now()));
    this._watch();
  }

  /** Close in order; a server that does not answer is not waited for longer than `CLOSE_TIMEOUT`. */
  _close(code: number, reason = ""): void {
    this._stopWaiting();
    this._stopWaiting = later(CLOSE_TIMEOUT, () => this._cut(code, reason));
    this._socket.close(code, reason);
  }

  /** End now: a server that is gone answers no close frame. */
  private _cut(code: number, reason: string): void {
    const socket = this._socket;
    socket.onmessage = socket.onclose = null;
    this._end(code, reason);
    if (socket.terminate) socket.terminate();
    else socket.close();
  }

  private _obey(outputs: Output[]): void {
    for (const output of outputs) {
      const { _keeper: keeper, _receiver: receiver } = this;
      switch (output[0]) {
        case "send":
          this._send(output[1]);
          break;
        case "probe":
          this._send(encodeFrame(1, {}, { r: this._nextRequest() }));
          break;
        case "close":
          this._cut(output[1], "no keepalive");
          break;
        case "hello":
          this._stopWaiting();
          this._watch();
          keeper._greeted(output[1]);
          break;
        case "authenticated":
          keeper._accepted(output[1]);
          break;
        case "acknowledge":
          receiver._hurry();
          break;
        case "leave":
          keeper._drained(output[1]);
          break;
        case "asked":
          receiver._asked(output[1], output[2], (frame) => this._send(frame));
          break;
        case "replied":
          this._settle(output[1])?._resolve(output[2].data);
          break;
        case "failed":
          this._settle(output[1])?._reject(new RequestError(output[2], output[3]));
          break;
        case "ignored":
          break;
        default:
          receiver._arrived(output);
      }
    }
  }

  private _nextRequest(): string {
    return `${++this._requests}`;
  }

  private _settle(request: string): Asking | undefined {
    const asking = this._asking.get(request);
    this._asking.delete(request);
    return asking;
  }

  /** Look again when the session says so. Signs of life only move that, so there is no timer for each. */
  private _watch(): void {
    this._stopWatching();
    const due = this._session._deadline;
    if (due !== undefined)
      this._stopWatching = later(Math.max(due - now(), 0), () => {
        this._obey(this._session._poll(now()));
        this._watch();
      });
  }

  private _end(code: number, reason: string): void {
    if (this._isOver) return;
    this._isOver = this._session._isClosed = true;
    this._stopWaiting();
    this._stopWatching();
    for (const asking of this._asking.values())
      asking._reject(new MesaError("closed", "the connection ended before the answer"));
    this._keeper._ended(code, reason);
  }
}
