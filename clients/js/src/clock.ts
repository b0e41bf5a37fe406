/** Time, in seconds. */

/** The time now; the difference of two times is meant, never the date. */
export const now = (): number => Date.now() / 1000;

/** Call `then` after so many seconds, unless the result is called before. */
export function later(seconds: number, then: () => void): () => void {
  const timer = setTimeout(then, seconds * 1000);
  return () => clearTimeout(timer);
}
