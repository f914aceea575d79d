import { requirePrincipal } from '../context.ts';
import type { EngineStatusResolvers, QueryResolvers } from '../generated/types.ts';

export const EngineStatus = {
  backboneDigest: ({ info }) => info.backboneDigest,
  maxContext: ({ info }) => info.maxContext,
  maxRank: ({ info }) => info.maxRank,
  maxBlend: ({ info }) => info.maxBlend,
  queues: ({ status }) => status,
  steps: ({ status }) => BigInt(status.steps),
  tokensGenerated: ({ status }) => BigInt(status.tokensGenerated),
  kvCache: ({ status }) => ({ used: BigInt(status.kvBytesUsed), budget: BigInt(status.kvBytesBudget) }),
  hostCache: ({ status }) => ({
    used: BigInt(status.hostCacheBytesUsed),
    budget: BigInt(status.hostCacheBytesBudget),
  }),
  prefixes: ({ status: { prefixes } }) => ({
    memory: { used: BigInt(prefixes.bytesUsed), budget: BigInt(prefixes.bytesBudget) },
    hits: BigInt(prefixes.hits),
    tokens: BigInt(prefixes.tokens),
  }),
  residentAdapters: ({ status }) =>
    status.residentAdapters.map((adapter) => ({
      ...adapter,
      bytes: BigInt(adapter.bytes),
      tier: adapter.tier === 'bank' ? 'BANK' : 'HOST',
    })),
  stepMs: ({ status }) => status.stepMs,
  memory: ({ memory }) => ({
    total: BigInt(memory.totalBytes),
    resident: BigInt(memory.residentBytes),
    parts: memory.parts.map(({ name, bytes }) => ({ name, bytes: BigInt(bytes) })),
  }),
} satisfies EngineStatusResolvers;

export const engineQueries = {
  engine: (_root, _args, context) => context.services.engine.status(requirePrincipal(context)),
} satisfies QueryResolvers;
