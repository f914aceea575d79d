import type { Readable } from 'node:stream';
import { DataStore, Upload } from '@tus/server';
import { z } from 'zod';
import type { Database } from '../db/client.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { isUuid, type Uuid } from '../kernel/ids.ts';
import type { IncomingFiles } from './incoming.ts';

const fileRow = z.object({
  id: z.string(),
  size: z.string().transform(Number),
  sha256: z.string(),
  complete: z.boolean(),
  expires_at: z.date(),
  created_at: z.date(),
});

/** A declared file as the upload endpoint needs it. */
type UploadFileRow = z.infer<typeof fileRow>;

/** Finds a file before its tenant is known; the caller checks the token before it does anything with it. */
export async function findUploadFile(database: Database, fileId: string): Promise<UploadFileRow | null> {
  if (!isUuid(fileId)) return null;
  const rows = await database.querySystem(
    `SELECT f.id, f.size::text, f.sha256, f.complete, u.expires_at, u.created_at
     FROM upload_file f JOIN upload u ON u.id = f.upload_id WHERE f.id = $1`,
    [fileId],
  );
  return rows.length === 0 ? null : fileRow.parse(rows[0]);
}

/** Keeps tus uploads as files whose place and size were declared beforehand: nothing can be created here. */
export class IncomingDataStore extends DataStore {
  readonly #database: Database;
  readonly #incoming: IncomingFiles;

  constructor(dependencies: { readonly database: Database; readonly incoming: IncomingFiles }) {
    super();
    this.extensions = [];
    this.#database = dependencies.database;
    this.#incoming = dependencies.incoming;
  }

  override async getUpload(id: string): Promise<Upload> {
    const file = await findUploadFile(this.#database, id);
    if (file === null) throw uploadNotFound();
    let offset = file.complete ? file.size : await this.#incoming.size(file.id);
    if (!file.complete && offset >= file.size) {
      // A process died between the last byte and the checksum: the client will not send more, so check now.
      await this.complete(file.id);
      offset = file.size;
    }
    return new Upload({ id, size: file.size, offset, creation_date: file.created_at.toISOString() });
  }

  override async write(stream: Readable, id: string, offset: number): Promise<number> {
    try {
      return await this.#incoming.append(id, stream, offset);
    } finally {
      const received = await this.#incoming.size(id);
      await this.#database.querySystem(
        'UPDATE upload_file SET received = least($2, size) WHERE id = $1 AND NOT complete',
        [id, received],
      );
    }
  }

  /** Checks the whole file against its declared SHA-256; what differs is dropped, so that it can be sent again. */
  async complete(fileId: Uuid): Promise<void> {
    const file = await findUploadFile(this.#database, fileId);
    if (file === null) throw uploadNotFound();
    if (file.complete) return;
    if (
      (await this.#incoming.size(fileId)) === file.size &&
      (await this.#incoming.sha256(fileId)) === file.sha256
    ) {
      await this.#database.querySystem(
        'UPDATE upload_file SET received = size, complete = true WHERE id = $1',
        [fileId],
      );
      return;
    }
    await this.#incoming.remove(fileId);
    await this.#database.querySystem('UPDATE upload_file SET received = 0 WHERE id = $1 AND NOT complete', [
      fileId,
    ]);
    throw new PatchbayError('UPLOAD_CHECKSUM', 'The bytes received do not have the declared SHA-256.');
  }
}

/** The one error for uploads that are absent, expired, or asked for with a wrong token. */
export function uploadNotFound(): PatchbayError {
  return new PatchbayError('UPLOAD_NOT_FOUND', 'There is no such upload, or its token is wrong or expired.');
}
