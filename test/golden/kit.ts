import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { atFileEnd } from '../kit/file-end.ts';

/** A line of a golden folder's `cases.jsonl`, in the format of `run-batch`. */
export interface GoldenCase {
  readonly custom_id: string;
  readonly prompt_ids: readonly number[];
  readonly max_tokens: number;
  readonly adapters: readonly { readonly path: string; readonly weight: number }[];
}

/** A line of `expected.jsonl`, computed in float64. */
export interface GoldenExpectation {
  readonly custom_id: string;
  readonly ids: readonly number[];
  readonly logprobs: readonly number[];
  readonly margins: readonly number[];
}

export const GOLDEN_ROOT = fileURLToPath(new URL('../fixtures/golden/', import.meta.url));
export const GOLDEN_FOLDERS = [
  'llama-tied',
  'llama3-untied',
  'llama-bf16-sharded',
  'mistral',
  'qwen2',
  'qwen3',
] as const;

/** Under this margin float32 may choose the other token, and the comparison of a sequence ends. */
export const MIN_MARGIN = 2e-3;

export async function readLines<T>(path: string): Promise<readonly T[]> {
  const text = await readFile(path, 'utf8');
  return text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => JSON.parse(line) as T);
}

/** A folder that is gone when the test file that asked for it is done. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'patchbay-test-'));
  atFileEnd(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** How far a sequence must agree with its expectation: up to the first step that float32 cannot decide. */
export function comparableSteps(expectation: GoldenExpectation): number {
  const tie = expectation.margins.findIndex((margin) => margin < MIN_MARGIN);
  return tie === -1 ? expectation.ids.length : tie;
}
