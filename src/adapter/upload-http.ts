import { AsyncLocalStorage } from 'node:async_hooks';
import { Server } from '@tus/server';
import type { FastifyInstance } from 'fastify';
import type { Database } from '../db/client.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError, toPatchbayError } from '../kernel/errors.ts';
import { isUuid } from '../kernel/ids.ts';
import type { IncomingFiles } from './incoming.ts';
import { tokenMatches, uploadToken } from './tokens.ts';
import { findUploadFile, IncomingDataStore, uploadNotFound } from './upload-store.ts';

/** What the upload endpoint needs. */
interface UploadRouteDependencies {
  readonly database: Database;
  readonly clock: Clock;
  readonly incoming: IncomingFiles;
  /** The secret that upload tokens are derived from. */
  readonly secret: string;
  /** Path below which files are, such as `/uploads`. */
  readonly path?: string;
  readonly onError?: (error: unknown) => void;
}

/** Response header that names the request, for the log. */
const REQUEST_ID_HEADER = 'x-request-id';
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
  // tus's callbacks are told of its own kind of request, which does not know the id.
  const requestIds = new AsyncLocalStorage<string>();

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
    exposedHeaders: ['X-Request-Id'],
    relativeLocation: true,
    getFileIdFromRequest: (_request, last) => (last !== undefined && isUuid(last) ? last : undefined),
    onIncomingRequest: authorise,
    onUploadFinish: async (_request, upload) => {
      await datastore.complete(upload.id);
      return {};
    },
    onResponseError: (_request, error) => {
      // tus's own refusals (a wrong offset, a missing header) carry their status; the rest is this program's.
      const known = 'status_code' in error ? fromTus(error) : toPatchbayError(error);
      if (known.code === 'INTERNAL') dependencies.onError?.(error);
      const ownStatus = known.code === 'UPLOAD_CHECKSUM' ? STATUS_CHECKSUM_MISMATCH : known.status;
      const requestId = requestIds.getStore();
      return {
        status_code: 'status_code' in error ? error.status_code : ownStatus,
        body: `${JSON.stringify({ errors: [{ ...known.toPublic(), requestId }] })}\n`,
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
        // A hijacked reply sends none of the headers that hooks gave it.
        reply.raw.setHeader(REQUEST_ID_HEADER, request.id);
        try {
          await requestIds.run(request.id, () => tus.handle(request.raw, reply.raw));
        } catch (error) {
          dependencies.onError?.(error);
          reply.raw.destroy();
        }
      },
    });
  });
}

/** A refusal of tus itself, such as a wrong offset, in the registry's terms. */
function fromTus({
  status_code,
  body,
}: {
  readonly status_code: number;
  readonly body: string;
}): PatchbayError {
  const message = body.trim();
  if (status_code === 409) return new PatchbayError('UPLOAD_STATE', message);
  if (status_code === 413) return new PatchbayError('FILE_TOO_LARGE', message);
  if (status_code === 404 || status_code === 410) return uploadNotFound();
  return status_code < 500
    ? new PatchbayError('BAD_INPUT', message)
    : new PatchbayError('INTERNAL', 'The upload failed.', { cause: message });
}
