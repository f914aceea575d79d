import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { build } from 'vite';

/** A TypeScript module as one plain module, for tests that start it many times: run-ts.mjs takes seconds each time. */
export interface Bundle {
  /** To be run by node. */
  readonly path: string;
  remove(): Promise<void>;
}

/** Bundles a module with everything of ours that it imports; packages stay where they are. */
export async function bundle(module: string): Promise<Bundle> {
  // Below the project, so that packages are found from there.
  const parent = resolve('.prepare');
  await mkdir(parent, { recursive: true });
  const outDir = await mkdtemp(join(parent, 'bundle-'));
  await build({
    configFile: false,
    logLevel: 'silent',
    build: {
      ssr: resolve(module),
      outDir,
      emptyOutDir: true,
      target: 'node20',
      minify: false,
      rollupOptions: { output: { entryFileNames: 'module.mjs' } },
    },
  });
  return {
    path: join(outDir, 'module.mjs'),
    remove: () => rm(outDir, { recursive: true, force: true }),
  };
}
