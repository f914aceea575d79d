import { totalmem } from 'node:os';
import { join } from 'node:path';
import type { ImportedBackbone } from '../backbone/import.ts';
import { findImported } from '../backbone/imported.ts';
import type { Config } from '../config/index.ts';
import type { MemoryReport } from '../kernel/memory.ts';
import { memoryNeeds } from '../serving/memory-needs.ts';
import { defaultTotalBytes, type MemoryPlan, planMemory, planParts } from '../serving/memory-plan.ts';
import { backboneFolder } from './engine.ts';

/** What the process may take. */
function totalBytes(config: Config): number {
  const machine = { totalBytes: totalmem(), constrainedBytes: process.constrainedMemory() };
  return config.engine.memoryBytes ?? defaultTotalBytes(machine);
}

/**
 * Divides the process's memory for a backbone.
 *
 * @throws PatchbayError `CONFIG_INVALID` when it does not hold the backbone, saying what is needed
 */
export function planFor(config: Config, { manifest }: Pick<ImportedBackbone, 'manifest'>): MemoryPlan {
  const { engine, adapters } = config;
  const needs = memoryNeeds(manifest, {
    maxContext: engine.maxContext,
    maxBatch: engine.maxBatch,
    prefillTokensPerStep: engine.prefillTokensPerStep,
    maxRank: adapters.maxRank,
    packed: engine.executionProviders.every((provider) => provider === 'cpu'),
  });
  return planMemory(needs, {
    totalBytes: totalBytes(config),
    kvBytes: engine.kvBytes,
    bankBytes: engine.bankBytes,
    hostCacheBytes: engine.hostCacheBytes,
    // A device's keys and values are not copied to the host, so there nothing is kept.
    prefixBytes: engine.executionProviders[0] === 'webgpu' ? 0 : engine.prefixBytes,
  });
}

export function memoryReport(plan: MemoryPlan): MemoryReport {
  return { totalBytes: plan.totalBytes, parts: planParts(plan) };
}

/** The division that a start with this configuration would make; without parts while the backbone is not imported. */
export async function describeMemory(config: Config): Promise<MemoryReport> {
  const { source, weightBits } = config.backbone;
  const root = join(config.data.dir, 'backbones');
  const imported = await findImported({ dir: backboneFolder(source), root, bits: weightBits });
  return imported === null
    ? { totalBytes: totalBytes(config), parts: [] }
    : memoryReport(planFor(config, imported));
}
