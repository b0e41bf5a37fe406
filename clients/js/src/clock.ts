/** Time and timers, in seconds. */

/** Milliseconds of the longest timer: one that is set for longer fires at once. */
const LONGEST = 2 ** 31 - 1;

/** Return a monotonic time, of which only differences have a meaning. */
export const now = (): number => (globalThis.performance ?? Date).now() / 1000;

/** Call `then` after so many seconds, instead of an earlier setting of the timer; without `then`, stop the timer. */
export type Timer = (seconds?: number, then?: () => void) => void;

export function createTimer(): Timer {
  let timer: ReturnType<typeof setTimeout> | undefined;
  return (seconds, then) => {
    clearTimeout(timer);
    timer = then && setTimeout(then, Math.min(seconds! * 1000, LONGEST));
  };
}

/** Call `then` after so many seconds, unless the returned function is called before. */
export function later(seconds: number, then: () => void): () => void {
  const timer = createTimer();
  timer(seconds, then);
  return timer;
}
