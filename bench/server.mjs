// A real server in a process of its own, on a data folder of its own, for the benchmarks that go through the API.
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';

/**
 * Starts a server on a free port and waits until it is ready.
 * @param {string} dataDir an empty folder
 * @param {Record<string, string>} settings environment beyond this process's own
 * @returns the process, the GraphQL URL and what is in `keys.json`
 */
export async function startServer(dataDir, settings = {}) {
  const server = spawn(
    process.execPath,
    [fileURLToPath(new URL('../dist/cli.js', import.meta.url)), 'serve', '--json'],
    {
      env: {
        ...process.env,
        PATCHBAY_PORT: '0',
        PATCHBAY_DATA_DIR: dataDir,
        PATCHBAY_LOG_LEVEL: 'warn',
        ...settings,
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  // A failure of the script must not leave the server behind.
  process.on('exit', () => server.kill('SIGTERM'));
  let output = '';
  for await (const chunk of server.stdout) {
    output += chunk;
    const line = output.split('\n').find((candidate) => candidate.includes('"graphqlUrl"'));
    if (line === undefined) continue;
    const { graphqlUrl } = JSON.parse(line);
    const keys = JSON.parse(await readFile(join(dataDir, 'keys.json'), 'utf8'));
    return { server, graphqlUrl, keys };
  }
  throw new Error('The server ended before it was ready.');
}

/** Connects to the embedded Postgres of a running server as its owner. */
export async function connectDatabase(dataDir) {
  const location = await readFile(join(dataDir, 'postgres.location'), 'utf8').catch(() => '');
  const home = location.trim() === '' ? join(dataDir, 'postgres') : location.trim();
  const db = new pg.Client({
    host: '127.0.0.1',
    port: Number(await readFile(join(home, 'port'), 'utf8')),
    user: 'postgres',
    password: (await readFile(join(home, 'password'), 'utf8')).trim(),
    database: 'patchbay',
  });
  await db.connect();
  return db;
}
