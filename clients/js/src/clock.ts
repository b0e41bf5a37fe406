/** Time, in seconds. */

/** Milliseconds of the longest timer: one that is set for longer fires at once. */
const LONGEST = 2 ** 31 - 1;

/** The time now, which no change of the date moves; the difference of two times is meant. */
export const now = (): number => (globalThis.performance ?? Date).now() / 1000;

/** Call `then` after so many seconds, unless the result is called before. */
export function later(seconds: number, then: () => void): () => void {
  const timer = setTimeout(then, Math.min(seconds * 1000, LONGEST));
  return () => clearTimeout(timer);
}
