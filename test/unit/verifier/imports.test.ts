import { execFileSync, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

/** Files of a made source tree, the module that each imports, and whether the lint rule must refuse it. */
const CASES = [
  ['src/verifier/a1.ts', '../kernel/errors.ts', true],
  ['src/verifier/a2.ts', '../app.ts', true],
  ['src/verifier/a3.ts', '../a-folder-of-tomorrow/x.ts', true],
  ['src/verifier/a4.ts', 'pg', true],
  ['src/verifier/a5.ts', '@prisma/client', true],
  ['src/verifier/a6.ts', './step.ts', false],
  ['src/verifier/a7.ts', './input/json.ts', false],
  ['src/verifier/a8.ts', 'ethers', false],
  ['src/verifier/a9.ts', 'node:fs/promises', false],
  ['src/verifier/input/b1.ts', '../../kernel/errors.ts', true],
  ['src/verifier/input/b2.ts', '../../a-folder-of-tomorrow/x.ts', true],
  ['src/verifier/input/b3.ts', 'fastify', true],
  ['src/verifier/input/b4.ts', '../step.ts', false],
  ['src/verifier/input/b5.ts', '../hashing/bytes.ts', false],
  ['src/verifier/input/b6.ts', 'zod', false],
  ['src/verifier/input/b7.ts', 'node:crypto', false],
  ['src/verifier/bundle/b8.ts', 'yauzl', false],
  ['src/verifier/bundle/b9.ts', 'yazl', true],
  ['src/kernel/c1.ts', '../verifier/step.ts', true],
  ['src/metering/c2.ts', '../verifier/hashing/merkle.ts', true],
  ['src/app/c3.ts', '../verifier/verify.ts', true],
  ['src/a-folder-of-tomorrow/c4.ts', '../verifier/verify.ts', true],
  ['src/cli/commands/ledger.ts', '../../verifier/verify.ts', true],
  ['src/cli/commands/bundle.ts', '../../verifier/verify.ts', true],
  ['src/cli/commands/audit.ts', '../../verifier/files.ts', false],
  ['src/cli/commands/verify.ts', '../../verifier/verify.ts', false],
  ['src/cli/commands/verify-replay.ts', '../../verifier/verify.ts', false],
  ['src/cli/commands/verify-replay-steps.ts', '../../replay/replay.ts', false],
  ['src/verifier/a10.ts', '../replay/replay.ts', true],
  ['src/replay/c5.ts', '../verifier/step.ts', true],
  ['src/cli/verifier-input.ts', '../verifier/files.ts', false],
] as const;

const folder = mkdtempSync(join(tmpdir(), 'patchbay-imports-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let refused: readonly string[] = [];
beforeAll(() => {
  copyFileSync('biome.json', join(folder, 'biome.json'));
  writeFileSync(join(folder, '.gitignore'), '');
  execFileSync('git', ['init', '--quiet'], { cwd: folder });
  for (const [file, module] of CASES) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), `import { a } from '${module}';\nexport const b = a;\n`);
  }
  const { stdout } = spawnSync(
    process.execPath,
    [
      resolve('node_modules/@biomejs/biome/bin/biome'),
      'lint',
      '--reporter=json',
      '--max-diagnostics=none',
      'src',
    ],
    { cwd: folder, encoding: 'utf8', maxBuffer: 2 ** 26 },
  );
  const report: { diagnostics: { category: string; location: { path: unknown } }[] } = JSON.parse(stdout);
  refused = report.diagnostics
    .filter(({ category }) => category === 'lint/style/noRestrictedImports')
    .map(({ location }) => JSON.stringify(location.path));
});

test.each(CASES)('%s importing %s: refused is %s', (file, _, wanted) => {
  expect(refused.some((path) => path.includes(file))).toBe(wanted);
});

test('the verifier as it is imports nothing but itself, node, ethers, yauzl and zod', () => {
  const root = resolve('src/verifier');
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((file) =>
    file.endsWith('.ts'),
  );
  expect(files.length).toBeGreaterThan(10);
  for (const file of files) {
    const text = readFileSync(join(root, file), 'utf8');
    const modules = [...text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map(
      ([, module]) => module ?? '',
    );
    for (const module of modules) {
      const inside = module.startsWith('.') && resolve(root, dirname(file), module).startsWith(`${root}/`);
      expect([file, module, inside || /^(?:node:.+|ethers|yauzl|zod)$/.test(module)]).toEqual([
        file,
        module,
        true,
      ]);
    }
  }
});
