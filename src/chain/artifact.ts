import { readFile } from 'node:fs/promises';
import type { InterfaceAbi } from 'ethers';
import { z } from 'zod';

const HEX = z.string().regex(/^0x(?:[0-9a-f]{2})*$/);
const HASH = z.string().regex(/^0x[0-9a-f]{64}$/);

const artifactSchema = z.object({
  format: z.literal('patchbay-contract/1'),
  name: z.string(),
  abi: z.array(z.looseObject({ type: z.string() })),
  /** What a deployment begins with; the constructor's arguments follow. */
  bytecode: HEX,
  /** Hash of the code on the chain, with zeros in place of immutables. */
  deployedBytecodeHash: HASH,
  /** Where the code on the chain has values that the constructor chose, 32 bytes each. */
  immutables: z.array(z.object({ name: z.string(), offsets: z.array(z.int().nonnegative()) })),
});

/** What is known of a compiled contract: enough to deploy it and to recognise it on a chain. */
export interface Artifact extends z.infer<typeof artifactSchema> {
  readonly abi: InterfaceAbi & z.infer<typeof artifactSchema>['abi'];
}

const FOLDER = new URL('../../contracts/artifacts/', import.meta.url);

/** The artifact of one of our contracts, as `node bin/contracts.mjs` wrote it. */
export function readOwnArtifact(
  name: 'AttributionAnchor' | 'RoyaltyDistributor' | 'LocalToken',
): Promise<Artifact> {
  return readArtifact(new URL(`${name}.json`, FOLDER));
}

/** Reads an artifact. */
export async function readArtifact(file: URL): Promise<Artifact> {
  return artifactSchema.parse(JSON.parse(await readFile(file, 'utf8')));
}
