import { Server } from '@tus/server';
import type { FastifyInstance } from 'fastify';
import type { Database } from '../db/client.ts';
import type { Clock } from '../kernel/clock.ts';
import { toPatchbayError } from '../kernel/errors.ts';
import { isUuid } from '../kernel/ids.ts';
import type { IncomingFiles } from './incoming.ts';
import { tokenMatches, uploadToken } from './tokens.ts';
import { findUploadFile, IncomingDataStore, uploadNotFound } from './upload-store.ts';

/** What the upload endpoint needs. */
export interface UploadRouteDependencies {
  readonly database: Database;
  readonly clock: Clock;
  readonly incoming: IncomingFiles;
  /** The secret that upload tokens are derived from. */
  readonly secret: string;
  /** Path below which files are, such as `/uploads`. */
  readonly path?: string;
  readonly onError?: (error: unknown) => void;
}

/** tus: the checksum of what was sent does not match. */
const STATUS_CHECKSUM_MISMATCH = 460;

/**
 * Registers the tus 1.0 endpoint (core protocol): HEAD tells the offset, PATCH appends. Uploads are declared by
 * GraphQL beforehand, so there is no creation, and every request carries the token of its one file.
 */
export async function registerUploadRoutes(
  fastify: FastifyInstance,
  dependencies: UploadRouteDependencies,
): Promise<void> {
  const { path = '/uploads', clock, database, secret } = dependencies;
  const datastore = new IncomingDataStore(dependencies);

  const authorise = async (request: { readonly headers: Headers }, fileId: string): Promise<void> => {
    const given =
      /^Bearer ([A-Za-z0-9_-]{1,100})$/.exec(request.headers.get('authorization') ?? '')?.[1] ?? '';
    const file = await findUploadFile(database, fileId);
    const expiresAtMs = file?.expires_at.getTime() ?? 0;
    const wanted = uploadToken(secret, { fileId, expiresAtMs });
    if (!tokenMatches(given, wanted) || file === null || expiresAtMs <= clock.nowMs()) throw uploadNotFound();
  };

  const tus = new Server({
    path,
    datastore,
    allowedHeaders: ['Authorization'],
    relativeLocation: true,
    getFileIdFromRequest: (_request, last) => (last !== undefined && isUuid(last) ? last : undefined),
    onIncomingRequest: authorise,
    onUploadFinish: async (_request, upload) => {
      await datastore.complete(upload.id);
      return {};
    },
    onResponseError: (_request, error) => {
      // tus's own refusals (a wrong offset, a missing header) carry their status; the rest is this program's.
      if ('status_code' in error) return undefined;
      const known = toPatchbayError(error);
      if (known.code === 'INTERNAL') dependencies.onError?.(error);
      return {
        status_code: known.code === 'UPLOAD_CHECKSUM' ? STATUS_CHECKSUM_MISMATCH : known.status,
        body: `${JSON.stringify({ errors: [known.toPublic()] })}\n`,
      };
    },
  });

  await fastify.register(async (scope) => {
    // The body stays a stream: tus reads it.
    scope.addContentTypeParser('application/offset+octet-stream', (_request, _payload, done) => done(null));
    scope.route({
      method: ['HEAD', 'PATCH', 'OPTIONS'],
      url: `${path}/:fileId`,
      handler: async (request, reply) => {
        reply.hijack();
        try {
          await tus.handle(request.raw, reply.raw);
        } catch (error) {
          dependencies.onError?.(error);
          reply.raw.destroy();
        }
      },
    });
  });
}
