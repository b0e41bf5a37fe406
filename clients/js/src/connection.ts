/** One WebSocket, the state of its protocol, and its deadlines. */

import { createTimer, later, now } from "./clock.js";
import { MesaError, RequestError } from "./errors.js";
import { type Data, encodeFrame, type Message } from "./frames.js";
import { type Hello, type Output, type Protocol } from "./protocol.js";
import { type Arrival, type Positions } from "./tracking.js";

/** The part of a WebSocket that a client uses: that of browsers, of Node, or of the package `ws`. */
export interface Socket {
  readonly readyState: number;
  onmessage: ((event: Data) => void) | null;
  onclose: ((event: Data) => void) | null;
  onerror: ((event: Data) => void) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
  /** Cut the connection without a closing handshake, if the class can. */
  terminate?(): void;
}

/** A class of WebSockets. */
export type SocketClass = new (url: string) => Socket;

/** Sends the answer to a request of the server, if its connection is still open. */
export type Reply = (frame: string) => void;

/** Handles what a connection receives. Nothing here waits. */
export interface Receiver {
  _arrived(arrival: Arrival): void;
  _asked(request: string, message: Message, reply: Reply): void;
  /** Acknowledge what was handled, now. */
  _hurry(): void;
}

/** Follows the state of a connection. Nothing here waits. */
export interface ConnectionOwner {
  _greeted(hello: Hello): void;
  /** The server accepted this client, for so many seconds if it says so. */
  _accepted(user: Data, expires?: number): void;
  /** The server is about to stop, and asks the client to come back after so many seconds. */
  _drained(after: number): void;
  _ended(code: number, reason: string): void;
}

/** Seconds that a server has to answer a close frame; a browser waits for much longer. */
const CLOSE_TIMEOUT = 2;

/** A request that waits for its answer. */
export interface PendingRequest {
  _resolve(data: Data): void;
  _reject(error: MesaError): void;
}

/** One connection, from the attempt to open it to its end. */
export type Connection = ReturnType<typeof createConnection>;

/**
 * @param patience - seconds until the server must have greeted.
 * @throws the error of the class of WebSockets for an address that it does not accept.
 */
export function createConnection(
  socketClass: SocketClass,
  url: string,
  patience: number,
  protocol: Protocol,
  owner: ConnectionOwner,
  receiver: Receiver,
) {
  const socket = new socketClass(url);
  const pending = new Map<string, PendingRequest>();
  const endTimer = createTimer();
  const pollTimer = createTimer();
  let isOver = false;
  let requests = 0;

  /** Actions for the outputs of the protocol; all other outputs are arrivals. */
  const actions: Record<string, (...values: Data[]) => void> = {
    send,
    probe: () => send(encodeFrame(1, {}, { r: nextRequest() })),
    close: (code) => cut(code, "no keepalive"),
    hello(hello: Hello) {
      endTimer();
      watch();
      owner._greeted(hello);
    },
    authenticated: owner._accepted,
    acknowledge: receiver._hurry,
    leave: owner._drained,
    asked: (request, message) => receiver._asked(request, message, send),
    replied: (request, message) => settle(request)?._resolve(message.data),
    failed: (request, code, text) => settle(request)?._reject(new RequestError(code, text)),
    ignored() {},
  };

  /** Whether a frame that is sent now can arrive. */
  function isOpen(): boolean {
    return !isOver && socket.readyState == 1;
  }

  function send(frame: string | undefined): void {
    if (frame && isOpen()) socket.send(frame);
  }

  function obey(outputs: Output[]): void {
    for (const output of outputs) {
      const [kind, ...values] = output;
      actions[kind] ? actions[kind](...values) : receiver._arrived(output as Arrival);
    }
  }

  /** Poll the protocol at its deadline. Signs of life only move the deadline, so that they need no timer of their own. */
  function watch(): void {
    const due = protocol._deadline();
    if (due == null) pollTimer();
    else
      pollTimer(due - now(), () => {
        obey(protocol._poll(now()));
        watch();
      });
  }

  function nextRequest(): string {
    return `${++requests}`;
  }

  function settle(request: string): PendingRequest | undefined {
    const asked = pending.get(request);
    pending.delete(request);
    return asked;
  }

  /** End at once, because a dead server answers no close frame. */
  function cut(code: number, reason: string): void {
    socket.onmessage = socket.onclose = null;
    end(code, reason);
    (socket.terminate ?? socket.close).call(socket);
  }

  function end(code: number, reason: string): void {
    if (isOver) return;
    isOver = protocol._isClosed = true;
    endTimer();
    pollTimer();
    for (const { _reject } of pending.values()) _reject(new MesaError("closed", "the connection ended before the answer"));
    owner._ended(code, reason);
  }

  socket.onmessage = ({ data }) => obey(protocol._receive(data, now()));
  socket.onclose = ({ code, reason }) => end(code || 1006, reason); // Deno has 0 for an attempt that failed
  // `onclose` follows, but not in Node 22 where an attempt failed.
  socket.onerror = () => later(0, () => socket.readyState || cut(1006, ""));
  endTimer(patience, () => cut(1006, "no greeting"));
  watch();

  return {
    _isOpen: isOpen,
    _send: send,

    /** Acknowledge positions that the server does not know yet. */
    _acknowledge(positions: Positions): void {
      if (isOpen()) send(protocol._acknowledge(positions));
    },

    /**
     * Ask the server.
     *
     * @returns a function that forgets the request, whose answer is then ignored.
     * @throws MesaError `unsupported`: the server speaks wire 1; nothing was sent.
     */
    _request(encode: (extension: Data) => string, asked: PendingRequest): () => void {
      if (!protocol._canAsk()) throw new MesaError("unsupported", "the server knows no requests; send a message");
      const request = nextRequest();
      pending.set(request, asked);
      send(encode({ r: request }));
      return () => pending.delete(request);
    },

    /** Check at once whether the server is still there. */
    _wake(): void {
      obey(protocol._wake(now()));
      watch();
    },

    /** Close cleanly; wait for the server at most `CLOSE_TIMEOUT`. */
    _close(code: number): void {
      endTimer(CLOSE_TIMEOUT, () => cut(code, ""));
      socket.close(code);
    },
  };
}
