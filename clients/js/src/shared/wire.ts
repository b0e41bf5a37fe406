/**
 * The messages that the tabs of one origin exchange over their BroadcastChannel.
 *
 * One of them, the *leader*, has the connection to the server. In each tab an ordinary client speaks the wire
 * protocol, to a socket that leads to the leader; the leader is to them what a server is to a client.
 *
 *     tab:     MesaClient ─ SharedSocket ─ Tab ┐
 *     tab:     MesaClient ─ SharedSocket ─ Tab ┼─ BroadcastChannel ─ Relay ─ Upstream ─ WebSocket ─ server
 *     leader:  MesaClient ─ SharedSocket ─ Tab ┘                     (in the leader)
 *
 * **Who leads.** The tab that holds a Web Lock; the other tabs queue for it, so that the next one leads as soon as the
 * leader is closed or dies. Each leader has a *term*, greater than those before, and tabs follow the greatest.
 * A leader that a browser has frozen answers nothing; after three checks a tab takes the lock from it.
 *
 * **Who lives.** Each tab holds a lock of its own. A new leader asks all tabs whose locks are held for their
 * positions, and logs in from the least. It acknowledges to the server what all of them have acknowledged.
 *
 * **What is missed.** The leader numbers its frames. A tab that sees a gap, and every tab when the leader changes,
 * connects again, and names its position and the last number that it received; the leader sends the frames that
 * follow from its log, or `reset` where the log does not reach back.
 *
 * **What is sent.** A tab keeps a message until the leader says that it is written, and gives it to the next
 * leader otherwise. A request is not sent again; it fails when the leader is gone, as with any lost connection.
 */

import { type Place } from "./history.js";

/** Names the socket of a tab; a tab has one at a time. */
export type SocketId = string;

/** Messages of a tab to the leader. */
export type ToLeader = { to: "leader"; tab: string } & (
  | ({ kind: "present" } & Place)
  | ({ kind: "open"; socket: SocketId } & Place)
  /** A frame; they are counted from 1 on each socket. */
  | { kind: "frame"; socket: SocketId; count: number; text: string }
  /** `isCut`: the client has given up the connection, because it received nothing. */
  | { kind: "shut"; socket: SocketId; code: number; reason: string; isCut: boolean }
  /** Are you there? `count` frames were sent on the socket. */
  | { kind: "ping"; socket?: SocketId | undefined; count: number }
  | { kind: "here" }
  /** Connect to the server now, if you wait. */
  | { kind: "hurry" }
  | { kind: "bye" }
);

/** Messages of a leader to its tabs. `number` counts the numbered ones up to this. */
export type FromLeader = { to: "tabs"; leader: string; term: number; number: number } & (
  /** A new leader: where are you? */
  | { kind: "call" }
  /** The answer to `open` and `ping`. */
  | { kind: "ok"; tab: string }
  /** Who is silent: are you there? */
  | { kind: "check" }
  | Numbered
);

/** Numbered messages, whose loss a tab notices. */
export type Numbered =
  /**
   * A frame of the server, for all who are logged in; or an op 9 for both positions, whose `b` is as in an op 22,
   * so that they are told of one reset.
   */
  | { kind: "frame"; text: string }
  /** Frames for one socket; `isLogin`: it is logged in with the first one. */
  | { kind: "given"; socket: SocketId; texts: string[]; isLogin: boolean }
  /** So many frames of the socket are done: those for the server are written. */
  | { kind: "written"; socket: SocketId; count: number }
  /** The socket, or each that had a HELLO, is closed. */
  | { kind: "closed"; socket?: SocketId | undefined; code: number; reason: string };

export const isNumbered = (message: FromLeader): message is FromLeader & Numbered =>
  ["frame", "given", "written", "closed"].includes(message.kind);
