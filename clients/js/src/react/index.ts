/** Messages in React components. */

import {
  createContext,
  createElement,
  type ReactNode,
  useContext,
  useEffect,
  useLayoutEffect,
  useRef,
  useState,
  useSyncExternalStore,
} from "react";
import type { MesaClient, Message, MessageHandler, State } from "../index.js";

/** The state of the connection for components. */
export interface Mesa {
  /** Undefined where there is none yet: on a server, and in the very first rendering with `create`. */
  client: MesaClient | undefined;
  state: State;
  /** The user object that the server sent; undefined before the first login. */
  user: any;
}

/** Either a client that lives longer than the components, or how to create one that lives as long as they do. */
export type MesaProviderProps = { children?: ReactNode } & (
  | { client: MesaClient; create?: undefined }
  | { create: () => MesaClient; client?: undefined }
);

const NONE: Mesa = { client: undefined, state: "connecting", user: undefined };

/** The client of a provider, as a store that React can subscribe to. */
class Holder {
  private _mesa = NONE;
  private _listeners = new Set<() => void>();
  private _users = 0;
  private _created: MesaClient | undefined;

  readonly _read = (): Mesa => this._mesa;
  readonly _subscribe = (listener: () => void): (() => void) => {
    this._listeners.add(listener);
    return () => this._listeners.delete(listener);
  };

  /** Use a client, or create one; the returned function gives it back. */
  _take(client: MesaClient | undefined, create: () => MesaClient): () => void {
    const taken = client ?? (this._created ??= create());
    const set = () => {
      this._mesa = { client: taken, state: taken.state, user: taken.user };
      for (const listener of [...this._listeners]) listener();
    };
    const unlisten = taken.onStateChange(set);
    this._users++;
    set();
    return () => {
      unlisten();
      this._users--;
      // In strict mode, effects run, are undone, and run again at once: the client is still used then.
      void Promise.resolve().then(() => this._users || this._close());
    };
  }

  private _close(): void {
    void this._created?.close();
    this._created = undefined;
  }
}

const Context = createContext<Holder | undefined>(undefined);

/** Effects of a parent run after those of its children, but layout effects of all run before any of them. */
const useEarlyEffect = typeof document == "undefined" ? useEffect : useLayoutEffect;

/**
 * Give a client to the components below it.
 *
 * With `client` the application owns it, and it stays open. With `create` it is created when the provider is mounted,
 * once, and closed when the provider is unmounted; give the provider another `key`, such as the user, for another one.
 */
export function MesaProvider({ client, create, children }: MesaProviderProps): ReactNode {
  const [holder] = useState(() => new Holder());
  const creating = useRef(create);
  creating.current = create;
  useEarlyEffect(() => holder._take(client, () => creating.current!()), [holder, client]);
  return createElement(Context.Provider, { value: holder }, children);
}

/** The client, its state and its user; the component is rendered again when they change. */
export function useMesa(): Mesa {
  const holder = useContext(Context);
  if (!holder) throw new Error("useMesa, useMessage: expected a MesaProvider around this component, found none");
  return useSyncExternalStore(holder._subscribe, holder._read, () => NONE);
}

/**
 * Call `handler` for each message of a type, or with `"*"` for all, while the component is mounted. It is always the
 * handler of the last rendering, and no message is missed between two of them. The client waits for a promise that it
 * returns before the next message.
 *
 * Without a handler, return the last message of that type that arrived while the component was mounted.
 */
export function useMessage<T = any>(type: string, handler: MessageHandler<T>): void;
export function useMessage<T = any>(type: string): Message<T> | undefined;
export function useMessage<T = any>(type: string, handler?: MessageHandler<T>): Message<T> | undefined {
  const { client } = useMesa();
  const [last, setLast] = useState<Message<T>>();
  const latest = useRef(handler);
  useEarlyEffect(() => {
    latest.current = handler;
  });
  useEffect(
    () =>
      client?.on<T>(type, (data, message) => {
        if (latest.current) return latest.current(data, message);
        setLast(message);
      }),
    [client, type],
  );
  return last && (type == "*" || last.type == type) ? last : undefined;
}
