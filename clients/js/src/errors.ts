/**
 * An error of the client.
 *
 * | `code` of a `MesaError` | meaning |
 * |---|---|
 * | `closed` | the connection, or the client, ended before the operation was done |
 * | `refused` | the server refused the token, and the client has ended |
 * | `timeout` | no answer in time |
 * | `queue_full` | the client is offline, and `queueSize` messages wait already |
 * | `unsupported` | the server speaks wire 1, which has no requests |
 * | `invalid` | an argument, or data, cannot be used |
 */
export class MesaError extends Error {
  /** The kind of error, for programs. */
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.name = "MesaError";
    this.code = code;
  }
}

/**
 * The answer to a request is an error: `unanswered`, `failed`, `busy`, or a code of the application.
 *
 * Throw one in an `onRequest` handler to refuse a request; the code is 1 to 64 visible ASCII characters, and
 * up to 1000 characters of the text are sent.
 */
export class RequestError extends MesaError {
  constructor(code: string, message = "") {
    super(code, message);
    this.name = "RequestError";
  }
}
