import type { Database } from '../../db/client.ts';
import type { Clock } from '../../kernel/clock.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import type { Uuid } from '../../kernel/ids.ts';
import { logIdOf } from '../log/digest.ts';
import type { DigestSigner } from '../log/types.ts';
import { successionDigest } from '../typed.ts';

/** A key that has signed for the log. Times are milliseconds since 1970. */
export interface ProofKey {
  readonly address: string;
  readonly validFrom: number;
  /** Null while it is in use. */
  readonly validUntil: number | null;
  /** By the key before it; null for the first, and for one whose predecessor was lost. */
  readonly endorsement: string | null;
}

interface KeyRow {
  readonly address: string;
  readonly valid_from: string;
  readonly endorsement: string | null;
}

/** Serialises those who add a key. */
const LOCK = `SELECT pg_advisory_xact_lock(hashtext('patchbay proof_key'))`;
/** Keeps the key that is in use in use until the transaction ends. */
export const KEEP_KEY = `SELECT pg_advisory_xact_lock_shared(hashtext('patchbay proof_key'))`;
const READ = 'SELECT address, valid_from, endorsement FROM proof_key ORDER BY position';
const ADD = `
INSERT INTO proof_key (position, address, valid_from, endorsement)
SELECT coalesce(max(position) + 1, 0), $1, $2, $3 FROM proof_key`;

/** The deployment's log and the keys that sign for it. */
export class KeyRegistry {
  readonly #database: Pick<Database, 'withSystemPg' | 'querySystem'>;
  readonly #clock: Clock;

  constructor(dependencies: {
    readonly database: Pick<Database, 'withSystemPg' | 'querySystem'>;
    readonly clock: Clock;
  }) {
    this.#database = dependencies.database;
    this.#clock = dependencies.clock;
  }

  /** The id of the log. */
  async logId(): Promise<Uint8Array> {
    const [row] = await this.#database.querySystem<{ readonly uuid: Uuid }>('SELECT uuid FROM proof_log', []);
    if (row === undefined) throw new Error('the deployment has a log');
    return logIdOf(row.uuid);
  }

  /** All keys, the oldest first. */
  async list(): Promise<readonly ProofKey[]> {
    return toKeys(await this.#database.querySystem<KeyRow>(READ, []));
  }

  /**
   * Makes the key the deployment's first, or finds that it is the one in use.
   *
   * @throws PatchbayError `PROOF_KEY_UNKNOWN` when another one is in use
   */
  async use({ address }: DigestSigner): Promise<void> {
    await this.#database.withSystemPg(async (client) => {
      await client.query(LOCK);
      const last = (await client.query<KeyRow>(READ)).rows.at(-1);
      if (last?.address === address) return;
      if (last !== undefined) {
        throw new PatchbayError(
          'PROOF_KEY_UNKNOWN',
          `The key ${address} is not the one in use, ${last.address}.`,
          {
            meta: { address, inUse: last.address },
          },
        );
      }
      await client.query(ADD, [address, this.#clock.nowMs(), null]);
    });
  }

  /**
   * Puts another key in use from now on, endorsed by the one that was. Repeated after it was done, it does nothing.
   *
   * @throws PatchbayError `PROOF_KEY_UNKNOWN` when neither of the two is in use
   */
  async succeed(present: DigestSigner, next: DigestSigner): Promise<void> {
    const logId = await this.logId();
    await this.#database.withSystemPg(async (client) => {
      await client.query(LOCK);
      const last = (await client.query<KeyRow>(READ)).rows.at(-1);
      if (last?.address === next.address) return;
      if (last?.address !== present.address) {
        throw new PatchbayError('PROOF_KEY_UNKNOWN', `The key ${present.address} is not the one in use.`, {
          meta: { address: present.address },
        });
      }
      const validFrom = Math.max(this.#clock.nowMs(), Number(last.valid_from) + 1);
      const digest = successionDigest(logId, { next: next.address, validFrom });
      await client.query(ADD, [next.address, validFrom, await present.sign(digest)]);
    });
  }
}

function toKeys(rows: readonly KeyRow[]): readonly ProofKey[] {
  return rows.map((row, index) => {
    const next = rows[index + 1];
    return {
      address: row.address,
      validFrom: Number(row.valid_from),
      validUntil: next === undefined ? null : Number(next.valid_from),
      endorsement: row.endorsement,
    };
  });
}
