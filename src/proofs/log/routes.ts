import type { FastifyInstance, FastifyReply } from 'fastify';
import { z } from 'zod';
import { PatchbayError } from '../../kernel/errors.ts';
import type { EpochService } from '../epochs/service.ts';
import { requireProofs } from '../require.ts';
import { consistencyDocument, headDocument, hex, inclusionDocument } from './documents.ts';
import type { LogService } from './service.ts';
import type { LeafRef } from './types.ts';

/** What is asked of the log. */
type PublicLog = Pick<LogService, 'id' | 'head' | 'inclusion' | 'consistency'>;

/** Proofs for heads that are named never change; the latest head does. */
const FOR_EVER = 'public, max-age=31536000, immutable';
const FOR_NOW = 'public, max-age=1';

const count = z
  .string()
  .regex(/^(0|[1-9]\d{0,15})$/)
  .transform(Number);
const headQuery = z.strictObject({ size: count.optional() });
const epochQuery = z.strictObject({
  number: z
    .string()
    .regex(/^[1-9]\d{0,17}$/)
    .transform(BigInt)
    .optional(),
});
const inclusionQuery = z.strictObject({
  leaf: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .optional(),
  index: count.optional(),
  size: count.optional(),
});
const consistencyQuery = z.strictObject({ first: count, second: count.optional() });

/** What is served of proofs; both null where they are off. */
export interface PublicProofs {
  readonly log: PublicLog | null;
  readonly keys: { list(): Promise<readonly PublicKey[]> } | null;
  readonly epochs: Pick<EpochService, 'document'> | null;
}

/** A key that has signed for the log. Times are milliseconds since 1970. */
interface PublicKey {
  readonly address: string;
  readonly validFrom: number;
  readonly validUntil: number | null;
  readonly endorsement: string | null;
}

/** Serves keys, heads, proofs and epochs to everybody, without a key of theirs. */
export function registerLogRoutes(fastify: FastifyInstance, { log, keys, epochs }: PublicProofs): void {
  const serve = (
    path: string,
    answer: (service: PublicLog, query: unknown, reply: FastifyReply) => Promise<object>,
  ): void => {
    fastify.get(`/log/v1/${path}`, async (request, reply) => {
      // Until it is known for how long the answer holds: what is not there today may be there tomorrow.
      reply.header('cache-control', 'no-store');
      const service = requireProofs(log);
      return { log: hex(service.id), ...(await answer(service, request.query, reply)) };
    });
  };

  serve('keys', async (_service, query, reply) => {
    parse(z.strictObject({}), query);
    const all = await requireProofs(keys).list();
    reply.header('cache-control', FOR_NOW);
    return {
      format: 'patchbay-keys/1',
      keys: all.map(({ address, validFrom, validUntil, endorsement }) => ({
        address,
        validFrom: String(validFrom),
        validUntil: validUntil === null ? null : String(validUntil),
        endorsement,
      })),
    };
  });
  serve('head', async (service, query, reply) => {
    const { size } = parse(headQuery, query);
    const head = await service.head(size ?? null);
    keep(reply, size);
    return { format: 'patchbay-head/1', head: headDocument(head) };
  });
  serve('proof/inclusion', async (service, query, reply) => {
    const { size, ...leaf } = parse(inclusionQuery, query);
    const proof = await service.inclusion(leafOf(leaf), size ?? null);
    keep(reply, size);
    return { leaf: hex(proof.leaf), ...inclusionDocument(proof) };
  });
  serve('proof/consistency', async (service, query, reply) => {
    const { first, second } = parse(consistencyQuery, query);
    const proof = await service.consistency(first, second ?? null);
    keep(reply, second);
    return consistencyDocument(proof);
  });

  // As it was signed, and not made anew.
  fastify.get('/log/v1/epoch', async (request, reply) => {
    reply.header('cache-control', 'no-store');
    const service = requireProofs(epochs);
    const { number } = parse(epochQuery, request.query);
    const document = await service.document(number ?? null);
    reply.header('cache-control', number === undefined ? FOR_NOW : FOR_EVER);
    return reply.type('application/json; charset=utf-8').send(document);
  });
}

function keep(reply: FastifyReply, size: number | undefined): void {
  reply.header('cache-control', size === undefined ? FOR_NOW : FOR_EVER);
}

function leafOf({
  leaf,
  index,
}: {
  readonly leaf?: string | undefined;
  readonly index?: number | undefined;
}) {
  if ((leaf === undefined) === (index === undefined)) {
    throw new PatchbayError('BAD_INPUT', 'Give either the hash of a leaf or its index.', {
      field: 'leaf',
      fix: 'Ask with `leaf`, 64 hexadecimal digits, or with `index`, from 0.',
    });
  }
  const named: LeafRef =
    leaf === undefined
      ? { kind: 'index', index: index ?? 0 }
      : { kind: 'hash', hash: Buffer.from(leaf, 'hex') };
  return named;
}

function parse<Schema extends z.ZodType>(schema: Schema, query: unknown): z.infer<Schema> {
  const parsed = schema.safeParse(query);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const field = issue?.code === 'unrecognized_keys' ? issue.keys[0] : issue?.path.join('.');
  throw new PatchbayError('BAD_INPUT', 'A parameter is missing, unknown or malformed.', {
    ...(field === undefined ? {} : { field }),
    fix: 'Sizes, indices and numbers are decimal, hashes 64 lower-case hexadecimal digits, and each is given once.',
  });
}
