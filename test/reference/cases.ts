import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { GreedyResult } from './generate.ts';
import { isJsonObject, numberArray, numberMember, readJsonLines, stringMember } from './json.ts';

/** One line of cases.jsonl. Adapter paths are relative to the folder of the file. */
export interface GoldenCase {
  readonly customId: string;
  readonly promptIds: readonly number[];
  readonly maxTokens: number;
  readonly ignoreEos: boolean;
  readonly adapters: readonly { readonly path: string; readonly weight: number }[];
}

/** One line of expected.jsonl. */
export interface GoldenExpectation extends Omit<GreedyResult, 'finishReason'> {
  readonly customId: string;
}

export function readCases(folder: string): GoldenCase[] {
  return readJsonLines(join(folder, 'cases.jsonl')).map((line) => {
    const adapters: unknown = line.adapters;
    if (!Array.isArray(adapters)) throw new Error('adapters: expected an array');
    return {
      customId: stringMember(line, 'custom_id'),
      promptIds: numberArray(line.prompt_ids, 'prompt_ids'),
      maxTokens: numberMember(line, 'max_tokens'),
      ignoreEos: line.ignore_eos === true,
      adapters: adapters.map((entry: unknown) => {
        if (!isJsonObject(entry)) throw new Error('adapters: expected objects');
        return { path: stringMember(entry, 'path'), weight: numberMember(entry, 'weight') };
      }),
    };
  });
}

export function readExpectations(folder: string): GoldenExpectation[] {
  const path = join(folder, 'expected.jsonl');
  if (!existsSync(path)) throw new Error(`${path} is missing; run make-fixtures.ts`);
  return readJsonLines(path).map((line) => ({
    customId: stringMember(line, 'custom_id'),
    ids: numberArray(line.ids, 'ids'),
    logprobs: numberArray(line.logprobs, 'logprobs'),
    margins: numberArray(line.margins, 'margins'),
  }));
}

/** The inputs in the exact form `run-batch` takes them. */
export function caseLine(item: GoldenCase): string {
  return JSON.stringify({
    custom_id: item.customId,
    prompt_ids: item.promptIds,
    max_tokens: item.maxTokens,
    temperature: 0,
    ignore_eos: item.ignoreEos,
    adapters: item.adapters,
  });
}

export function expectationLine(item: GoldenExpectation): string {
  return JSON.stringify({
    custom_id: item.customId,
    ids: item.ids,
    logprobs: item.logprobs,
    margins: item.margins,
  });
}
