import { resolve } from 'node:path';
import { PatchbayError } from '../kernel/errors.ts';
import { layout } from './layout.ts';
import type { Read, Section } from './read.ts';
import type { Secrecy, Setting } from './setting.ts';

/** The whole configuration, frozen. Sections follow the domains that take them. */
export type Config = DeepReadonly<ReturnType<typeof layout>>;

type DeepReadonly<T> = T extends readonly unknown[]
  ? T
  : T extends object
    ? { readonly [K in keyof T]: DeepReadonly<T[K]> }
    : T;

/** The variables of a process. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** One variable that is not as it should be. */
export interface ConfigProblem {
  readonly variable: string;
  /** The value as given, masked when it is a secret; null when the variable is missing. */
  readonly value: string | null;
  /** What would be right, completing "expected …". */
  readonly expected: string;
}

/** One line of `patchbay config`. */
export interface EffectiveSetting {
  readonly section: Section;
  readonly variable: string;
  /** As it may be shown; null when it is not set and has no default. */
  readonly value: string | null;
  readonly source: 'default' | 'environment';
  readonly doc: string;
}

/** What an environment amounts to. */
export interface LoadedConfig {
  readonly config: Config;
  readonly effective: readonly EffectiveSetting[];
  /** Variables that look like ours but are not, mostly misspellings. */
  readonly warnings: readonly string[];
}

/** Every variable is wrong at once, so that a newcomer corrects them in one go. */
export class ConfigError extends PatchbayError {
  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[]) {
    const count = problems.length === 1 ? 'One variable is' : `${problems.length} variables are`;
    super('CONFIG_INVALID', `${count} not valid:\n${problems.map(describeProblem).join('\n')}`);
    this.problems = problems;
  }
}

function describeProblem(problem: ConfigProblem): string {
  const given = problem.value === null ? 'is not set' : `is ${JSON.stringify(problem.value)}`;
  return `  ${problem.variable} ${given}; expected ${problem.expected}`;
}

/**
 * Reads a configuration out of an environment.
 * @throws ConfigError naming every problem.
 */
export function loadConfig(environment: Environment): LoadedConfig {
  const problems: ConfigProblem[] = [];
  const effective: EffectiveSetting[] = [];
  const known = new Set<string>();

  const read: Read = (section, setting) => {
    known.add(setting.env);
    const { variable, raw } = lookUp(environment, setting);
    const parsed = raw === undefined ? null : setting.schema.safeParse(raw);
    const shown = raw === undefined ? setting.fallback : mask(raw, setting.secrecy);
    effective.push({
      section,
      variable: setting.env,
      value: shown,
      source: raw === undefined ? 'default' : 'environment',
      doc: setting.doc,
    });
    if (parsed === null) return setting.defaultValue;
    if (parsed.success) return parsed.data;
    problems.push({ variable, value: shown, expected: setting.expected });
    return setting.defaultValue;
  };

  const config = layout(read);
  problems.push(...contradictions(config));
  if (problems.length > 0) throw new ConfigError(problems);
  return {
    config: freeze({ ...config, data: { ...config.data, dir: resolve(config.data.dir) } }),
    effective,
    warnings: unknownVariables(environment, known),
  };
}

function lookUp<T>(
  environment: Environment,
  setting: Setting<T>,
): { readonly variable: string; readonly raw: string | undefined } {
  const names = setting.alias === undefined ? [setting.env] : [setting.env, setting.alias];
  for (const name of names) {
    const raw = environment[name];
    // An empty variable is how shells and container files say "not set".
    if (raw !== undefined && raw.trim() !== '') return { variable: name, raw: raw.trim() };
  }
  return { variable: setting.env, raw: undefined };
}

/** Rules that concern more than one variable. */
function contradictions(config: ReturnType<typeof layout>): ConfigProblem[] {
  const problems: ConfigProblem[] = [];
  if (config.data.databaseUrl !== null && config.data.secret === null) {
    problems.push({
      variable: 'PATCHBAY_SECRET',
      value: null,
      expected:
        'at least 32 characters, because DATABASE_URL is set and all its processes must agree on one (openssl rand -hex 32)',
    });
  }
  return problems;
}

/** Shows as much of a value as its secrecy allows. */
export function mask(value: string, secrecy: Secrecy): string {
  if (secrecy === 'open') return value;
  if (secrecy === 'hidden' || !URL.canParse(value)) return '********';
  const url = new URL(value);
  if (url.password !== '') url.password = '********';
  // A password may also hide in the query part (`?password=`); what is not needed is not shown.
  url.search = url.search === '' ? '' : '?…';
  return url.toString();
}

/** Variables that tests and tools use and that are not part of the program's configuration. */
const FOREIGN = /^PATCHBAY_(TEST|BENCH|SOAK|CI)_/;

function unknownVariables(environment: Environment, known: ReadonlySet<string>): string[] {
  return Object.keys(environment)
    .filter((name) => name.startsWith('PATCHBAY_') && !known.has(name) && !FOREIGN.test(name))
    .sort()
    .map((name) => {
      const near = nearest(name, known);
      return `${name} is not a variable of Patchbay${near === null ? '' : `; did you mean ${near}?`}`;
    });
}

/** The known name that differs in the fewest letters, when it differs in few. */
export function nearest(name: string, known: Iterable<string>): string | null {
  let best: { readonly candidate: string; readonly distance: number } | null = null;
  for (const candidate of known) {
    const distance = editDistance(name, candidate);
    if (distance <= 4 && (best === null || distance < best.distance)) best = { candidate, distance };
  }
  return best?.candidate ?? null;
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitute = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(substitute, (previous[j] ?? 0) + 1, (current[j - 1] ?? 0) + 1));
    }
    previous = current;
  }
  return previous[b.length] ?? 0;
}

function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    for (const part of Object.values(value)) freeze(part);
    Object.freeze(value);
  }
  return value;
}
