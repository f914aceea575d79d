import { type FileHandle, open } from 'node:fs/promises';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { Database } from '../db/client.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { isUuid, type Uuid } from '../kernel/ids.ts';
import { byteRange, matchesTag } from './byte-range.ts';
import { exportPath } from './files.ts';
import { FORMATS } from './format.ts';
import { type ExportModel, toExport } from './rows.ts';
import { isValid } from './url.ts';

/** What the download endpoint needs. */
interface DownloadRouteDependencies {
  readonly database: Pick<Database, 'withSystem'>;
  readonly clock: Clock;
  readonly folder: string;
  /** The secret that addresses are signed with. */
  readonly secret: string;
  /** Path below which files are, such as `/exports`. */
  readonly path: string;
}

const parameters = z.object({ id: z.string() });
const query = z.object({ expires: z.string().regex(/^\d{1,12}$/), signature: z.string().max(100) });

/**
 * Serves files of exports to whoever has their signed address; there is no other check, so that browsers and download
 * tools can load them. Downloads can be resumed by `Range`, and the `ETag` is the file's checksum.
 */
export function registerDownloadRoute(fastify: FastifyInstance, deps: DownloadRouteDependencies): void {
  fastify.route({
    method: ['GET', 'HEAD'],
    url: `${deps.path}/:id`,
    exposeHeadRoute: false,
    handler: async (request, reply) => {
      const found = await findGranted(deps, request);
      const { id: exportId, claims: claim, format: ending } = found;
      const handle = await openFile(exportPath(deps.folder, { exportId, claim, ending }));
      return send(request, reply, found, handle);
    },
  });
}

async function findGranted(
  { database, clock, secret }: DownloadRouteDependencies,
  request: FastifyRequest,
): Promise<ExportModel> {
  const { id } = parameters.parse(request.params);
  const given = query.safeParse(request.query);
  const nowMs = clock.nowMs();
  if (!isUuid(id) || !given.success) throw notFound();
  const grant = { exportId: id, expires: Number(given.data.expires) };
  if (!isValid(secret, grant, given.data.signature, nowMs)) throw notFound();
  const row = await find(database, id);
  if (row?.state !== 'READY' || row.expiresAt === null || row.expiresAt.getTime() <= nowMs) throw notFound();
  return row;
}

async function find(database: Pick<Database, 'withSystem'>, id: Uuid): Promise<ExportModel | null> {
  const row = await database.withSystem((tx) => tx.dataExport.findUnique({ where: { id } }));
  return row && toExport(row);
}

/** Opened before anything is answered: a file that is removed meanwhile is still read to its end. */
async function openFile(path: string): Promise<FileHandle> {
  return open(path, 'r').catch((cause: unknown) => {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') throw notFound(cause);
    throw cause;
  });
}

async function send(
  request: FastifyRequest,
  reply: FastifyReply,
  found: ExportModel,
  handle: FileHandle,
): Promise<FastifyReply> {
  let streams = false;
  try {
    const { size } = await handle.stat();
    const etag = `"${found.sha256}"`;
    const { headers } = request;
    reply.headers({
      'accept-ranges': 'bytes',
      etag,
      'cache-control': 'private, no-transform, max-age=0',
      'content-disposition': `attachment; filename="${fileName(found)}"`,
      // A file is data, whatever it looks like: no browser may run or frame it, and no page hears of its address.
      'content-security-policy': "default-src 'none'; sandbox",
      'referrer-policy': 'no-referrer',
      'x-content-type-options': 'nosniff',
    });
    reply.type(FORMATS[found.format].mediaType);
    if (matchesTag(headers['if-none-match'], etag)) return reply.code(304).send();
    const ifRange = headers['if-range'];
    const range = byteRange({ range: headers.range, ifRange: ifRange?.toString() }, etag, size);
    if (range.kind === 'OUTSIDE') {
      reply.header('content-range', `bytes */${size}`);
      return reply.code(416).send();
    }
    const { first, last } = range.kind === 'PART' ? range : { first: 0, last: size - 1 };
    if (range.kind === 'PART') reply.code(206).header('content-range', `bytes ${first}-${last}/${size}`);
    reply.header('content-length', last - first + 1);
    if (request.method === 'HEAD' || size === 0) return reply.send('');
    streams = true;
    return reply.send(handle.createReadStream({ start: first, end: last, highWaterMark: 1 << 18 }));
  } finally {
    // The stream closes what it reads.
    if (!streams) await handle.close();
  }
}

/** Such as `usage_2026-01-01_2026-02-01.csv`. */
function fileName({ source, format, from, until }: ExportModel): string {
  const day = (time: Date): string => time.toISOString().slice(0, 10);
  return `${source}_${day(from)}_${day(until)}.${format}`;
}

/** One answer to everything that keeps a file from somebody, so that nobody learns which exports there are. */
function notFound(cause?: unknown): PatchbayError {
  return new PatchbayError('EXPORT_NOT_FOUND', 'There is no such file, or its address has run out.', {
    cause,
  });
}
