/** Time, in seconds. */

/** Milliseconds of the longest timer: one that is set for longer fires at once. */
const LONGEST = 2 ** 31 - 1;

/** The time now, which no change of the date moves; the difference of two times is meant. */
export const now = (): number => (globalThis.performance ?? Date).now() / 1000;

/** Call `then` after so many seconds, in place of what the timer was set for before; without `then`, stop it. */
export type Timer = (seconds?: number, then?: () => void) => void;

export function createTimer(): Timer {
  let timer: ReturnType<typeof setTimeout> | undefined;
  return (seconds, then) => {
    clearTimeout(timer);
    timer = then && setTimeout(then, Math.min(seconds! * 1000, LONGEST));
  };
}

/** Call `then` after so many seconds, unless the result is called before. */
export function later(seconds: number, then: () => void): () => void {
  const timer = createTimer();
  timer(seconds, then);
  return timer;
}
