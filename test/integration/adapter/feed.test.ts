import { afterAll, beforeAll, expect, test } from 'vitest';
import { waitFor } from '../../kit/wait.ts';
import { openRegistry, type Registry, sampleFiles } from './kit.ts';

let registry: Registry;
beforeAll(async () => {
  registry = await openRegistry();
});
afterAll(() => registry.close());

test('a feed whose connection broke wakes everybody, and hears again', async () => {
  const alice = await registry.tenant('alice');
  const subscription = registry.feed.subscribe(alice);
  let heard = 0;
  registry.feed.onAny(() => {
    heard += 1;
  });
  await registry.db.admin(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE application_name = 'patchbay-listen' AND datname = current_database()`,
  );
  // Once it is connected again: what was sent meanwhile is unknown.
  await waitFor(() => heard === 1);
  await subscription.wait(0);
  await registry.upload(alice, 'heard', sampleFiles());
  await waitFor(() => heard > 1);
  await subscription.wait(60_000);
  expect(subscription.closed).toBe(false);
  subscription.close();
});
