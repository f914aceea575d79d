import type { Environment } from '../../config/index.ts';
import { systemClock } from '../../kernel/clock.ts';
import { createLogger } from '../../observability/logger.ts';
import { banner } from '../banner.ts';
import { type CliIo, progressFor, reportError } from '../io.ts';
import { keyFilePath } from '../key-file.ts';
import { type LocalChain, localSettings, publicChain, startLocalChain } from '../local-chain.ts';
import { loadCreateApp } from '../parts.ts';
import { runServer } from '../server-process.ts';

/** Flags of `patchbay serve`. */
interface ServeFlags {
  readonly host?: string;
  readonly port?: string;
  readonly dataDir?: string;
  readonly backbone?: string;
  /** Port of a local chain that is started as well. */
  readonly chain?: number;
  readonly json: boolean;
}

/** Starts the server and stays until it has drained: config → wire → run → drain. */
export async function serve(io: CliIo, flags: ServeFlags): Promise<number> {
  const given = overrides(flags);
  if (flags.chain === undefined) return serveWith(io, flags, given, null);
  const progress = progressFor(io, flags.json);
  const local = await startLocalChain(io.loadConfig(given).config, flags.chain, progress);
  try {
    return await serveWith(io, flags, { ...given, ...localSettings(local) }, local);
  } finally {
    await local.stop();
  }
}

async function serveWith(
  io: CliIo,
  flags: ServeFlags,
  environment: Environment,
  chain: LocalChain | null,
): Promise<number> {
  const loaded = io.loadConfig(environment);
  const createApp = await loadCreateApp();
  return runServer({
    loaded,
    createApp,
    events: process,
    logger: createLogger(loaded.config.log),
    progress: progressFor(io, flags.json),
    clock: systemClock,
    onReady: (report, readyMs) => {
      const keyFile = keyFilePath(loaded.config.data.dir);
      io.out(
        flags.json
          ? `${JSON.stringify({ ...report, readyMs, ...(chain === null ? {} : { chain: publicChain(chain) }) })}\n`
          : banner(report, { readyMs, keyFile, chain }),
      );
    },
    onStartError: (error) => reportError(io, error, flags.json),
    exitNow: (code) => process.exit(code),
  });
}

/** Flags win over the environment by standing in for its variables, so that the same rules check both. */
function overrides(flags: ServeFlags): Environment {
  return {
    ...(flags.host === undefined ? {} : { PATCHBAY_HOST: flags.host }),
    ...(flags.port === undefined ? {} : { PATCHBAY_PORT: flags.port }),
    ...(flags.dataDir === undefined ? {} : { PATCHBAY_DATA_DIR: flags.dataDir }),
    ...(flags.backbone === undefined ? {} : { PATCHBAY_BACKBONE: flags.backbone }),
  };
}
