// What the benchmarks share that are scripts of their own: flags with defaults, runs of the command line, medians.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

export const PATCHBAY = fileURLToPath(new URL('../dist/cli.js', import.meta.url));

/**
 * The script's flags over their defaults; `--help` prints them and ends the script.
 * @param {Record<string, string>} defaults
 * @returns {Record<string, string>}
 */
export function readFlags(defaults) {
  const options = Object.fromEntries(Object.keys(defaults).map((name) => [name, { type: 'string' }]));
  const { values } = parseArgs({ options: { ...options, help: { type: 'boolean' } } });
  if (values.help) {
    const list = Object.entries(defaults).map(([name, value]) => `--${name} ${value}`);
    console.log(`Flags with their defaults: ${list.join(' ')}`);
    process.exit(0);
  }
  return { ...defaults, ...values };
}

/** Runs a program of Node and returns its standard output. */
export function runNode(args, env = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout.on('data', (chunk) => {
      output += chunk;
    });
    child.once('error', reject);
    child.once('close', (code) => {
      if (code === 0) resolve(output);
      else reject(new Error(`${args.slice(0, 3).join(' ')} ended with code ${code}`));
    });
  });
}

/**
 * One run of `patchbay bench engine` with the flags that a user would type, in a process of its own.
 * @param {Record<string, string | number>} flags
 * @param {string} dataDir where imported backbones are kept
 */
export async function benchEngine(flags, dataDir) {
  const given = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const output = await runNode([PATCHBAY, 'bench', 'engine', ...given, '--json'], {
    PATCHBAY_DATA_DIR: dataDir,
  });
  return JSON.parse(output.trim().split('\n').at(-1));
}

export function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** A median with its range, such as `0.93 (0.91 to 0.96)`. */
export function spread(values, digits = 2) {
  const [least, most] = [Math.min(...values), Math.max(...values)].map((value) => value.toFixed(digits));
  return `${median(values).toFixed(digits)} (${least} to ${most})`;
}
