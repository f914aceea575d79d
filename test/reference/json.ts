import { readFileSync } from 'node:fs';

/** A parsed JSON object whose members still have to be narrowed before use. */
export type JsonObject = Record<string, unknown>;

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function parseJsonObject(text: string, source: string): JsonObject {
  const parsed: unknown = JSON.parse(text);
  if (!isJsonObject(parsed)) throw new Error(`${source}: expected a JSON object`);
  return parsed;
}

export function readJsonObject(path: string): JsonObject {
  return parseJsonObject(readFileSync(path, 'utf8'), path);
}

/** One JSON object per line; a blank last line is what every writer leaves behind. */
export function readJsonLines(path: string): JsonObject[] {
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line, index) => parseJsonObject(line, `${path}:${index + 1}`));
}

export function stringMember(object: JsonObject, key: string): string {
  const value = object[key];
  if (typeof value !== 'string') throw new Error(`${key}: expected a string`);
  return value;
}

/** Absent and null both select the fallback, because config writers use the two interchangeably. */
export function numberMember(object: JsonObject, key: string, fallback?: number): number {
  const value = object[key] ?? fallback;
  if (typeof value !== 'number') throw new Error(`${key}: expected a number`);
  return value;
}

export function booleanMember(object: JsonObject, key: string, fallback: boolean): boolean {
  const value = object[key] ?? fallback;
  if (typeof value !== 'boolean') throw new Error(`${key}: expected a boolean`);
  return value;
}

export function numberArray(value: unknown, what: string): number[] {
  if (!Array.isArray(value)) throw new Error(`${what}: expected an array`);
  return value.map((item: unknown) => {
    if (typeof item !== 'number') throw new Error(`${what}: expected numbers`);
    return item;
  });
}
