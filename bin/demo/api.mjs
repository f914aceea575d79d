// The server's GraphQL, as a client with a key sees it.
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';

/** A client with one key. */
export class Client {
  #url;
  #key;

  /**
   * @param {string} url
   * @param {string} key
   */
  constructor(url, key) {
    this.#url = url;
    this.#key = key;
  }

  get key() {
    return this.#key;
  }

  /** The data of an operation; errors are thrown. */
  async query(query, variables = {}) {
    const response = await fetch(this.#url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${this.#key}` },
      body: JSON.stringify({ query, variables }),
    });
    const { data, errors } = await response.json();
    if (errors !== undefined) throw new Error(`${query}\n${JSON.stringify(errors, null, 2)}`);
    return data;
  }

  /** Runs a mutation whose answer has `userErrors`, and gives the rest of the answer. */
  async mutate(name, inputType, input, selection, { repeatable = false } = {}) {
    const key = repeatable ? {} : { idempotencyKey: randomUUID() };
    const data = await this.query(
      `mutation ($input: ${inputType}!) { ${name}(input: $input) { ${selection} userErrors { code message fix } } }`,
      { input: { ...key, ...input } },
    );
    const { userErrors, ...answer } = data[name];
    if (userErrors.length > 0) throw new Error(`${name}: ${JSON.stringify(userErrors)}`);
    return answer;
  }
}

/** Asks again until the answer is there; `what` is said when it does not come. */
export async function until(what, ask, { everyMs = 250, withinMs = 120_000 } = {}) {
  const ends = performance.now() + withinMs;
  for (;;) {
    const answer = await ask();
    if (answer !== null && answer !== undefined && answer !== false) return answer;
    if (performance.now() > ends) throw new Error(`Waited in vain for ${what}.`);
    await delay(everyMs);
  }
}
