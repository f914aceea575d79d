import { fileURLToPath } from 'node:url';
import { defineConfig } from 'prisma/config';

// The Prisma command line downloads a native schema engine unless told where one is. Ours wraps the engine's WASM
// build, so every command works without a network.
process.env['PRISMA_SCHEMA_ENGINE_BINARY'] ??= fileURLToPath(
  new URL('./prisma/schema-engine.mjs', import.meta.url),
);

const url = process.env['DATABASE_URL'];

export default defineConfig({
  schema: 'prisma/schema',
  migrations: { path: 'prisma/migrations' },
  ...(url === undefined ? {} : { datasource: { url } }),
});
