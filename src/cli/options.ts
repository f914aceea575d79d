import { type Command, InvalidArgumentError, Option } from 'commander';
import { parseDurationMs } from '../config/index.ts';

/** A command that talks to a server. */
export function connected(command: Command): Command {
  return command
    .option('--url <url>', 'GraphQL URL (PATCHBAY_URL); without it, the server of the data folder')
    .option('--key <key>', "API key (PATCHBAY_KEY); without it, the demo tenant's")
    .addOption(json());
}

/** `--json`. */
export function json(description = 'print JSON for programs'): Option {
  return new Option('--json', description).default(false);
}

/** `--bits`. */
export function bits(): Option {
  return new Option('--bits <number>', "bits of the backbone's matrices: 32, 8 or 4")
    .argParser((text) => {
      const found = ([32, 8, 4] as const).find((candidate) => String(candidate) === text);
      if (found === undefined) throw new InvalidArgumentError('It must be 32, 8 or 4.');
      return found;
    })
    .default(32);
}

/** Every value of an option that is repeated. */
export function collect(value: string, before: readonly string[]): string[] {
  return [...before, value];
}

/** Reads one of the words. */
export function oneOf(words: readonly string[]): (text: string) => string {
  return (text) => {
    if (!words.includes(text)) throw new InvalidArgumentError(`It must be one of ${words.join(', ')}.`);
    return text;
  };
}

/** Reads whole numbers with commas between them. */
export function wholeNumbers(min: number, max: number): (text: string) => readonly number[] {
  const one = wholeNumber(min, max);
  return (text) => text.split(',').map(one);
}

/** Reads a whole number of the range. */
export function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) {
      throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
    }
    return value;
  };
}

/** Reads a number of the range. */
export function decimal(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !Number.isFinite(value) || value < min || value > max) {
      throw new InvalidArgumentError(`It must be a number from ${min} to ${max}.`);
    }
    return value;
  };
}

/** Reads a duration such as `30s` or `48h` as milliseconds. */
export function duration(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = parseDurationMs(text);
    if (value === null || value < min || value > max) {
      throw new InvalidArgumentError(`It must be a duration such as 30s or 48h, from ${min} to ${max} ms.`);
    }
    return value;
  };
}
