import { expect, test } from 'vitest';
import { loadConfig } from '../../../src/config/config.ts';
import { configurationReference } from '../../../src/config/reference.ts';

test('the reference page documents every variable once, with its default', () => {
  const page = configurationReference();
  for (const { variable, value } of loadConfig({}).effective) {
    const rows = page
      .split('\n')
      .filter((line) => line.startsWith(`| \`${variable}`) && / \(or |` \|/.test(line));
    expect(rows, variable).not.toHaveLength(0);
    if (value !== null) expect(rows.join('\n')).toContain(`\`${value}\``);
  }
});

test('every default passes its own rule', () => {
  const environment: Record<string, string> = {};
  for (const { variable, value } of loadConfig({}).effective) {
    if (value !== null) environment[variable] = value;
  }
  expect(loadConfig(environment).config).toEqual(loadConfig({}).config);
});
