/** How far the application has come, and when that is saved. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { createProgress } from "../src/progress.js";
import { type Positions } from "../src/tracking.js";

test("where a client begins is saved, also when it ends before its first message", async () => {
  const saved: Positions[] = [];
  const store = { load: () => null, save: (positions: Positions) => void saved.push(positions) };
  const progress = createProgress(store, () => {}, assert.ifError);
  await progress._load();
  const begin = { e: "epoch", s: 0, b: { e: "all", s: 7 } };
  progress._begin(begin, true);
  assert.deepEqual(progress._resumable(), begin);
  progress._advance(begin);
  await progress._flush();
  assert.deepEqual(saved, [begin]);
});
