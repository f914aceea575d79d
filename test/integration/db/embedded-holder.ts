import pg from 'pg';
import { startEmbeddedPostgres } from '../../../src/db/embedded.ts';
import { toPatchbayError } from '../../../src/kernel/errors.ts';

// A process that runs an embedded database until it is told to stop, and reports one JSON object a line.

const [dataDir = ''] = process.argv.slice(2);
const report = (event: object) => process.stdout.write(`${JSON.stringify(event)}\n`);

try {
  const startedAtMs = performance.now();
  const server = await startEmbeddedPostgres({ dataDir, durable: false });
  const { adminUrl, location, relocated, pid } = server;
  const ms = performance.now() - startedAtMs;
  let stopping = false;
  process.on('SIGINT', async () => {
    if (stopping) return;
    stopping = true;
    // Draining needs the database, which must therefore survive a Ctrl-C that reaches the whole terminal.
    const client = new pg.Client({ connectionString: adminUrl });
    await client.connect();
    await client.query('SELECT pg_sleep(0.2)');
    await client.end();
    await server.stop();
    report({ event: 'stopped' });
    clearInterval(alive);
  });
  const alive = setInterval(() => {}, 1_000);
  // Only now: whoever reads this may send the signal at once.
  report({ event: 'started', adminUrl, location, relocated, pid, ms });
} catch (error) {
  const { code, message, meta } = toPatchbayError(error).toPublic();
  report({ event: 'failed', code, message, meta: meta ?? {}, detail: String(error) });
}
