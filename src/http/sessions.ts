import type { Principal } from '../auth/principal.ts';
import { PatchbayError } from '../kernel/errors.ts';

/** Something that stays open on the strength of a key. */
export interface Session {
  readonly principal: Principal | undefined;
  /** The credential that the principal came with, to be checked again. */
  readonly authorization: string | undefined;
  /** Whether it is one request with one answer, which counts for no open socket. */
  readonly isRequest?: boolean;
  /** Ends it because its key is no longer valid. */
  revoke(): void;
}

/** Everything that is open, over whichever transport, requests under way included; ends what loses its key. */
export class Sessions {
  readonly #authenticate: (authorization: string | undefined) => Promise<Principal>;
  readonly #open = new Set<Session>();
  readonly #timer: NodeJS.Timeout;
  #requests = 0;
  #checking = false;
  #again = false;

  constructor(
    options: { readonly revalidateMs: number },
    dependencies: { readonly authenticate: (authorization: string | undefined) => Promise<Principal> },
  ) {
    this.#authenticate = dependencies.authenticate;
    this.#timer = setInterval(() => void this.revalidate(), options.revalidateMs).unref();
  }

  /** Open websockets and event streams. */
  get count(): number {
    return this.#open.size - this.#requests;
  }

  add(session: Session): void {
    this.#open.add(session);
    if (session.isRequest === true) this.#requests += 1;
  }

  delete(session: Session): void {
    if (this.#open.delete(session) && session.isRequest === true) this.#requests -= 1;
  }

  /** Ends every session of a key that is no longer valid. */
  closeKey(keyId: string): void {
    for (const session of this.#open) if (session.principal?.keyId === keyId) session.revoke();
  }

  /** Stops checking. */
  stop(): void {
    clearInterval(this.#timer);
  }

  /**
   * Asks again whether the keys of open sessions are valid. Revocations that this process is told of end sessions
   * at once through {@link closeKey}; this finds the others, and expiry. It runs by itself, and sooner for whoever knows
   * that something may have been missed.
   */
  async revalidate(): Promise<void> {
    this.#again = true;
    if (this.#checking) return;
    this.#checking = true;
    try {
      while (this.#again) {
        this.#again = false;
        await this.#check();
      }
    } finally {
      this.#checking = false;
    }
  }

  async #check(): Promise<void> {
    const credentials = new Set([...this.#open].map(({ authorization }) => authorization));
    for (const authorization of credentials) {
      if (authorization === undefined || (await this.#isValid(authorization))) continue;
      for (const session of this.#open) if (session.authorization === authorization) session.revoke();
    }
  }

  async #isValid(authorization: string): Promise<boolean> {
    try {
      await this.#authenticate(authorization);
      return true;
    } catch (error) {
      // A database that does not answer is no reason to end streams that are running.
      return !(error instanceof PatchbayError && error.code === 'UNAUTHENTICATED');
    }
  }
}
