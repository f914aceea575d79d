import { cp, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join, sep } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { updateKeyFile } from '../../../src/cli/key-file.ts';
import { cli } from './fake-io.ts';

let dir = '';
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'patchbay cli '));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

describe('config', () => {
  test('prints values and sources for people and for programs', async () => {
    const environment = { PATCHBAY_PORT: '5001', PATCHBAY_KEY: 'pb_supersecretkey' };
    const text = await cli(['config'], { environment });
    expect(text.out).toMatch(/^PATCHBAY_PORT +5001 +environment$/m);
    expect(text.out).not.toContain('supersecret');
    const { out } = await cli(['config', '--json'], { environment });
    expect(JSON.parse(out)).toMatchObject({ warnings: [] });
    expect(out).not.toContain('supersecret');
  });

  test('an invalid environment exits with its own code and lists every problem', async () => {
    const environment = { PATCHBAY_PORT: 'x', PATCHBAY_MAX_BATCH: '0' };
    const text = await cli(['config'], { environment });
    expect(text.code).toBe(6);
    expect(text.err).toContain('PATCHBAY_PORT');
    expect(text.err).toContain('PATCHBAY_MAX_BATCH');
    const json = await cli(['config', '--json'], { environment });
    expect(JSON.parse(json.err)).toMatchObject({ error: { code: 'CONFIG_INVALID' } });
  });
});

describe('adapter push', () => {
  const FOLDER = 'test/fixtures/golden/llama-tied/adapters/all_r8';
  const client = ['--url', 'http://127.0.0.1:1', '--key', 'pb_12345678'];

  test('a server that is not there is unreachable', async () => {
    expect((await cli(['adapter', 'push', FOLDER, ...client])).code).toBe(4);
  });

  test('a folder without adapter files is refused by name', async () => {
    const { code, err } = await cli(['adapter', 'push', dir, ...client]);
    expect(code).toBe(3);
    expect(err).toContain('adapter_config.json');
  });
});

describe('adapter validate', () => {
  test('accepts what the backbone can serve, and names what it cannot', async () => {
    const golden = 'test/fixtures/golden';
    const good = await cli([
      'adapter',
      'validate',
      `${golden}/llama-tied/adapters/all_r8`,
      '--backbone',
      `${golden}/llama-tied`,
      '--json',
    ]);
    expect(good).toMatchObject({ code: 0, err: '' });
    expect(JSON.parse(good.out)).toMatchObject({ ok: true });
    const bad = await cli([
      'adapter',
      'validate',
      `${golden}/stories260K/adapters/adapter-00`,
      '--backbone',
      `${golden}/llama-tied`,
    ]);
    expect(bad.code).toBe(3);
    expect(bad.err).toMatch(/^ADAPTER_/);
  });
});

describe('backbone', () => {
  test('an imported checkpoint is listed; a folder that is none is refused', async () => {
    const environment = { PATCHBAY_DATA_DIR: dir };
    expect((await cli(['backbone', 'list'], { environment })).out).toContain('No backbones');
    const imported = await cli(['backbone', 'import', 'test/fixtures/golden/stories260K', '--json'], {
      environment,
    });
    expect(imported.code).toBe(0);
    const { digest } = JSON.parse(imported.out).manifest;
    expect(JSON.parse((await cli(['backbone', 'list', '--json'], { environment })).out)).toMatchObject({
      backbones: [{ digest }],
    });
    const notes = (await readdir(join(dir, 'backbones'))).filter((name) => name.startsWith('source-'));
    expect(notes).toHaveLength(1);
    const refused = await cli(['backbone', 'import', dir], { environment });
    expect(refused.code).toBe(3);
    expect(refused.err).toContain('FILE_MISSING');
  });
});

describe('backbone import', () => {
  test.each([
    ['32', ''],
    ['8', ' PATCHBAY_WEIGHT_BITS=8'],
  ])('with %s bits prints how to serve what was imported', async (bits, setting) => {
    const folder = 'test/fixtures/golden/stories260K';
    const { code, out } = await cli(['backbone', 'import', folder, '--bits', bits], {
      environment: { PATCHBAY_DATA_DIR: dir },
    });
    expect(code).toBe(0);
    expect(out).toContain(`PATCHBAY_BACKBONE=${folder}${setting} npm start\n`);
  });
});

test('the folder of a backbone is quoted for the shell where it needs to be', async () => {
  const folder = join(dir, "Max's models");
  await cp('test/fixtures/golden/stories260K', folder, { recursive: true });
  const { out } = await cli(['backbone', 'import', folder], { environment: { PATCHBAY_DATA_DIR: dir } });
  expect(out).toContain(`PATCHBAY_BACKBONE='${dir}/Max'\\''s models' npm start\n`);
});

test('run-batch does not write over its input, by whatever path that is named', async () => {
  const input = join(dir, 'in.jsonl');
  await writeFile(input, '{}\n');
  await symlink(input, join(dir, 'link.jsonl'));
  await symlink(dir, join(dir, 'here'));
  for (const output of [
    input,
    `${dir}${sep}.${sep}in.jsonl`,
    join(dir, 'link.jsonl'),
    join(dir, 'here', 'in.jsonl'),
  ]) {
    const result = await cli(['run-batch', '--backbone', dir, '--input', input, '--output', output]);
    expect(result.code).toBe(2);
    expect(result.err).toContain('name the same file');
  }
  expect(await readFile(input, 'utf8')).toBe('{}\n');
  const other = join(dir, 'here', 'out.jsonl');
  const result = await cli(['run-batch', '--backbone', dir, '--input', input, '--output', other], {
    environment: { PATCHBAY_DATA_DIR: dir },
  });
  expect(result.err).toContain('config.json');
});

describe('key', () => {
  test('prints the key alone on its line, and says what to do when there is none', async () => {
    const environment = { PATCHBAY_DATA_DIR: dir };
    const missing = await cli(['key'], { environment });
    expect(missing).toMatchObject({ code: 3, out: '' });
    expect(missing.err).toContain('npm start');
    await updateKeyFile(dir, { demo: { key: 'pb_demo_key', tenant: 't' } });
    expect(await cli(['key'], { environment })).toMatchObject({ code: 0, out: 'pb_demo_key\n' });
  });
});

describe('adapter list', () => {
  let server: Server;
  let respond: () => unknown = () => ({});
  let seenKey: string | undefined;
  let url = '';
  beforeEach(async () => {
    server = createServer((request, response) => {
      seenKey = request.headers.authorization;
      response.setHeader('content-type', 'application/json').end(JSON.stringify(respond()));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    url = typeof address === 'object' && address !== null ? `http://127.0.0.1:${address.port}` : '';
  });
  afterEach(() => {
    server.close();
    server.closeAllConnections();
  });

  test('uses the key that the data folder keeps, and pages to the end', async () => {
    await updateKeyFile(dir, { demo: { key: 'pb_demo_key', tenant: 't' } });
    let page = 0;
    respond = () => {
      page += 1;
      const node = {
        id: `${page}`,
        qualifiedName: `demo/a${page}`,
        visibility: 'PUBLIC',
        latestVersion: null,
        versions: { edges: [] },
      };
      const pageInfo = { hasNextPage: page < 3, endCursor: `c${page}` };
      return { data: { adapters: { edges: [{ node }], pageInfo } } };
    };
    const result = await cli(['adapter', 'list', '--url', url, '--json'], {
      environment: { PATCHBAY_DATA_DIR: dir },
    });
    expect(result.code).toBe(0);
    expect(JSON.parse(result.out).adapters).toHaveLength(3);
    expect(seenKey).toBe('Bearer pb_demo_key');
  });

  test.each([
    ['UNAUTHENTICATED', 5],
    ['FORBIDDEN', 5],
    ['ENGINE_FULL', 7],
    ['ADAPTER_NOT_FOUND', 3],
    ['INTERNAL', 1],
    ['A_CODE_OF_TOMORROW', 3],
  ])('the server’s %s exits with %i', async (code, exit) => {
    respond = () => ({ errors: [{ message: 'No.', extensions: { code, fix: 'Do better.' } }] });
    const result = await cli(['adapter', 'list', '--url', url, '--key', 'pb_12345678']);
    expect(result.code).toBe(exit);
    expect(result.err).toContain(code);
    expect(result.err).toContain('Fix: Do better.');
  });

  test('a server that is not there, or is something else, is unreachable', async () => {
    respond = () => ({ hello: 'world', data: 3 });
    expect((await cli(['adapter', 'list', '--url', url, '--key', 'pb_12345678'])).code).toBe(4);
    expect((await cli(['adapter', 'list', '--url', 'http://127.0.0.1:1', '--key', 'pb_12345678'])).code).toBe(
      4,
    );
  });

  test('the stored key is never sent to a server elsewhere', async () => {
    await updateKeyFile(dir, { demo: { key: 'pb_demo_key', tenant: 't' } });
    const result = await cli(['adapter', 'list', '--url', 'http://192.0.2.1'], {
      environment: { PATCHBAY_DATA_DIR: dir },
    });
    expect(result.code).toBe(5);
    expect(result.err).toContain('No API key was given');
  });
});
