import { serverAudits } from 'graphql-http';
import { expect, test } from 'vitest';
import { startServer } from './server.ts';

test('the server passes every MUST and SHOULD of the GraphQL-over-HTTP audit', async () => {
  const { graphqlUrl } = await startServer();
  const failed: string[] = [];
  for (const audit of serverAudits({ url: graphqlUrl })) {
    const result = await audit.fn();
    if (result.status !== 'ok') failed.push(`${result.status}: ${result.name}: ${result.reason}`);
  }
  expect(failed).toEqual([]);
});
