import { describe, expect, test } from 'vitest';
import { ConfigError, loadConfig, mask } from '../../../src/config/config.ts';

function problemsOf(environment: Record<string, string>): ConfigError {
  try {
    loadConfig(environment);
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
  throw new Error('The environment was accepted.');
}

describe('loadConfig', () => {
  test('an empty environment is valid and gives the documented defaults', () => {
    const { config, effective, warnings } = loadConfig({});
    expect(config.server.port).toBe(4000);
    expect(config.server.host).toBe('127.0.0.1');
    expect(config.engine.maxBatch).toBe(16);
    expect(config.engine.memoryBytes).toBeNull();
    expect(config.data.databaseUrl).toBeNull();
    expect(config.data.dir).toMatch(/\/\.patchbay$/);
    expect(effective.every((setting) => setting.source === 'default')).toBe(true);
    expect(warnings).toEqual([]);
  });

  test('every problem is reported at once, each with what was expected', () => {
    const error = problemsOf({
      PATCHBAY_PORT: '70000',
      PATCHBAY_MAX_BATCH: '1.5',
      PATCHBAY_KV_BYTES: 'plenty',
      PATCHBAY_LOG_LEVEL: 'loud',
      PATCHBAY_INTROSPECTION: 'perhaps',
      PATCHBAY_EXECUTION_PROVIDERS: 'cpu,tpu',
      PATCHBAY_WEIGHT_BITS: '16',
      PATCHBAY_DRAIN_MS: '2 days',
      DATABASE_URL: 'mysql://localhost/x',
    });
    expect(error.code).toBe('CONFIG_INVALID');
    expect(error.problems.map((problem) => problem.variable).sort()).toEqual([
      'DATABASE_URL',
      'PATCHBAY_DRAIN_MS',
      'PATCHBAY_EXECUTION_PROVIDERS',
      'PATCHBAY_INTROSPECTION',
      'PATCHBAY_KV_BYTES',
      'PATCHBAY_LOG_LEVEL',
      'PATCHBAY_MAX_BATCH',
      'PATCHBAY_PORT',
      'PATCHBAY_WEIGHT_BITS',
    ]);
    expect(error.message).toContain('PATCHBAY_PORT is "70000"; expected a whole number from 0 to 65535');
  });

  test('an invalid secret is never repeated in the report', () => {
    const error = problemsOf({ PATCHBAY_SECRET: 'hunter2', PATCHBAY_KEY: 'short' });
    expect(error.message).not.toContain('hunter2');
    expect(error.message).not.toContain('short');
    const url = problemsOf({ DATABASE_URL: 'mysql://u:hunter2@h/db?password=hunter2' });
    expect(url.message).not.toContain('hunter2');
  });

  test('the effective values show no secret, and say where each value comes from', () => {
    const { effective } = loadConfig({
      DATABASE_URL: 'postgres://app:hunter2@db.example/patchbay',
      PATCHBAY_SECRET: 'x'.repeat(40),
      PATCHBAY_MAX_BATCH: '8',
    });
    const shown = JSON.stringify(effective);
    expect(shown).not.toContain('hunter2');
    expect(shown).not.toContain('xxxx');
    expect(effective.find((each) => each.variable === 'DATABASE_URL')).toMatchObject({
      value: 'postgres://app:********@db.example/patchbay',
      source: 'environment',
    });
    expect(effective.find((each) => each.variable === 'PATCHBAY_MAX_BATCH')?.source).toBe('environment');
    expect(effective.find((each) => each.variable === 'PATCHBAY_HOST')?.source).toBe('default');
  });

  test('a shared database demands a shared secret', () => {
    const error = problemsOf({ DATABASE_URL: 'postgres://h/db' });
    expect(error.problems.map((problem) => problem.variable)).toEqual(['PATCHBAY_SECRET']);
  });

  test('PORT counts only when PATCHBAY_PORT is not set, and an empty variable counts as not set', () => {
    expect(loadConfig({ PORT: '5000' }).config.server.port).toBe(5000);
    expect(loadConfig({ PORT: '5000', PATCHBAY_PORT: '6000' }).config.server.port).toBe(6000);
    expect(loadConfig({ PORT: '5000', PATCHBAY_PORT: ' ' }).config.server.port).toBe(5000);
    expect(problemsOf({ PORT: 'x' }).problems[0]?.variable).toBe('PORT');
  });

  test('a misspelt variable is pointed out with the likely name', () => {
    expect(loadConfig({ PATCHBAY_MAX_BATCHES: '3' }).warnings).toEqual([
      'PATCHBAY_MAX_BATCHES is not a variable of Patchbay; did you mean PATCHBAY_MAX_BATCH?',
    ]);
    expect(loadConfig({ PATCHBAY_TEST_SEED: '3' }).warnings).toEqual([]);
  });

  test('the configuration cannot be changed at any depth', () => {
    const { config } = loadConfig({});
    expect(Object.isFrozen(config)).toBe(true);
    expect(Object.values(config).every((section) => Object.isFrozen(section))).toBe(true);
    expect(Object.isFrozen(config.engine.executionProviders)).toBe(true);
  });
});

test('a masked value that is no URL shows nothing at all', () => {
  expect(mask('not a url with hunter2', 'url')).toBe('********');
  expect(mask('plain', 'open')).toBe('plain');
});
