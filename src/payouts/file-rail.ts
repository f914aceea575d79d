import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { buildingFolder, removeAbandoned, writeDurably } from '../backbone/durable.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { renderPaymentFile, sha256 } from './payment-file.ts';
import {
  type PaymentOrder,
  type PayoutRail,
  type RailReceipt,
  type RailTerms,
  requirePayable,
} from './rail.ts';
import { minorUnitNano } from './unit.ts';

const PARTIAL_PREFIX = '.partial-';

/** What the rail does to the disk, step by step. */
export interface RailDisk {
  /** The file's text; null when there is none. */
  read(path: string): Promise<string | null>;
  /** Writes a file and waits until the disk has it. */
  write(path: string, content: string): Promise<void>;
  /** Gives a file its final name, and waits until the disk has that. */
  publish(folder: string, from: string, to: string): Promise<void>;
}

/** The machine's disk. */
export const railDisk: RailDisk = {
  async read(path) {
    try {
      return await readFile(path, 'utf8');
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
      throw error;
    }
  },
  write: writeDurably,
  async publish(folder, from, to) {
    await rename(from, to);
    const handle = await open(folder, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  },
};

/**
 * Pays by files that somebody gives to a bank: one for each batch, named after it. A file appears whole or not at all and
 * never changes; an order that is given again finds the file that it would write.
 */
export class FilePayoutRail implements PayoutRail {
  readonly kind = 'FILE';
  readonly refuses: ReadonlySet<string> = new Set();
  readonly #folder: string;
  readonly #disk: RailDisk;

  constructor(
    options: { readonly folder: string },
    dependencies: { readonly disk: RailDisk } = { disk: railDisk },
  ) {
    this.#folder = options.folder;
    this.#disk = dependencies.disk;
  }

  unitNano(currency: string): bigint {
    return minorUnitNano(currency);
  }

  async terms(currency: string): Promise<RailTerms> {
    return { leastNano: this.unitNano(currency) };
  }

  /** What a bank has done is known from its results alone, which were compared when they were taken in. */
  async requireAgreed(): Promise<void> {}

  /** The disk is asked when there is something to write. */
  async requireTakes(): Promise<void> {}

  /** Whoever has seen the file may have paid it, wherever it is now. */
  async neverTook(): Promise<boolean> {
    return false;
  }

  async submit(order: PaymentOrder): Promise<RailReceipt> {
    requirePayable(order, this.unitNano(order.currency));
    const name = `payouts-${order.batchId}.csv`;
    const content = renderPaymentFile(order);
    try {
      await this.#store(name, content);
    } catch (error) {
      if (error instanceof PatchbayError) throw error;
      throw new PatchbayError('PAYOUT_RAIL', 'The payment file could not be written.', { cause: error });
    }
    return { reference: name, sha256: sha256(content) };
  }

  async #store(name: string, content: string): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const path = join(this.#folder, name);
    const known = await this.#disk.read(path);
    if (known !== null && known !== content) {
      throw new PatchbayError('PAYOUT_RAIL', `${name} is there with another content.`, {
        fix: 'Find out who changed the file before anything of it is paid; then put it aside and submit again.',
        meta: { file: name },
      });
    }
    if (known === null) {
      const partial = buildingFolder(this.#folder, PARTIAL_PREFIX);
      await this.#disk.write(partial, content);
      await this.#disk.publish(this.#folder, partial, path);
    }
    await removeAbandoned(this.#folder, PARTIAL_PREFIX);
  }
}
