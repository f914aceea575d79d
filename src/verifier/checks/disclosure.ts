import { fromHex, sha256 } from '../hashing/bytes.ts';
import type { Disclosure } from '../input/disclosure.ts';
import type { Receipt } from '../input/formats.ts';
import { fails, holds, judged, type Step, unchecked } from '../step.ts';
import type { View } from '../view.ts';

/** Whether what was disclosed is what the receipt commits to. Who made a commitment up cannot open it to other tokens. */
export function checkDisclosure(receipt: Receipt, view: View, disclosure: Disclosure): readonly Step[] {
  const { id, salt, prompt, output } = disclosure;
  return [
    id === receipt.id
      ? holds('disclosure.id', `the disclosure is of request ${id}`)
      : fails('disclosure.id', `the disclosure is of request ${id}, the receipt of ${receipt.id}`),
    checkTokens('prompt', salt, prompt, view.request('promptCommitment')),
    checkTokens('output', salt, output, view.request('outputCommitment')),
    checkCounts(view, disclosure),
  ];
}

/** The commitment to tokens of a prompt or an output. */
export function tokenCommitment(of: 'prompt' | 'output', salt: string, ids: readonly number[]): string {
  const bytes = Buffer.alloc(4 * ids.length);
  for (const [index, id] of ids.entries()) bytes.writeUInt32LE(id, 4 * index);
  return sha256(`patchbay:${of}:v1\0`, fromHex(salt), bytes);
}

function checkTokens(
  of: 'prompt' | 'output',
  salt: string,
  ids: readonly number[],
  commitment: string | undefined,
): Step {
  const step = `disclosure.${of}`;
  if (commitment === undefined) return unchecked(step, `${of}Commitment is not open`);
  const found = tokenCommitment(of, salt, ids);
  return found === commitment
    ? holds(step, `${ids.length} tokens and the salt give ${found}`)
    : fails(step, `${ids.length} tokens and the salt give ${found}, but the commitment is ${commitment}`);
}

/** A commitment has one number of tokens, so a receipt cannot count others. A prompt that was not charged counts zero. */
function checkCounts(view: View, { prompt, output }: Disclosure): Step {
  const [promptTokens, completionTokens] = [view.request('promptTokens'), view.request('completionTokens')];
  if (promptTokens === undefined || completionTokens === undefined) {
    return unchecked('disclosure.counts', 'promptTokens or completionTokens is not open');
  }
  const wrong: string[] = [];
  if (promptTokens !== '0' && promptTokens !== String(prompt.length))
    wrong.push(`the receipt counts ${promptTokens} tokens of the prompt, and it has ${prompt.length}`);
  if (completionTokens !== String(output.length))
    wrong.push(`the receipt counts ${completionTokens} tokens of the answer, and it has ${output.length}`);
  return judged(
    'disclosure.counts',
    wrong,
    `${promptTokens} of the prompt, ${completionTokens} of the answer`,
  );
}
