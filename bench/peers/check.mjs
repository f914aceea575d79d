// Before anything is timed: both engines must answer alike, or they do not run the same model.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PATCHBAY, runNode } from '../kit.mjs';
import { adapterGguf, adapterPeft, backboneGguf } from './convert.mjs';
import { load, promptsOf, runPeer } from './engines.mjs';
import { bestSettings } from './settings.mjs';

const PROMPTS = 8;
const NEW_TOKENS = 24;
/** Where the two best tokens' log probabilities differ by less, rounding decides which one is greedy. */
const NEAR_TIE = 2e-3;
/** Largest difference of a token's log probability between two float32 engines. */
const TOLERANCE = 2e-4;

/**
 * Compares greedy tokens and their log probabilities in float32, without an adapter and with one. After a near-tie two
 * engines may go separate ways, so a prompt is compared up to the first token that differs, which must be one.
 * @returns {Promise<{ adapter: boolean, same: number, tokens: number, largest: number, ties: number }[]>}
 */
export async function compareEngines(checkpoint, folder, dataDir) {
  const model = await backboneGguf(checkpoint, 'F32', folder);
  const results = [];
  for (const adapter of [null, 1]) {
    const lora = adapter === null ? null : await adapterGguf(checkpoint, load.rank, adapter, folder);
    const peft = adapter === null ? null : await adapterPeft(checkpoint, load.rank, adapter, folder);
    const prompts = promptsOf(checkpoint.shape, PROMPTS);
    const { answers } = await runPeer({
      model,
      loras: prompts.map(() => lora),
      separate: false,
      prompts,
      newTokens: NEW_TOKENS,
      // Its flash attention rounds to half precision on the way.
      settings: { ...bestSettings('none'), flashAttention: false },
      kvType: 'F32',
      keepTokens: true,
    });
    const own = await patchbayAnswers(checkpoint, peft, prompts, folder, dataDir);
    results.push({ adapter: adapter !== null, ...compare(own, answers) });
  }
  return results;
}

async function patchbayAnswers(checkpoint, peft, prompts, folder, dataDir) {
  const input = join(folder, 'check.in.jsonl');
  const output = join(folder, 'check.out.jsonl');
  const lines = prompts.map((prompt_ids, number) => ({
    custom_id: String(number),
    prompt_ids,
    adapters: peft === null ? [] : [{ path: peft }],
    max_tokens: NEW_TOKENS,
    ignore_eos: true,
  }));
  await writeFile(input, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  const args = ['run-batch', '--backbone', checkpoint.dir, '--input', input, '--output', output, '--json'];
  await runNode([PATCHBAY, ...args], { PATCHBAY_DATA_DIR: dataDir });
  const text = await readFile(output, 'utf8');
  return text.trim().split('\n').map(answerOf);
}

function answerOf(line) {
  const answer = JSON.parse(line);
  if (answer.error !== undefined) throw new Error(`run-batch refused a line: ${answer.error.message}`);
  return { tokens: answer.token_ids, logprobs: answer.logprobs };
}

function compare(own, theirs) {
  const result = { same: 0, tokens: 0, largest: 0, ties: 0 };
  for (const [prompt, { tokens, logprobs }] of own.entries()) {
    const other = theirs[prompt];
    for (const [i, token] of tokens.entries()) {
      const difference = Math.abs(logprobs[i] - other.logprobs[i]);
      result.tokens += 1;
      if (token !== other.tokens[i]) {
        // Each engine chose its likeliest token, so at a tie both choices are equally likely.
        if (difference > NEAR_TIE) {
          throw new Error(
            `Prompt ${prompt}, token ${i}: Patchbay chose ${token} (${logprobs[i]}), ` +
              `node-llama-cpp ${other.tokens[i]} (${other.logprobs[i]}). They do not run the same model.`,
          );
        }
        result.ties += 1;
        break;
      }
      result.same += 1;
      result.largest = Math.max(result.largest, difference);
    }
  }
  if (result.largest > TOLERANCE) {
    throw new Error(`Log probabilities differ by ${result.largest}. The engines do not run the same model.`);
  }
  return result;
}
