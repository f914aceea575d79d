#!/usr/bin/env node
// A schema engine for the Prisma command line that needs no download: Prisma's own engine compiled to WASM, talking to
// Postgres through @prisma/adapter-pg. The command line starts it as a child (prisma.config.ts names it) and speaks
// JSON-RPC over stdio, one message a line. It serves developers only: at run time src/db/migrate.ts applies migrations.
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { PrismaPg } from '@prisma/adapter-pg';
import { bindMigrationAwareSqlAdapterFactory, ColumnTypeEnum } from '@prisma/driver-adapter-utils';
import * as bindings from '@prisma/schema-engine-wasm/schema_engine_bg';
import pg from 'pg';

const argv = process.argv.slice(2);
const values = (name) => argv.flatMap((word, i) => (word === name ? [argv[i + 1]] : []));
const datasource = JSON.parse(values('--datasource')[0] ?? '{}');
const url = datasource.url ?? process.env.DATABASE_URL;

/** The same server, another database. */
const withDatabase = (name) => Object.assign(new URL(url), { pathname: `/${encodeURIComponent(name)}` }).href;
const databaseName = () => decodeURIComponent(new URL(url).pathname.slice(1));

async function runSql(connectionString, sql) {
  const client = new pg.Client({ connectionString });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}

// ---- `schema-engine cli <command>`: reachability, creation and removal of the database

/** Prisma's code for a connection error of Postgres. */
const CONNECTION_CODES = { '3D000': 'P1003', '28P01': 'P1000', 28000: 'P1000', '42P04': 'P1009' };

async function cli(command) {
  const name = pg.escapeIdentifier(databaseName());
  try {
    if (command === 'can-connect-to-database') await runSql(url, 'SELECT 1');
    else if (command === 'create-database') await runSql(withDatabase('postgres'), `CREATE DATABASE ${name}`);
    else if (command === 'drop-database')
      await runSql(withDatabase('postgres'), `DROP DATABASE ${name} WITH (FORCE)`);
    else throw new Error(`Unknown command ${command}`);
  } catch (error) {
    const fields = {
      error_code: CONNECTION_CODES[error.code] ?? 'P1001',
      message: error.message,
      is_panic: false,
    };
    process.stderr.write(
      `\n${JSON.stringify({ level: 'ERROR', target: 'schema_engine::logger', fields })}\n`,
    );
    process.exit(1);
  }
}

// ---- The database seen by the engine

const CHAR_OID = 18;
const TEXT_OID = 25;

/** Makes an adapter bear what the engine's catalogue queries and migration scripts need. */
function adapt(adapter) {
  const performIO = adapter.performIO.bind(adapter);
  const queryRaw = adapter.queryRaw.bind(adapter);
  const charColumns = new WeakMap();
  // Postgres's internal one-byte "char" is unknown to adapter-pg: it is read as text and declared a character.
  adapter.performIO = async (query) => {
    const result = await performIO(query);
    const fields = (result.fields ?? []).filter((field) => field.dataTypeID === CHAR_OID);
    charColumns.set(
      query,
      fields.map((field) => result.fields.indexOf(field)),
    );
    for (const field of fields) field.dataTypeID = TEXT_OID;
    return result;
  };
  adapter.queryRaw = async (query) => {
    const result = await queryRaw(query);
    for (const i of charColumns.get(query) ?? []) result.columnTypes[i] = ColumnTypeEnum.Character;
    return result;
  };
  // The adapter's own version splits at semicolons, which breaks function bodies.
  adapter.executeScript = async (sql) => {
    try {
      await adapter.client.query(sql);
    } catch (error) {
      adapter.onError(error);
    }
  };
  return adapter;
}

class SchemaAdapterFactory extends PrismaPg {
  async connect() {
    return adapt(await super.connect());
  }

  async connectToShadowDb() {
    if (datasource.shadowDatabaseUrl)
      return adapt(await new PrismaPg(datasource.shadowDatabaseUrl).connect());
    const name = `prisma_migrate_shadow_db_${randomUUID()}`;
    await runSql(url, `CREATE DATABASE "${name}"`);
    const adapter = adapt(await new PrismaPg(withDatabase(name)).connect());
    const dispose = adapter.dispose.bind(adapter);
    // A database with open connections cannot be dropped, so the pool closes first.
    adapter.dispose = async () => {
      await dispose();
      await runSql(url, `DROP DATABASE IF EXISTS "${name}" WITH (FORCE)`);
    };
    return adapter;
  }
}

// ---- JSON-RPC

/** Where the WASM module leaves the text of a panic. */
const panics = {
  message: '',
  set_message(text) {
    this.message = text;
  },
};

async function startEngine() {
  globalThis.PRISMA_WASM_PANIC_REGISTRY = panics;
  const script = createRequire(import.meta.url).resolve('@prisma/schema-engine-wasm/schema_engine_bg');
  const module = new WebAssembly.Module(readFileSync(script.replace(/\.js$/, '.wasm')));
  const instance = new WebAssembly.Instance(module, { './schema_engine_bg.js': bindings });
  bindings.__wbg_set_wasm(instance.exports);
  instance.exports.__wbindgen_start();
  const datamodels = values('--datamodels').map((path) => [path, readFileSync(path, 'utf8')]);
  const factory = bindMigrationAwareSqlAdapterFactory(new SchemaAdapterFactory(url ?? ''));
  const options = datamodels.length === 0 ? {} : { datamodels };
  return bindings.SchemaEngine.new(options, () => {}, factory);
}

function serve() {
  const send = (message) => process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
  let engine;
  let notices = 0;

  async function answer({ id, method, params }) {
    // The command line has created the database through `cli` by now, or is about to fail with a better message.
    if (method === 'createDatabase') return send({ id, result: { databaseName: databaseName() } });
    engine ??= startEngine();
    const api = await engine;
    const result = await api[method === 'getDatabaseVersion' ? 'version' : method](params ?? {});
    if (method === 'diff' && typeof result?.stdout === 'string') {
      notices += 1;
      send({ id: 1_000_000 + notices, method: 'print', params: { content: result.stdout } });
    }
    return send({ id, result: result ?? null });
  }

  function refuse(id, error) {
    const message = panics.message || error?.message || String(error);
    const data = { is_panic: panics.message !== '', message, meta: error?.meta, error_code: error?.code };
    send({
      id,
      error: { code: 4466, message: 'An error happened. Check the data field for details.', data },
    });
  }

  let queue = Promise.resolve();
  createInterface({ input: process.stdin })
    .on('line', (line) => {
      const message = JSON.parse(line);
      if (!message.method) return;
      queue = queue.then(() => answer(message)).catch((error) => refuse(message.id, error));
    })
    .on('close', () => queue.then(() => process.exit(0)));
}

if (argv.includes('cli')) await cli(argv[argv.indexOf('cli') + 1]);
else serve();
