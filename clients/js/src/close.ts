/** Close codes after which a client does not come back (section 13 of the protocol). */
export const FINAL = [1002, 1007, 1008, 1009, 4003];
