/** Close codes after which a client does not come back (section 13 of the protocol), and what they blame it for. */
export const FINAL: Record<number, string> = {
  1002: "broke the protocol",
  1007: "sent no frame",
  1008: "refused",
  1009: "sent too big a message",
};
