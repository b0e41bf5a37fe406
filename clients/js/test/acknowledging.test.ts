/** Positions that the application has reached, and when the client saves them. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { createAcknowledging } from "../src/acknowledging.js";
import { type Positions } from "../src/tracking.js";

test("the first position of a client is saved, also when it ends before its first message", async () => {
  const saved: Positions[] = [];
  const store = { load: () => null, save: (positions: Positions) => void saved.push(positions) };
  const acknowledging = createAcknowledging(store, () => {}, assert.ifError);
  await acknowledging._load();
  const begin = { e: "epoch", s: 0, b: { e: "all", s: 7 } };
  acknowledging._begin(begin, true);
  assert.deepEqual(acknowledging._resumable(), begin);
  acknowledging._advance(begin);
  await acknowledging._flush();
  assert.deepEqual(saved, [begin]);
});

test("another epoch is saved at once, so that a reset is not reported again", async () => {
  const saved: Positions[] = [];
  let finish = () => {};
  const save = (positions: Positions) => {
    saved.push(positions);
    return new Promise<void>((then) => (finish = then));
  };
  const acknowledging = createAcknowledging({ load: () => null, save }, () => {}, assert.ifError);
  const positions = (epoch: string, all: string, s: number): Positions => ({ e: epoch, s, b: { e: all, s: 7 } });
  acknowledging._advance(positions("a", "all", 1));
  for (const each of [positions("a", "all", 2), positions("b", "all", 0), positions("b", "other", 0)]) acknowledging._advance(each);
  finish();
  await new Promise(setImmediate);
  assert.deepEqual(saved, [positions("a", "all", 1), positions("b", "other", 0)]);
  acknowledging._advance(positions("b", "other", 1));
  finish();
  await new Promise(setImmediate);
  assert.equal(saved.length, 2);
});
