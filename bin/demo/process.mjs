// The programs that a demonstration runs: the server, as `npm start` does, and commands of the command line.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const CLI = fileURLToPath(new URL('../../dist/cli.js', import.meta.url));

/** What a program of ours may see of the environment: settings of whoever runs the demonstration are not its own. */
const environment = (more) => ({ PATH: process.env.PATH, HOME: process.env.HOME, ...more });

/**
 * Starts a server in a data folder, with a local chain, and waits until it is ready.
 * @param {string} dataDir
 * @param {Record<string, string>} env settings
 */
export async function startServer(dataDir, env) {
  const settings = { PATCHBAY_DATA_DIR: dataDir, PATCHBAY_PORT: '0', PATCHBAY_LOG_LEVEL: 'warn', ...env };
  const child = spawn(process.execPath, [CLI, 'serve', '--chain', '0', '--json'], {
    env: environment(settings),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const gone = once(child, 'exit');
  // Whoever ends the demonstration ends the server, and with it its database and its chain.
  const end = () => child.kill('SIGTERM');
  process.once('exit', end);
  let [out, err] = ['', ''];
  child.stderr.setEncoding('utf8').on('data', (text) => {
    err += text;
  });
  const ready = new Promise((resolve) => {
    child.stdout.setEncoding('utf8').on('data', (text) => {
      out += text;
      const line = out.split('\n').find((each) => each.includes('"graphqlUrl"'));
      if (line !== undefined) resolve(JSON.parse(line));
    });
  });
  const report = await Promise.race([ready, gone.then(() => null)]);
  if (report === null) throw new Error(`The server ended before it was ready.\n${out}\n${err}`);
  const keys = JSON.parse(await readFile(join(dataDir, 'keys.json'), 'utf8'));
  return {
    report,
    url: report.graphqlUrl,
    operatorKey: keys.operator.key,
    async stop() {
      process.off('exit', end);
      child.kill('SIGTERM');
      await gone;
    },
  };
}

/**
 * Runs a command of ours to its end.
 * @param {string[]} args
 * @param {Record<string, string>} env settings
 */
export async function patchbay(args, env = {}) {
  const child = spawn(process.execPath, [CLI, ...args], {
    env: environment(env),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [out, err] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text) => {
    out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    err += text;
  });
  const [code] = await once(child, 'close');
  return { code, out, err };
}

/** {@link patchbay}, which must succeed. */
export async function succeed(args, env = {}) {
  const result = await patchbay(args, env);
  if (result.code === 0) return result;
  throw new Error(`patchbay ${args.join(' ')} ended with ${result.code}.\n${result.out}\n${result.err}`);
}
