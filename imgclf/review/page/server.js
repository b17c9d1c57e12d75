// Talking to imgclf review.

/** The server has answered that it will not. */
export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/**
 * Send something to the server.
 * @returns its answer.
 * @throws {Refused} the server refuses, and says why.
 * @throws {TypeError} the server cannot be reached.
 */
export async function post(name, token, body) {
  const headers = { "Content-Type": "application/json", "X-Review-Token": token };
  const response = await fetch(name, { method: "POST", headers, body: JSON.stringify(body) });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, answer.error ?? `Not saved: the server refused (${response.status}).`);
  return answer;
}
