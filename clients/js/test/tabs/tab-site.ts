/** Tabs with a shared client, and the messages that each of them received. */

import { Server } from "./server.js";
import { Page, FakeBrowser } from "./fake-browser.js";

const CLIENT = `
  const client = page.client = new Mesa.SharedClient("ws://server/ws", {
    token: async () => options.token ?? "good",
    positions: options.isKept ? Mesa.sessionPositions() : undefined,
    ...options.client,
  });
  const pause = (ms) => new Promise((then) => setTimeout(then, ms));
  const take = (kind) => async (data, message) => {
    const ms = options.slowness(data);
    if (ms) await pause(ms);
    page.log.push([kind, data, message]);
  };
  if (!options.isMute) for (const type of ["USER", "ALL", "NOW"]) client.on(type, take(type));
  client.onReset(take("reset"));
  client.onLost(take("lost"));
  client.onForked(take("forked"));
  client.onStateChange((state, detail) => page.log.push(["state", state, detail]));
`;

export interface TabOptions {
  isKept?: boolean;
  isMute?: boolean;
  token?: string;
  slowness?: (data: unknown) => number;
  client?: object;
  storage?: Map<string, string>;
}

export class TabSite {
  browser: FakeBrowser;
  server: Server;

  constructor(seed = 1) {
    this.browser = new FakeBrowser(seed);
    this.server = new Server(this.browser);
  }

  open({ storage, ...options }: TabOptions = {}, globals: object = {}): Page {
    const page = new Page(this.browser, this.server, storage, { options: { slowness: () => 0, ...options }, ...globals });
    page.run(CLIENT);
    return page;
  }

  /** Open a tab, and wait until it is usable. */
  async opened(options: TabOptions = {}): Promise<Page> {
    const page = this.open(options);
    await this.browser.until(() => page.client.state == "open");
    return page;
  }

  /** Return the tab that has the connection. */
  get leader(): Page | undefined {
    const [lock] = [...this.browser.locks.entries()].filter(([name]) => name.endsWith("leader")).map(([, locks]) => locks[0]);
    return lock?.page;
  }
}

/** Return the data of one kind that a tab received. */
export const given = (page: Page, kind = "USER"): any[] => page.log.filter(([each]) => each == kind).map(([, data]) => data);

export const count = (first: number, last: number): number[] =>
  Array.from({ length: last - first + 1 }, (_, index) => first + index);
