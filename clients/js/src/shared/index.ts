/** One connection for all tabs of an origin. */

import { type Reconnection } from "../backoff.js";
import { type SocketClass } from "../connection.js";
import { MesaClient, MesaError, type Options } from "../index.js";
import { type ConnectionHost } from "../reconnecting.js";
import { socketAddress } from "../page.js";
import { Tab } from "./tab.js";

/** How a shared client behaves; see `Options`. */
export interface SharedOptions extends Options {
  /**
   * Clients with the same address and the same key share a connection. Name the user in it, because all of them
   * share the login of the first. Empty by default.
   */
  key?: string;
  /** How to reconnect; `false` is not possible, because tabs reconnect to one another. */
  reconnect?: true | Reconnection;
}

let isWarned = false;

/**
 * A `MesaClient` that shares its connection with those of the other tabs of its origin that have the same address
 * and the same `key`. Each tab has the promises of a `MesaClient`: every message once, in order, even if any tab is
 * closed, reloaded, killed or frozen. A new tab begins at the position of the others, unless it has a stored position.
 *
 * The connection acknowledges the messages that the clients of all tabs have handled. A tab that was frozen for so
 * long that the others have continued without it gets the messages that the server still has, and `onLost` for the
 * rest.
 *
 * A message given to `send` is written at least once: it may be written twice if the tab with the connection dies
 * at the very moment of writing it. `send` resolves when the message is known to be written.
 *
 * Needs Web Locks and BroadcastChannel; without them it is a plain `MesaClient`, and says so on the console.
 */
export class SharedClient extends MesaClient {
  private _tab?: Tab;
  private _host!: ConnectionHost;
  private _limit!: number;

  constructor(url: string, { key = "", ...options }: SharedOptions = {}) {
    const { reconnect = true, timeout = 10 } = options;
    const socketClass = (options.WebSocket ?? globalThis.WebSocket) as SocketClass | undefined;
    if (!reconnect)
      throw new MesaError("invalid", "reconnect: expected true or how to come back, got false; use MesaClient for that");
    if (!isSupported() || !socketClass) {
      super(url, options);
      return;
    }
    const address = socketAddress(url);
    const how = { _url: address, _socketClass: socketClass, _timeout: timeout, _reconnect: reconnect === true ? {} : reconnect };
    const tab = new Tab(`mesa-ws 1 ${address} ${key}`, how, options.token !== undefined);
    // The tab with the connection makes the pauses before it reconnects to the server.
    super(url, { ...options, reconnect: { interval: 0, maxPause: 0 }, WebSocket: tab._socketClass });
    tab._known = () => this._host._resumable();
    this._tab = tab;
    this._limit = options.queueSize ?? 1000;
    void this.closed.then(() => tab._leave());
  }

  override async send(...[type, data, options]: Parameters<MesaClient["send"]>): Promise<void> {
    const tab = this._tab;
    if (tab && tab._waiting >= this._limit)
      throw new MesaError("queue_full", `expected up to ${this._limit} messages that wait, got one more; send it later`);
    await super.send(type, data, options);
    await tab?._written();
  }

  protected override _createConnections(...[url, options, host]: Parameters<MesaClient["_createConnections"]>): ReturnType<MesaClient["_createConnections"]> {
    this._host = host;
    return super._createConnections(url, options, host);
  }
}

/** Whether tabs can find one another here; if not, say so once. */
function isSupported(): boolean {
  if (globalThis.navigator?.locks && typeof BroadcastChannel == "function") return true;
  if (!isWarned)
    console.warn(
      "mesa: tabs cannot share a connection here, so each has its own: expected Web Locks and BroadcastChannel, " +
        "which browsers have on pages that are served by HTTPS or from localhost",
    );
  isWarned = true;
  return false;
}
