import { EventEmitter } from 'node:events';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import type { App, AppDeps, DrainReason, StartReport } from '../../../src/cli/app-port.ts';
import { runServer } from '../../../src/cli/server-process.ts';
import { loadConfig } from '../../../src/config/config.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { silentProgress } from '../../../src/observability/progress.ts';

const REPORT: StartReport = {
  graphqlUrl: 'http://127.0.0.1:4000/graphql',
  backbone: { name: 'starter', digest: 'ab'.repeat(32), parameters: 1_000_000 },
  memory: { totalBytes: 0, parts: [] },
  database: { kind: 'embedded', location: '/data/postgres' },
  operatorKey: { kind: 'new', key: 'pb_op' },
  demoKey: { kind: 'new', key: 'pb_demo' },
  example: null,
};

interface Deferred<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: unknown) => void;
}

/** `Promise.withResolvers`, which Node 20 lacks. */
function deferred<T>(): Deferred<T> {
  let resolve: (value: T) => void = () => {};
  let reject: (error: unknown) => void = () => {};
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}

/** A server whose start and drain the test ends when it likes. */
class FakeApp implements App {
  readonly started = deferred<StartReport>();
  readonly drained = deferred<void>();
  readonly drains: DrainReason[] = [];
  deps: AppDeps | null = null;

  start(): Promise<StartReport> {
    return this.started.promise;
  }

  drain(reason: DrainReason): Promise<void> {
    this.drains.push(reason);
    return this.drained.promise;
  }
}

function run(app: FakeApp) {
  const events = new EventEmitter();
  const seen = { ready: 0, startErrors: 0, exits: [] as number[] };
  const ready = deferred<void>();
  let nowMs = 0;
  const code = runServer({
    loaded: loadConfig({}),
    createApp: (_config, deps) => {
      app.deps = deps;
      return app;
    },
    events,
    logger: pino({ level: 'silent' }),
    progress: silentProgress,
    clock: { nowMs: () => nowMs, monotonicMs: () => nowMs },
    onReady: () => {
      seen.ready += 1;
      ready.resolve();
    },
    onStartError: () => {
      seen.startErrors += 1;
    },
    exitNow: (exit) => seen.exits.push(exit),
  });
  const pass = (ms: number): void => {
    nowMs += ms;
  };
  return { code, events, seen, ready: ready.promise, pass };
}

test.each(['SIGINT', 'SIGTERM'] as const)('%s drains once and ends with 0', async (signal) => {
  const app = new FakeApp();
  const server = run(app);
  app.started.resolve(REPORT);
  await server.ready;
  server.events.emit(signal);
  app.drained.resolve();
  expect(await server.code).toBe(0);
  expect(app.drains).toEqual([signal]);
  expect(server.seen).toEqual({ ready: 1, startErrors: 0, exits: [] });
});

test('a second signal ends the process at once, but the echo of the same key press does not', async () => {
  const app = new FakeApp();
  const server = run(app);
  app.started.resolve(REPORT);
  await server.ready;
  server.events.emit('SIGINT');
  server.pass(20);
  server.events.emit('SIGINT');
  expect(server.seen.exits).toEqual([]);
  server.pass(2_000);
  server.events.emit('SIGINT');
  expect(server.seen.exits).toEqual([130]);
  server.events.emit('SIGTERM');
  expect(server.seen.exits).toEqual([130, 143]);
  app.drained.resolve();
  await server.code;
  expect(app.drains).toHaveLength(1);
});

test('a signal during the start drains without waiting for ready, whatever becomes of the start', async () => {
  const app = new FakeApp();
  const server = run(app);
  await Promise.resolve();
  server.events.emit('SIGTERM');
  app.drained.resolve();
  expect(await server.code).toBe(0);
  app.started.reject(new Error('The start was cut short.'));
  expect(server.seen.ready).toBe(0);
  expect(app.drains).toEqual(['SIGTERM']);
});

test('a failed start is told once and ends with the code of its error', async () => {
  const app = new FakeApp();
  const server = run(app);
  app.started.reject(new PatchbayError('PORT_IN_USE', 'Port 4000 is taken.'));
  expect(await server.code).toBe(8);
  expect(server.seen).toEqual({ ready: 0, startErrors: 1, exits: [] });
  expect(app.drains).toEqual([]);
});

test.each([
  [
    'an unhandled rejection',
    (_: FakeApp, events: EventEmitter) => events.emit('unhandledRejection', new Error('x')),
  ],
  [
    'an uncaught exception',
    (_: FakeApp, events: EventEmitter) => events.emit('uncaughtException', new Error('x')),
  ],
  ['a fatal report of the app', (app: FakeApp) => app.deps?.onFatal(new Error('Postgres is gone.'))],
])('%s drains and ends with 1', async (_, fail) => {
  const app = new FakeApp();
  const server = run(app);
  app.started.resolve(REPORT);
  await server.ready;
  fail(app, server.events);
  app.drained.resolve();
  expect(await server.code).toBe(1);
  expect(app.drains).toEqual(['failure']);
});

test('no listener stays behind', async () => {
  const app = new FakeApp();
  const server = run(app);
  app.started.resolve(REPORT);
  await server.ready;
  server.events.emit('SIGINT');
  app.drained.resolve();
  await server.code;
  expect(server.events.eventNames()).toEqual([]);
});
