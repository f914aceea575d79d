export {
  type Config,
  ConfigError,
  type ConfigProblem,
  type EffectiveSetting,
  type Environment,
  type LoadedConfig,
  loadConfig,
} from './config.ts';
export { childEnvironment, loadProcessConfig, runsInCi } from './environment.ts';
export { resolveSecret } from './secret.ts';
export { parseDurationMs } from './setting.ts';
