import { type Environment, type LoadedConfig, loadConfig } from './config.ts';

/** The only place in the program that reads `process.env`. */
function processEnvironment(): Environment {
  return process.env;
}

/** Reads this process's configuration, with settings that a command line gave on top. */
export function loadProcessConfig(overrides: Environment = {}): LoadedConfig {
  return loadConfig({ ...processEnvironment(), ...overrides });
}

/** Whether this runs under continuous integration, where live progress lines only fill the log. */
export function runsInCi(): boolean {
  const value = processEnvironment().CI;
  return value !== undefined && value !== '' && value !== 'false';
}

/** The environment for a child process that must see the same configuration. */
export function childEnvironment(overrides: Environment = {}): Environment {
  return { ...processEnvironment(), ...overrides };
}
