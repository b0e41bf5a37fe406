/**
 * The pause before the next connection (section 15.5 of the protocol): an interval, and a random time that
 * grows with every attempt. Both together stay under `maxPause`, unless the server asks for more.
 */

/** How a client reconnects; durations are seconds. */
export interface Reconnection {
  /** The shortest pause; by default the interval that the server asks for, or none. */
  interval?: number;
  /** The longest pause, interval and random time together; 5 by default. */
  maxPause?: number;
}

/** Longest first random time, in seconds, where no interval is known. */
const FIRST_RANDOM = 1;

/** Part of a long interval that its random time may grow to, so that clients do not return all at once. */
const SPREAD = 0.25;

export type Backoff = ReturnType<typeof createBackoff>;

export function createBackoff({ interval: least = 0, maxPause = 5 }: Reconnection) {
  let attempts = 0;
  let last = 0;
  return {
    /**
     * Return the seconds before the next attempt.
     *
     * @param announced - the interval that the server announced.
     * @param after - the seconds that it asked to stay away, if it did.
     */
    _next(announced = 0, after?: number): number {
      const usual = Math.max(least, announced);
      const interval = after ?? usual;
      const limit = Math.max(maxPause, interval * (1 + SPREAD));
      const random = Math.min((usual || FIRST_RANDOM) * 2 ** attempts++, limit - interval);
      return (last = interval + Math.random() * random);
    },

    /**
     * Start over if a connection was usable for longer than any pause.
     *
     * A login alone is not enough: a server may accept clients and then close each of them.
     */
    _lasted(seconds: number): void {
      if (seconds > Math.max(maxPause, last)) attempts = 0;
    },
  };
}
