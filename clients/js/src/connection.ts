/** One WebSocket, the state of its protocol, and its deadlines. */

import { createTimer, later, now } from "./clock.js";
import { MesaError, RequestError } from "./errors.js";
import { type Data, encodeFrame, type Message } from "./frames.js";
import { type Hello, type Output, type Session } from "./protocol.js";
import { type Arrival, type Positions } from "./tracking.js";

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
export type Connection = ReturnType<typeof createConnection>;

/**
 * @param patience - seconds until the server must have greeted.
 * @throws what the class of WebSockets throws at an address that it does not take.
 */
export function createConnection(
  socketClass: SocketClass,
  url: string,
  patience: number,
  session: Session,
  keeper: Keeper,
  receiver: Receiver,
) {
  const socket = new socketClass(url);
  const asking = new Map<string, Asking>();
  const endTimer = createTimer();
  const pollTimer = createTimer();
  let isOver = false;
  let requests = 0;

  /** What is done with each output of the session; all others are arrivals. */
  const actions: Record<string, (...values: Data[]) => void> = {
    send,
    probe: () => send(encodeFrame(1, {}, { r: nextRequest() })),
    close: (code) => cut(code, "no keepalive"),
    hello(hello: Hello) {
      endTimer();
      watch();
      keeper._greeted(hello);
    },
    authenticated: keeper._accepted,
    acknowledge: receiver._hurry,
    leave: keeper._drained,
    asked: (request, message) => receiver._asked(request, message, send),
    replied: (request, message) => settle(request)?._resolve(message.data),
    failed: (request, code, text) => settle(request)?._reject(new RequestError(code, text)),
    ignored() {},
  };

  /** Whether a frame that is sent now has a chance to arrive. */
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

  /** Look again when the session says so. Signs of life only move that, so there is no timer for each. */
  function watch(): void {
    const due = session._deadline();
    if (due == null) pollTimer();
    else
      pollTimer(due - now(), () => {
        obey(session._poll(now()));
        watch();
      });
  }

  function nextRequest(): string {
    return `${++requests}`;
  }

  function settle(request: string): Asking | undefined {
    const asked = asking.get(request);
    asking.delete(request);
    return asked;
  }

  /** End now: a server that is gone answers no close frame. */
  function cut(code: number, reason: string): void {
    socket.onmessage = socket.onclose = null;
    end(code, reason);
    (socket.terminate ?? socket.close).call(socket);
  }

  function end(code: number, reason: string): void {
    if (isOver) return;
    isOver = session._isClosed = true;
    endTimer();
    pollTimer();
    for (const { _reject } of asking.values()) _reject(new MesaError("closed", "the connection ended before the answer"));
    keeper._ended(code, reason);
  }

  socket.onmessage = ({ data }) => obey(session._receive(data, now()));
  socket.onclose = ({ code, reason }) => end(code || 1006, reason); // Deno has 0 for an attempt that failed
  // `onclose` follows, but not in Node 22 where an attempt failed.
  socket.onerror = () => later(0, () => socket.readyState || cut(1006, ""));
  endTimer(patience, () => cut(1006, "no greeting"));
  watch();

  return {
    _isOpen: isOpen,
    _send: send,

    /** Acknowledge what was handled, if that is news to the server. */
    _acknowledge(positions: Positions): void {
      if (isOpen()) send(session._acknowledge(positions));
    },

    /**
     * Ask the server.
     *
     * @returns what forgets the request: its answer is then ignored.
     * @throws MesaError `unsupported`: the server speaks wire 1; nothing was sent.
     */
    _request(encode: (extension: Data) => string, asked: Asking): () => void {
      if (!session._canAsk()) throw new MesaError("unsupported", "the server knows no requests; send a message");
      const request = nextRequest();
      asking.set(request, asked);
      send(encode({ r: request }));
      return () => asking.delete(request);
    },

    /** Ask at once whether the server is still there. */
    _wake(): void {
      obey(session._wake(now()));
      watch();
    },

    /** Close in order; a server that does not answer is not waited for longer than `CLOSE_TIMEOUT`. */
    _close(code: number): void {
      endTimer(CLOSE_TIMEOUT, () => cut(code, ""));
      socket.close(code);
    },
  };
}
