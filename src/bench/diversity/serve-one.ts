import { openStoreEngine, submitGreedy, syntheticBackbone } from '../store-engine.ts';
import { privateBytes } from './memory.ts';
import type { ProcessCommand, ProcessJob, ProcessReply } from './process-protocol.ts';

// One process of the alternative with a process for each adapter. It is forked, and ends with its parent's channel.
const job: ProcessJob = JSON.parse(process.argv[2] ?? '{}');
const { manifest } = await syntheticBackbone(job.backbone);
const { engine } = await openStoreEngine({
  backbone: { dir: job.dir, manifest },
  maxContext: job.maxContext,
  rows: job.rows,
  threads: job.threads,
  cacheBytes: 1,
  storeRoot: null,
});
const reply = (message: ProcessReply): void => {
  process.send?.(message);
};

process.on('message', async (command: ProcessCommand) => {
  if (command.kind === 'memory') {
    reply({ kind: 'memory', rssBytes: process.memoryUsage.rss(), privateBytes: await privateBytes() });
    return;
  }
  const { id, promptIds, newTokens, priority, sentEpochMs } = command;
  try {
    const sentMs = sentEpochMs - performance.timeOrigin;
    const served = await submitGreedy(engine, { digest: null, promptIds, newTokens, priority, sentMs });
    reply({ kind: 'served', id, served });
  } catch (error) {
    reply({ kind: 'failed', id, message: String(error) });
  }
});
process.on('disconnect', () => process.exit(0));
reply({ kind: 'ready' });
