// Requests of several tenants on several adapters, alone and blended.
import { readFile } from 'node:fs/promises';

const GENERATION =
  'generation { requestId text finishReason receipt usage { promptTokens completionTokens } }';

/** A prompt that an adapter was trained for. */
async function promptOf(adapter, index) {
  const file = new URL(`../../starter/eval/${adapter}.jsonl`, import.meta.url);
  const lines = (await readFile(file, 'utf8')).trim().split('\n');
  return JSON.parse(lines[index % lines.length]).prompt;
}

/**
 * Sends `rounds` requests of each tenant to each owner's adapters, and one blend, all at once; gives the answers.
 * @param {{ owners: readonly any[], tenants: readonly any[] }} world
 * @param {number} rounds
 */
export async function serve({ owners, tenants }, rounds) {
  const adapters = owners.flatMap((owner) => owner.adapters);
  const jobs = [];
  for (const tenant of tenants) {
    for (let round = 0; round < rounds; round += 1) {
      for (const { id, name } of adapters)
        jobs.push({ tenant, prompt: await promptOf(name, round), uses: [{ adapter: id }] });
    }
    const uses = [
      { adapter: adapters[0].id, weight: 0.75 },
      { adapter: adapters.at(-1).id, weight: 0.25 },
    ];
    jobs.push({ tenant, prompt: await promptOf(adapters[0].name, rounds), uses });
  }
  return Promise.all(
    jobs.map(async ({ tenant, prompt, uses }) => {
      const input = { prompt, adapters: uses, maxTokens: 24 };
      const { generation } = await tenant.client.mutate('generate', 'InferInput', input, GENERATION);
      return { tenant: tenant.slug, ...generation };
    }),
  );
}
